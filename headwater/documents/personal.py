"""Personal data in documents: found where its writing speaks for it, counted, and replaced.

Knows parsed text and the choice of what is done about it, no table. Presidio judges each place that
`headwater.documents.personal_places` names, and is loaded when there is one. Names of people and
places are looked for only where they are asked for: that takes a language model.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Literal, get_args

from headwater.documents.parsed import Parsed, label
from headwater.documents.personal_places import WRITINGS, Span, Surroundings, Writing
from headwater.errors import HeadwaterError
from headwater.personal_data import MODEL_DIGEST, NAMED, Entity, analyze, is_name
from headwater.records import PersonalCount, digest_of

#: Part of every cleaned document's name: change it when something else is found in the same text.
PERSONAL_VERSION = "personal/2"
#: Kinds that patterns tell; the default.
PATTERNED: tuple[Entity, ...] = tuple(kind for kind in get_args(Entity) if kind not in NAMED)
#: Languages of the model that finds names; "und" is a text too short to tell.
_NAME_LANGUAGES = ("en", "und")
#: Characters that the model is given at a time, and that is_name looks back.
_SLICE, _LOOK_BACK = 20_000, 60

Choice = Literal["off", "report", "redact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalPolicy:
    """Which kinds are looked for, and whether they are replaced or counted alone."""

    redact: bool
    kinds: tuple[Entity, ...] = PATTERNED

    @property
    def digest(self) -> str:
        """Names all that a document's text and counts depend on."""
        model = [] if NAMED.isdisjoint(self.kinds) else [MODEL_DIGEST]
        return digest_of(PERSONAL_VERSION, self.redact, self.kinds, *model)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalPolicies:
    """The policy of every source: its own where it names one, else the common one; None is nothing."""

    common: PersonalPolicy | None = None
    own: tuple[tuple[str, PersonalPolicy | None], ...] = ()

    def of(self, source: str) -> PersonalPolicy | None:
        """What is done with documents of a source."""
        return dict(self.own).get(source, self.common)

    @property
    def digest(self) -> str:
        """Names all of them; "" where nothing is looked for anywhere."""
        common = self.common.digest if self.common else ""
        own = sorted((name, policy.digest if policy else "") for name, policy in self.own)
        return digest_of(common, own) if common or any(digest for _, digest in own) else ""


@dataclass(frozen=True, slots=True)
class Find:
    """A piece of personal data, by its characters in the text."""

    start: int
    end: int
    kind: Entity


def policy_of(choice: Choice, kinds: str = "") -> PersonalPolicy | None:
    """The policy that settings choose, or None where nothing is to be looked for.

    Args:
        kinds: names of kinds, by spaces or commas; empty is all that patterns tell.

    Raises:
        HeadwaterError: there is no such kind.
    """
    asked = {kind.upper() for kind in re.split(r"[\s,]+", kinds) if kind}
    known: tuple[Entity, ...] = get_args(Entity)
    if unknown := sorted(asked - set(known)):
        raise HeadwaterError(
            f"HEADWATER_DOCUMENT_PII_KINDS names {', '.join(unknown)}, which is no kind.",
            mend=f"There are {', '.join(known)}.",
        )
    if choice == "off":
        return None
    chosen = tuple(kind for kind in known if kind in asked) or PATTERNED
    return PersonalPolicy(redact=choice == "redact", kinds=chosen)


def policies_of(
    choice: Choice, kinds: str, sources: Mapping[str, Choice | None]
) -> PersonalPolicies:
    """The policies that settings choose, and those that sources do for themselves, by name.

    Raises:
        HeadwaterError: there is no such kind.
    """
    own = {
        name: policy_of(said, kinds)
        for name, said in sources.items()
        if said is not None and said != choice
    }
    return PersonalPolicies(common=policy_of(choice, kinds), own=tuple(sorted(own.items())))


def screen(
    parsed: Parsed, policy: PersonalPolicy, language: str
) -> tuple[Parsed, tuple[PersonalCount, ...]]:
    """A document as the policy wants it, and what its text holds, by kind.

    What its title and headings hold is replaced too; it is not counted twice.

    Args:
        language: of the text, ISO 639-1; names are looked for in English.
    """
    finds = find(parsed.text, policy.kinds, language)
    counted = Counter(each.kind for each in finds)
    counts = tuple(PersonalCount(kind=kind, count=counted[kind]) for kind in sorted(counted))
    return _without(parsed, finds, policy, language) if policy.redact else parsed, counts


def redacted(text: str, kinds: Sequence[Entity], language: str = "und") -> str:
    """A text with each piece of personal data replaced by its kind: `<EMAIL_ADDRESS>`."""
    return "".join(_pieces(text, find(text, kinds, language)))


def find(text: str, kinds: Sequence[Entity], language: str = "und") -> list[Find]:
    """Personal data in a text, in its order and without overlaps."""
    around = Surroundings(text)
    found = [
        each for writing in WRITINGS if writing.kind in kinds for each in _written(around, writing)
    ]
    named = [kind for kind in kinds if kind in NAMED]
    if named and language in _NAME_LANGUAGES:
        found += _named(around, named)
    return _apart(found)


