"""Intervals for means over questions, by the bootstrap. Knows numbers only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
CONFIDENCE = 0.95
#: Decimals kept of every figure: below what a question more or less would move, and above what
#: the order of floating point sums does, so that equal evaluations have equal digests.
DECIMALS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float] | npt.NDArray[np.float64], *, seed: int = 0) -> Interval:
    """Mean and percentile interval of values, shape (n,), n > 0; resampled with replacement.

    The percentile bootstrap of Efron and Tibshirani, An Introduction to the Bootstrap (1993),
    section 13.3. The same values and seed give the same interval.
    """
    sample = np.asarray(values, dtype=np.float64)
    assert sample.ndim == 1 and sample.size, "the caller decides what to say about no values"
    generator = np.random.default_rng(seed)
    picks = generator.integers(sample.size, size=(RESAMPLES, sample.size), dtype=np.int32)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(sample[picks].mean(axis=1), [tail, 1 - tail])
    return Interval(mean=rounded(sample.mean()), low=rounded(low), high=rounded(high))


def paired_bootstrap(
    values: Sequence[float], baseline: Sequence[float], *, seed: int = 0
) -> Interval:
    """Interval of the mean of `values - baseline`, paired by position.

    Pairs, not arms, are resampled: a question that is hard for both arms widens nothing.
    """
    differences = np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    return bootstrap(differences, seed=seed)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, rounded like an interval; of at least one value."""
    return rounded(np.mean(np.asarray(values, dtype=np.float64)))


def rounded(value: float | np.floating) -> float:
    """A figure as reports keep it; never a negative zero."""
    return round(float(value), DECIMALS) + 0.0
