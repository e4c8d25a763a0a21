"""Figures of a comparison: how far groups of duplicates agree with what was planted, and rows.

Knows numbers and names, no program and no folder.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Any

from benchmarks.peers.contract import DUPLICATES, END_TO_END, Facts
from headwater.errors import HeadwaterError

#: Stages whose groups of duplicates are judged.
JUDGED = (DUPLICATES, END_TO_END)
#: What a row tells of what came out.
_SHOWN = ("kept", "characters", "chunks", "longest", "processed")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Pairs of documents that are held to say the same: found, planted, both.

    Precision is None where no pair is found, recall where none is planted.
    """

    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of each run of a stage, and what came out of the last one."""

    seconds: tuple[float, ...]
    facts: Facts
    documents: int

    @property
    def per_s(self) -> float:
        """Documents a second, by the median run."""
        return self.documents / median(self.seconds)


def agreement(found: Iterable[Sequence[str]], planted: Iterable[Sequence[str]]) -> Agreement:
    """How far two partitions agree, over pairs; a document in no group is alone.

    Raises:
        HeadwaterError: a document is in two groups.
    """
    at: dict[str, int] = {}
    planted_pairs = 0
    for number, group in enumerate(planted):
        planted_pairs += comb(len(group), 2)
        _place(at, group, number)
    seen: dict[str, int] = {}
    found_pairs = both = 0
    for number, group in enumerate(found):
        found_pairs += comb(len(group), 2)
        _place(seen, group, number)
        shared = Counter(at[name] for name in group if name in at)
        both += sum(comb(count, 2) for count in shared.values())
    return Agreement(
        precision=both / found_pairs if found_pairs else None,
        recall=both / planted_pairs if planted_pairs else None,
        f1=2 * both / (found_pairs + planted_pairs) if found_pairs + planted_pairs else 1.0,
    )


def _place(at: dict[str, int], group: Sequence[str], number: int) -> None:
    for name in group:
        if name in at:
            raise HeadwaterError(
                f"The document {name} is in two groups of duplicates.",
                mend="Mend what tells the groups: benchmarks/peers.",
            )
        at[name] = number


def read_reply(program: str, said: str) -> tuple[float, Facts]:
    """Seconds and facts that a measured process printed on its last line.

    Raises:
        HeadwaterError: it did not.
    """
    lines = said.strip().splitlines()
    try:
        facts = json.loads(lines[-1]) if lines else None
    except ValueError:
        facts = None
    seconds = facts.pop("seconds", None) if isinstance(facts, dict) else None
    if not isinstance(facts, dict) or not isinstance(seconds, float) or not seconds > 0:
        last = lines[-1][:200] if lines else "nothing"
        raise HeadwaterError(
            f"{program} told no figures; its last line: {last}.",
            mend="Run its stage by hand: python -m benchmarks.peers.run.",
        )
    return seconds, facts


def row(
    stage: str,
    peer: str,
    version: str,
    theirs: Measured,
    *,
    ours: Measured | None = None,
    planted: Sequence[Sequence[str]] | None = None,
    note: str = "",
) -> Row:
    """What was measured of a program in a stage, beside ours where it is another's."""
    found: Row = {
        "stage": stage,
        "peer": peer,
        "version": version,
        "does": True,
        "unit": "documents",
        "documents": theirs.documents,
        "seconds": [round(each, 3) for each in theirs.seconds],
        "per_s": round(theirs.per_s, 2),
        **{name: theirs.facts[name] for name in _SHOWN if name in theirs.facts},
        "note": note,
    }
    judged = stage in JUDGED and planted is not None
    if judged and planted is not None:
        pairs = agreement(theirs.facts.get("groups", ()), planted)
        found |= {"precision": pairs.precision, "recall": pairs.recall, "f1": pairs.f1}
    if ours is None:
        return found
    found["headwater_per_s"] = round(ours.per_s, 2)
    found["ratio"] = round(ours.per_s / theirs.per_s, 3)
    f1 = None
    if judged and planted is not None:
        f1 = found["headwater_f1"] = agreement(ours.facts.get("groups", ()), planted).f1
    return found | judgement(ours.per_s / theirs.per_s, f1, found.get("f1"), note)


def judgement(ratio: float, ours: float | None, theirs: float | None, note: str) -> Row:
    """Whether ours is ahead, and where it is not, why: quicker at an equal or better F1.

    Args:
        ratio: our speed to theirs.
        ours: F1; None where it is not judged.
        theirs: the same of the other.
        note: how their work differs.
    """
    reasons = []
    if ratio <= 1:
        reasons.append(f"{ratio:.2f} times as quick")
    if ours is not None and theirs is not None and ours < theirs:
        reasons.append(f"F1 {ours:.4f} against {theirs:.4f}")
    why = "; ".join([*reasons, *([note] if note else [])]) if reasons else ""
    return {"ahead": not reasons, "why": why}


def lacking(stage: str, peer: str, version: str, reason: str) -> Row:
    """A row of what a program has nothing for; it is not timed."""
    return {
        "stage": stage,
        "peer": peer,
        "version": version,
        "does": False,
        "reason": reason,
        "ahead": None,
    }


def failing(stage: str, peer: str, version: str, error: str) -> Row:
    """A row of what was to be measured, and could not be."""
    return {"stage": stage, "peer": peer, "version": version, "error": error, "ahead": None}


def embedding(found: Row, version: str) -> list[Row]:
    """Rows of what `benchmarks.embedding` found: ours, and sentence-transformers'."""
    speeds = {
        "headwater": found["chunks_per_s"],
        "sentence-transformers": found["sentence_transformers_chunks_per_s"],
    }
    common = {"stage": "embedding", "does": True, "unit": "chunks", "chunks": found["chunks"]}
    ours, theirs = (
        {**common, "peer": peer, "per_s": round(speed, 2)} for peer, speed in speeds.items()
    )
    return [
        {**ours, "version": ""},
        {
            **theirs,
            "version": version,
            "headwater_per_s": ours["per_s"],
            "ratio": round(found["ratio"], 3),
            "max_abs_difference": found["max_abs_difference"],
            **judgement(found["ratio"], None, None, "same model, chunks and threads"),
        },
    ]