def _written(around: Surroundings, writing: Writing) -> Iterator[Find]:
    at = 0
    while (place := writing.find(around.text, at)) is not None:
        start, at = place
        if not writing.reads(around, start, at):
            continue
        for first, last in _confirmed(around.text, writing, start, at):
            yield Find(first, last, writing.kind)
            # What is left of the place may be the beginning of another number.
            at = last


def _confirmed(text: str, writing: Writing, start: int, end: int) -> list[Span]:
    """What Presidio makes of a place, or of its beginning where a word after it looks alike."""
    while True:
        asked = writing.asked(text[start:end]) if writing.asked else text[start:end]
        found = _judged(writing.kind, asked)
        if found and writing.asked:
            return [(start, end)]
        if found:
            return [(start + first, start + last) for first, last in found]
        cut = writing.cut.search(text, start, end) if writing.cut else None
        if cut is None:
            return []
        end = cut.start()


@lru_cache(maxsize=4096)  # a corpus says some addresses on every page
def _judged(kind: Entity, text: str) -> tuple[Span, ...]:
    found = analyze(text, [kind], extra=_extra(kind))
    return tuple(sorted((each.start, each.end) for each in found))


@cache
def _extra(kind: Entity) -> tuple[Any, ...]:
    """Recognisers beside Presidio's own: it does not know the newer numbers of Mastercard."""
    if kind != "CREDIT_CARD":
        return ()
    from presidio_analyzer import Pattern
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer

    newer = Pattern("Mastercard, 2 series", r"\b2[2-7]\d{2}[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}\b", 0.3)
    return (CreditCardRecognizer(patterns=[newer], name="Mastercard2Recognizer"),)


def _named(around: Surroundings, kinds: Sequence[Entity]) -> Iterator[Find]:
    for first, last in around.blocks:
        for start in range(first, last, _SLICE):
            part = around.text[start : min(start + _SLICE, last)]
            if not any(char.isupper() for char in part):
                continue
            for each in analyze(part, kinds):
                back = max(0, each.start - _LOOK_BACK)
                here = part[back : each.end]
                if each.entity_type != "PERSON" or is_name(
                    here, each.start - back, each.end - back
                ):
                    yield Find(start + each.start, start + each.end, each.entity_type)


def _apart(found: Sequence[Find]) -> list[Find]:
    """Finds that overlap become one, of the longest one's kind: nothing of either is left."""
    apart: list[Find] = []
    longest = 0
    for each in sorted(found, key=lambda each: (each.start, -each.end)):
        length = each.end - each.start
        if not apart or each.start >= apart[-1].end:
            apart.append(each)
            longest = length
            continue
        last = apart[-1]
        kind = each.kind if length > longest else last.kind
        apart[-1] = Find(last.start, max(last.end, each.end), kind)
        longest = max(longest, length)
    return apart


def _pieces(text: str, finds: Sequence[Find]) -> Iterator[str]:
    at = 0
    for each in finds:
        yield text[at : each.start]
        yield f"<{each.kind}>"
        at = each.end
    yield text[at:]


def _without(
    parsed: Parsed, finds: Sequence[Find], policy: PersonalPolicy, language: str
) -> Parsed:
    text = "".join(_pieces(parsed.text, finds))
    old, new = parsed.text.encode(), text.encode()
    headings = []
    for heading, moved in zip(parsed.headings, _moved(parsed, finds), strict=True):
        before, after = _block(old, heading.start), _block(new, moved)
        # A label is the block's own text, perhaps cut in the middle of a number.
        if label(before) == heading.text:
            name = label(after)
        else:
            name = label(redacted(heading.text, policy.kinds, language))
        headings.append(replace(heading, start=moved, text=name))
    if parsed.headings and parsed.title == parsed.headings[0].text:
        title = headings[0].text
    else:
        title = label(redacted(parsed.title, policy.kinds, language))
    return replace(parsed, title=title, text=text, headings=tuple(headings))


def _moved(parsed: Parsed, finds: Sequence[Find]) -> Iterator[int]:
    """Where each heading's block begins (bytes) once the finds before it are replaced."""
    ends, at, byte, shift = list[tuple[int, int]](), 0, 0, 0
    for each in finds:
        byte += len(parsed.text[at : each.end].encode())
        value = len(parsed.text[each.start : each.end].encode())
        shift += len(f"<{each.kind}>") - value
        ends.append((byte, shift))
        at = each.end
    passed, moved = 0, 0
    for heading in parsed.headings:
        while passed < len(ends) and ends[passed][0] <= heading.start:
            moved = ends[passed][1]
            passed += 1
        yield heading.start + moved


def _block(text: bytes, start: int) -> str:
    end = text.find(b"\n\n", start)
    return text[start : None if end < 0 else end].decode()
