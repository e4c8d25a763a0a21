"""The contamination firewall: finds training rows that are, or nearly are, a golden question.

Compares texts by their word trigrams (Broder, "On the resemblance and containment of documents",
1997). Knows rows and items, not where they come from, so that the check which blocks training is
independent of the builder that left leaks out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headwater.records import GoldenItem

#: Share of trigrams two texts must have in common to count as near-duplicates.
RESEMBLANCE = 0.4
#: Share of the shorter text's trigrams that the longer one may hold.
CONTAINMENT = 0.8
_WORD = re.compile(r"\w+")

Shingles = frozenset[tuple[str, ...]]


class Example(Protocol):
    """What is compared: a training row, or whatever may become one."""

    @property
    def id(self) -> str: ...

    @property
    def question(self) -> str: ...

    @property
    def answer(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A row too close to a golden item; similarity in 0..1."""

    row_id: str
    golden_id: str
    similarity: float


def leaks(rows: Sequence[Example], golden: Iterable[GoldenItem]) -> list[Leak]:
    """Rows whose question is a golden question, or whose answer is its reference, or nearly.

    Returns one leak a row, the worst, in order of row id.
    """
    asked = [(item.id, _shingles(item.question), _shingles(item.reference)) for item in golden]
    holders: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for at, (_, question, reference) in enumerate(asked):
        for shingle in question | reference:
            holders[shingle].add(at)
    found = []
    for row in sorted(rows, key=lambda row: row.id):
        question, answer = _shingles(row.question), _shingles(row.answer)
        near = set[int]().union(*(holders.get(shingle, ()) for shingle in question | answer))
        worst = max(
            (
                (max(_similarity(question, asked[at][1]), _similarity(answer, asked[at][2])), at)
                for at in near
            ),
            default=(0.0, -1),
        )
        if worst[0] > 0:
            golden_id = asked[worst[1]][0]
            found.append(Leak(row_id=row.id, golden_id=golden_id, similarity=round(worst[0], 3)))
    return found


def _shingles(text: str) -> Shingles:
    words = [word.casefold() for word in _WORD.findall(text)]
    if len(words) < 3:
        return frozenset({tuple(words)}) if words else frozenset()
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def _similarity(a: Shingles, b: Shingles) -> float:
    """Resemblance or containment if over its threshold, else 0."""
    common = len(a & b)
    if not common:
        return 0.0
    resemblance, containment = common / len(a | b), common / min(len(a), len(b))
    if resemblance >= RESEMBLANCE:
        return resemblance
    return containment if containment >= CONTAINMENT and min(len(a), len(b)) >= 3 else 0.0
