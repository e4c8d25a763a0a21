"""Whether a canary is worse than the champion: the policy, the signals and the running judgement.

Knows outcomes of requests and statistics; not how a request is answered or a pointer is moved.
Every signal is a badness from 0 to 1, and its tests may be looked at after every request.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import quantiles
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from headwater.evaluation.sequential import Comparison

Signal = Literal["error", "refused", "slow", "ungrounded", "leaked"]
Verdict = Literal["promote", "take_back", "continue"]
#: Champion answers by which "slow" is defined, and how many there must be.
RECENT, _ENOUGH = 200, 20
#: Times the champion's ninth decile.
_SLOW = 1.5
_WORD = re.compile(r"\w{4,}")


class CanaryPolicy(BaseModel):
    """The content of canary.yaml, which explains each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[str, ...]
    recent_answers: int = Field(ge=0)
    recent_minutes: float = Field(gt=0)
    weights: tuple[float, ...] = Field(min_length=1)
    stage_answers: int = Field(ge=1)
    false_rollback: float = Field(gt=0, lt=1)
    false_promotion: float = Field(gt=0, lt=1)
    margins: Mapping[Signal, float]


def load_policy() -> CanaryPolicy:
    """The policy of canary.yaml."""
    text = resources.files(__package__).joinpath("canary.yaml").read_text("utf-8")
    return CanaryPolicy.model_validate(yaml.safe_load(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a request says about the release that answered it.

    `seconds` are those of the work, without waiting in the queue, where a slow arm would slow the
    other down. `ungrounded` is None where there is no answer to look at.
    """

    error: bool
    refused: bool
    seconds: float
    ungrounded: float | None
    leaked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the evidence says now; `signal` is the one that decided, if one did."""

    verdict: Verdict
    answers: int  # of the canary
    weight: float  # the share of users that it should have now
    signal: str | None
    evidence: Mapping[str, Mapping[str, float]]  # by signal: e-values of "harm" and "harmless"

    @property
    def reason(self) -> str:
        """One sentence for the history and for people."""
        if self.verdict == "take_back":
            e_value = self.evidence[str(self.signal)]["harm"]
            return f"worse in {self.signal!r} after {self.answers} answers (e-value {e_value:.3g})"
        if self.verdict == "promote":
            return f"not worse in any signal after {self.answers} answers"
        return f"{self.answers} answers, no decision yet"


class Judge:
    """Takes outcomes of both arms as they come, and says at any time what they show.

    Args:
        usual_seconds: of the champion's latest answers before the canary began.
    """

    def __init__(self, policy: CanaryPolicy, usual_seconds: Iterable[float] = ()) -> None:
        self.policy = policy
        self._comparisons = {
            signal: Comparison(margin=margin) for signal, margin in policy.margins.items()
        }
        self._champion_seconds: deque[float] = deque(usual_seconds, maxlen=RECENT)
        self._answers = 0

    def add(self, outcome: Outcome, *, canary: bool) -> None:
        """One more request that an arm has answered."""
        self._answers += canary
        for signal, value in self._badness(outcome).items():
            comparison = self._comparisons.get(signal)
            if comparison is not None:
                (comparison.challenger if canary else comparison.champion)(value)
        if not canary and not outcome.error:
            self._champion_seconds.append(outcome.seconds)

    def _badness(self, outcome: Outcome) -> dict[Signal, float]:
        found: dict[Signal, float] = {
            "error": float(outcome.error),
            "refused": float(outcome.refused),
            "leaked": float(outcome.leaked),
        }
        if outcome.ungrounded is not None:
            found["ungrounded"] = outcome.ungrounded
        # The limit is of requests before this one, so it favours no arm.
        if not outcome.error and len(self._champion_seconds) >= _ENOUGH:
            usual = quantiles(self._champion_seconds, n=10)[-1]
            found["slow"] = float(outcome.seconds > _SLOW * usual)
        return found

    def judgement(self) -> Judgement:
        """What the outcomes so far show."""
        policy = self.policy
        evidence: dict[str, dict[str, float]] = {
            signal: {"harm": found.harm.e_value, "harmless": found.harmless.e_value}
            for signal, found in self._comparisons.items()
        }
        worst = max(evidence, key=lambda signal: evidence[signal]["harm"])
        # Each signal gets its share of the chance of a false alarm.
        harmful = evidence[worst]["harm"] >= len(evidence) / policy.false_rollback
        harmless = all(
            found["harmless"] >= 1 / policy.false_promotion for found in evidence.values()
        )
        verdict: Verdict = "take_back" if harmful else "promote" if harmless else "continue"
        stage = min(self._answers // policy.stage_answers, len(policy.weights) - 1)
        return Judgement(
            verdict=verdict,
            answers=self._answers,
            weight=policy.weights[stage],
            signal=worst if harmful else None,
            evidence=evidence,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Whether a release goes through a canary, and why or why not."""

    canary: bool
    why: str


def need(policy: CanaryPolicy, changed: Sequence[str], recent_answers: int) -> Need:
    """What the policy says of a release that differs from the champion in some parts.

    Args:
        recent_answers: the champion's in the last `recent_minutes`.
    """
    judged = [part for part in changed if part in policy.parts]
    if not judged:
        return Need(canary=False, why="only the index changed")
    if recent_answers < policy.recent_answers:
        return Need(
            canary=False,
            why=f"{recent_answers} answers in the last {policy.recent_minutes:g} minutes are too"
            " few to judge by",
        )
    return Need(canary=True, why=f"{', '.join(judged)} changed")


def ungrounded(answer: str, shown: Sequence[str]) -> float:
    """Part of an answer's distinct words that stand in none of the texts; 1 for no words at all."""
    words = _words(answer)
    return len(words - _words(" ".join(shown))) / len(words) if words else 1.0


def _words(text: str) -> set[str]:
    """Distinct words of four letters and more, case folded: the shorter ones stand everywhere."""
    return set(_WORD.findall(text.casefold()))


def as_mapping(judgement: Judgement) -> dict[str, Any]:
    """The judgement as plain JSON values."""
    return {
        "verdict": judgement.verdict,
        "answers": judgement.answers,
        "weight": judgement.weight,
        "signal": judgement.signal,
        "reason": judgement.reason,
        "evidence": {name: dict(found) for name, found in judgement.evidence.items()},
    }
