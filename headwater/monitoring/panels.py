"""The panels, and how a window of requests is tested on each: one p-value a panel.

Knows samples and permutations, not windows' order or what follows from a p-value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.monitoring.features import Sample

TOPICS = "question_topics"
#: The numbers that each panel compares; the topics are compared by vectors.
PANELS: Mapping[str, tuple[str, ...]] = {
    TOPICS: (),
    "question_text": ("question_characters", "question_words", "question_symbols"),
    "retrieval_scores": ("top_score", "similarity"),
    "answer_length": ("answer_characters",),
    "refusals": ("refused",),
    "feedback": ("thumb",),
}
#: Half for what is asked, half for all other panels together: other questions are what an adapter
#: can be trained for. They make 1.
WEIGHTS: Mapping[str, float] = {name: 0.5 if name == TOPICS else 0.1 for name in PANELS}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A window's p-values, None where a panel says nothing, and the pool for the next window."""

    p_values: Mapping[str, float | None]
    pool: Sample


def test_window(window: Sample, pool: Sample, *, permutations: int, keep: int, seed: int) -> Tested:
    """Compare a window with all that came before, by permutation tests.

    If the requests are exchangeable, the p-values of a panel over successive windows are uniform
    and independent, though all windows are compared with nearly the same pool: a p-value tells who
    of the pool and the window is the window, and what later windows see is a random part of both,
    chosen without regard to that (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
    World", 2nd ed. 2022, section 8.2). Ties are broken at random, which makes it exact.

    Args:
        keep: requests of the new pool at most.
        seed: decides permutations, ties and who stays in the pool.
    """
    random = np.random.default_rng(seed)
    both = pool.joined(window)
    members = _memberships(len(pool), len(window), permutations, random)
    p_values = {}
    for name, columns in PANELS.items():
        # One random number a panel in any case, so that panels never shift one another's.
        tie = 1 - random.random()
        if name == TOPICS:
            statistic = _mean_distance(both.vectors, members)
        else:
            statistic = np.max([_ks(both.column(column), members) for column in columns], axis=0)
        p_values[name] = _p_value(statistic, tie)
    stay = np.sort(random.permutation(len(both))[:keep])
    return Tested(p_values=p_values, pool=both.take(stay))


test_window.__test__ = False  # type: ignore[attr-defined]  # its name is not for pytest


def nearest(sample: Sample, reference: Sample) -> Floats:
    """Cosine of each question and the one of the reference that is nearest to it, (n,)."""
    similarity = sample.vectors.astype(np.float32) @ reference.vectors.astype(np.float32).T
    return similarity.max(axis=1).astype(np.float64)


def nearest_within(reference: Sample) -> Floats:
    """The same for the reference's own questions, each to the nearest of the others, (n,)."""
    vectors = reference.vectors.astype(np.float32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1.0)
    return similarity.max(axis=1).astype(np.float64)


def _memberships(pool: int, window: int, permutations: int, random: Any) -> npt.NDArray[np.bool_]:
    """Row 0 says who is the window, each other row a random choice of as many."""
    total = pool + window
    drawn = random.random((permutations, total), dtype=np.float32)
    chosen = np.argpartition(drawn, window - 1, axis=1)[:, :window]
    members = np.zeros((permutations + 1, total), dtype=np.bool_)
    members[0, pool:] = True
    np.put_along_axis(members[1:], chosen, True, axis=1)
    return members


def _mean_distance(vectors: npt.NDArray[np.float16], members: npt.NDArray[np.bool_]) -> Floats:
    """Distance of the window's mean vector and the others': maximum mean discrepancy, linear kernel.

    Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, section 2.2.
    """
    wide = vectors.astype(np.float32)
    size = int(members[0].sum())
    inside = members.astype(np.float32) @ wide
    outside = wide.sum(axis=0) - inside
    apart = inside / size - outside / (len(wide) - size)
    # Rounded, for equal choices must tie whatever order a product was summed in.
    return np.round(np.linalg.norm(apart, axis=1).astype(np.float64), 6)


def _ks(values: Floats, members: npt.NDArray[np.bool_]) -> Floats:
    """Kolmogorov-Smirnov distance of window and others, scaled by its deviation; NaNs left out."""
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    if not len(order):
        return np.zeros(len(members))
    inside = np.cumsum(members[:, order], axis=1, dtype=np.int32)
    ends = np.append(values[order][1:] != values[order][:-1], True)  # the last of equal values
    window = inside[:, -1].astype(np.float64)
    others = len(order) - window
    judged = (window > 0) & (others > 0)
    at = np.flatnonzero(ends)
    share_in = inside[:, at] / np.maximum(window, 1)[:, None]
    share_out = (at + 1 - inside[:, at]) / np.maximum(others, 1)[:, None]
    scale = np.sqrt(window * others / len(order))
    distance = np.abs(share_in - share_out).max(axis=1) * scale
    return np.where(judged, np.round(distance, 9), 0.0)


def _p_value(statistic: Floats, tie: float) -> float | None:
    """Part of all choices at least as extreme as the first one; `tie` in (0, 1] places it in ties."""
    observed = statistic[0]
    if np.all(statistic == observed):
        return None  # whoever the window is, it says the same
    above, equal = int((statistic > observed).sum()), int((statistic == observed).sum())
    return float((above + tie * equal) / len(statistic))
