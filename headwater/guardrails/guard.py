"""The guards of one release: what its policy says of a question, of passages and of an answer.

Puts the rules together; each rule is a module of its own. Knows no retrieval, model or HTTP.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from headwater.guardrails import pii, profanity
from headwater.guardrails.decisions import Decision, Rule, decide
from headwater.guardrails.injection import Suspicion, suspicion
from headwater.guardrails.links import remove_links
from headwater.guardrails.plain import strip_invisible
from headwater.guardrails.policy import AnswerPolicy, Entity, GuardPolicy, kept_policy
from headwater.guardrails.stream import Units
from headwater.records import Hit
from headwater.settings import Settings

#: Words before a number that tell what it is.
_CONTEXT_CHARS = 60
#: Words dropped where a text is cut: half a number or name would not be told as one.
_LAST_WORDS = 8
#: Passages whose verdict is remembered; they are the same few in many requests.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedQuestion:
    """What became of a question.

    Attributes:
        logged: the text that may be stored.
        asked: the text that retrieval and the model may read.
        refusal: what to answer instead; None where it may be answered.
    """

    logged: str
    asked: str
    refusal: str | None
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPassages:
    """The passages that may be shown; `decisions` tells how many were dropped."""

    shown: list[Hit]
    decisions: tuple[Decision, ...]


class Guard:
    """Applies one policy. Safe to use from several threads."""

    def __init__(self, policy: GuardPolicy) -> None:
        self.policy = policy

    def warm(self) -> None:
        """Load what the rules need, so that no request waits for it."""
        self.question("Is Ada Lovelace there? ada@example.org")
        pii.warm(self.policy.answer.entities)

    def question(self, text: str) -> CheckedQuestion:
        """Judge and redact the user's question; the first rule that refuses is the one told.

        Of a question that is too long only the beginning is read, and by no other rule: what it
        costs to read must be bounded.
        """
        rules = self.policy.question
        too_long = rules.max_chars is not None and len(text) > rules.max_chars
        readable = strip_invisible(text)
        if too_long:
            readable = readable[: rules.max_chars].rsplit(None, _LAST_WORDS)[0]
        logged, kinds = pii.redact(readable, rules.entities)
        asked = pii.redact(readable, self._model_entities)[0] if kinds else text
        decisions: list[Decision] = []
        refusal: str | None = None

        def judge(rule: Rule, found: int, says: str, detail: tuple[str, ...] = ()) -> None:
            nonlocal refusal
            decisions.append(decide(rule, "refused", found, detail))
            if found and refusal is None:
                refusal = says

        says = self.policy.refusals
        if rules.entities:
            decisions.append(decide("pii", "redacted", kinds.total(), tuple(sorted(kinds))))
        if rules.max_chars is not None:
            judge("length", int(too_long), says.length)
        if rules.injection is not None and not too_long:
            found = suspicion(text)
            judge("injection", int(found.score >= rules.injection), says.injection, found.families)
        if rules.profanity and not too_long:
            judge("profanity", profanity.find(text, self.policy.profanity), says.profanity)
        return CheckedQuestion(
            logged=logged, asked=asked, refusal=refusal, decisions=tuple(decisions)
        )

    def earlier(self, text: str) -> str | None:
        """An earlier message of the user as the model may read it; None where it may not."""
        rules = self.policy.question
        if rules.injection is not None and suspicion(text).score >= rules.injection:
            return None
        return pii.redact(strip_invisible(text), self._model_entities)[0]

    @property
    def _model_entities(self) -> dict[Entity, float]:
        rules = self.policy.question
        return {kind: rules.entities[kind] for kind in rules.model_entities}

    def topic(self, similarity: float) -> tuple[str | None, tuple[Decision, ...]]:
        """Judge by the cosine similarity of the best passage; returns a refusal, or None."""
        least = self.policy.question.least_similarity
        if least is None:
            return None, ()
        off = similarity < least
        refusal = self.policy.refusals.off_topic if off else None
        return refusal, (decide("off_topic", "refused", int(off)),)

    def passages(self, hits: Sequence[Hit]) -> CheckedPassages:
        """Leave out passages that give orders to the model."""
        least = self.policy.documents.injection
        if least is None:
            return CheckedPassages(shown=list(hits), decisions=())
        shown: list[Hit] = []
        families: Counter[str] = Counter()
        for hit in hits:
            found = _passage_suspicion(f"{hit.title}\n{hit.heading}\n{hit.text}")
            if found.score < least:
                shown.append(hit)
            else:
                families.update(found.families)
        dropped = len(hits) - len(shown)
        decision = decide("document_injection", "dropped", dropped, tuple(sorted(families)))
        return CheckedPassages(shown=shown, decisions=(decision,))

    def answer(self, passages: Sequence[Hit]) -> "AnswerFilter":
        """A filter for one answer that the model makes from these passages."""
        return AnswerFilter(self.policy, [hit.text for hit in passages])

    def objects_to(self, answer: str, passages: Sequence[Hit]) -> bool:
        """Whether there is something in a finished answer that this policy would have taken out."""
        filter_ = self.answer(passages)
        for _ in filter_.apply([answer]):
            pass
        return any(decision.count for decision in filter_.decisions)


@dataclass(slots=True)
class AnswerFilter:
    """Takes an answer piece by piece and gives what may leave, as early as it may.

    Joined, what it gives depends on the joined pieces alone.

    Attributes:
        ms: time spent in it.
    """

    policy: GuardPolicy
    passages: list[str]
    ms: float = 0.0
    _units: Units = field(default_factory=Units)
    _said: str = ""
    _found: Counter[Rule] = field(default_factory=Counter)
    _kinds: Counter[str] = field(default_factory=Counter)

    def apply(self, pieces: Iterable[str]) -> Iterator[str]:
        """Filter a whole answer; none of the texts it gives is empty."""
        if not _active(self.policy.answer):
            yield from pieces
            return
        for piece in pieces:
            yield from self._clean(self._units.feed(piece))
        yield from self._clean(self._units.finish())

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """One for each rule that is on, about what has passed so far."""
        rules = self.policy.answer
        found = self._found
        decisions = []
        if rules.links:
            decisions.append(decide("answer_links", "removed", found["answer_links"]))
        if rules.entities:
            kinds = tuple(sorted(self._kinds))
            decisions.append(decide("answer_pii", "redacted", found["answer_pii"], kinds))
        if rules.profanity:
            decisions.append(decide("answer_profanity", "redacted", found["answer_profanity"]))
        return tuple(decisions)

    def _clean(self, units: Iterable[str]) -> Iterator[str]:
        started = time.perf_counter()
        ready = "".join(self._clean_unit(unit) for unit in units)
        self.ms += (time.perf_counter() - started) * 1000
        if ready:
            yield ready

    def _clean_unit(self, unit: str) -> str:
        rules = self.policy.answer
        context = self._said
        self._said = (self._said + unit)[-_CONTEXT_CHARS:]
        if rules.entities:
            keep = self.passages if rules.keep_from_passages else ()
            text, kinds = pii.redact(strip_invisible(unit), rules.entities, keep, context)
            if kinds:
                unit = text
                self._kinds.update(kinds)
                self._found["answer_pii"] += kinds.total()
        if rules.profanity:
            unit, words = profanity.censor(unit, self.policy.profanity)
            self._found["answer_profanity"] += words
        if rules.links:  # last, so that nothing that another rule leaves behind is a link
            unit, links = remove_links(unit, rules.allowed_hosts)
            self._found["answer_links"] += links
        return unit


def load_guard(settings: Settings, reference: str) -> Guard:
    """The guard of a release, warm.

    Args:
        reference: `Release.guardrails`.

    Raises:
        IntegrityError: the policy is missing or not the one that is named.
        HeadwaterError: it cannot be read, or the model that finds names is not installed.
    """
    guard = Guard(kept_policy(settings, reference))
    guard.warm()
    return guard


def _active(rules: AnswerPolicy) -> bool:
    return rules.links or rules.profanity or bool(rules.entities)


@lru_cache(maxsize=_REMEMBERED)
def _passage_suspicion(text: str) -> Suspicion:
    return suspicion(text, document=True)
