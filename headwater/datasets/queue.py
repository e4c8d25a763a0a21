"""The labelling queue: which answered questions are most worth a person's time.

Active learning by uncertainty, made diverse: an answer that its passages hardly hold, that came
from an ambiguous search, or that somebody disliked comes first, and of questions that are alike
only one is asked. Questions near the golden set are never asked, for what is labelled is trained
on. Knows questions, answers and passages, not where they were logged or who labels them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from headwater.datasets.firewall import leaks
from headwater.records import GoldenItem

#: Cosine similarity from which two questions are the same thing to ask a person.
ALIKE = 0.85
#: How many of the most uncertain are compared with one another by their embeddings.
_COMPARED = 64
_WORD = re.compile(r"\w+")

#: Texts -> unit vectors, one row each.
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answered question. `id` names its trace; `scores` are of its passages, best first."""

    id: str
    question: str
    answer: str
    scores: tuple[float, ...]
    passages: tuple[str, ...]
    disliked: bool = False


def worth(candidate: Candidate) -> float:
    """How much a label of this answer would teach, 0 to 3.

    The sum of: how little of the answer its passages hold (0..1), how weak and ambiguous the search
    was (0..1: the mean of 1 - best score and of second / best), and 1 for a thumb down. The parts
    count alike because nothing is known yet that would weigh them otherwise.
    """
    best = candidate.scores[0] if candidate.scores else 0.0
    second = candidate.scores[1] if len(candidate.scores) > 1 else 0.0
    ambiguous = min(second / best, 1.0) if best > 0 else 1.0
    weak = min(max(1.0 - best, 0.0), 1.0)
    unsupported = 1.0 - support(candidate.answer, candidate.passages)
    return unsupported + (ambiguous + weak) / 2 + candidate.disliked


def support(answer: str, passages: Iterable[str]) -> float:
    """The part of an answer's distinct pairs of neighbouring words that its passages hold, 0..1."""
    said = _pairs(answer)
    held = set[tuple[str, str]]().union(*(_pairs(passage) for passage in passages))
    return len(said & held) / len(said) if said else 0.0


def most_worth(
    candidates: Iterable[Candidate],
    *,
    golden: Sequence[GoldenItem],
    encode: Encode,
    limit: int,
    asked: Sequence[str] = (),
) -> list[Candidate]:
    """The candidates to ask about first: uncertain, unlike one another, none near a golden item.

    Args:
        encode: gives questions as unit vectors.
        limit: at most so many.
        asked: questions that were asked already; those alike are not asked again.
    """
    ranked = sorted(candidates, key=lambda each: (-worth(each), each.id))
    first = {_folded(each.question): each for each in reversed(ranked)}
    distinct = [each for each in ranked if first[_folded(each.question)] is each]
    golden_ids = {leak.row_id for leak in leaks(distinct, golden)}
    allowed = [each for each in distinct if each.id not in golden_ids][:_COMPARED]
    return _unlike(allowed, encode, limit, asked)


def _unlike(
    ranked: Sequence[Candidate], encode: Encode, limit: int, asked: Sequence[str]
) -> list[Candidate]:
    """The first of each set of questions that are alike."""
    if not ranked:
        return []
    vectors = encode([*asked, *(each.question for each in ranked)])
    taken = list(vectors[: len(asked)])
    kept: list[Candidate] = []
    for candidate, vector in zip(ranked, vectors[len(asked) :], strict=True):
        if len(kept) == limit:
            break
        if all(float(vector @ other) < ALIKE for other in taken):
            kept.append(candidate)
            taken.append(vector)
    return kept


def _pairs(text: str) -> set[tuple[str, str]]:
    words = _WORD.findall(text.casefold())
    return set(pairwise(words)) or {(word, "") for word in words}


def _folded(question: str) -> str:
    return " ".join(_WORD.findall(question.casefold()))
