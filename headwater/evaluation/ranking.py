"""Measures of one ranked list, where one passage answers the question.

A document may hold the answer in several places and several documents may hold the same passage;
whoever reads the list needs it once. So the ideal list has the answer first, and everything is a
function of `rank`, the 1-based position of the first relevant hit (None: not found).
"""

import math
from collections.abc import Collection, Sequence


def first_relevant(uris: Sequence[str], relevant: Collection[str]) -> int | None:
    """1-based position of the first hit whose document is among the relevant ones."""
    return next((at for at, uri in enumerate(uris, start=1) if uri in relevant), None)


def recall_at(rank: int | None, k: int) -> float:
    """1 if the first k hits hold the answer, else 0."""
    return float(rank is not None and rank <= k)


def reciprocal_rank(rank: int | None) -> float:
    """1 / rank; its mean over questions is the MRR (Voorhees, TREC-8, 1999)."""
    return 0.0 if rank is None else 1 / rank


def ndcg_at(rank: int | None, k: int) -> float:
    """Normalised discounted cumulative gain (Jarvelin and Kekalainen, TOIS 20(4), 2002).

    With gain 1 for the answer's first passage alone, this is 1 / log2(1 + rank).
    """
    return 0.0 if rank is None or rank > k else 1 / math.log2(1 + rank)
