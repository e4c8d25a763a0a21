"""Is one of two releases worse than the other, question by question? Exact tests on paired values.

Knows numbers only. Both tests turn on one fact: where two releases are alike, it is a coin's toss
which of them a question favours, so every difference may as well have the other sign.
"""

import numpy as np
import numpy.typing as npt

#: Sign flips that are drawn where there are too many to try all of them.
RESAMPLES = 99_999
#: Sign flips held in memory at a time.
_BATCH = 8_192
#: Two sums that differ by less are one sum added in two orders.
_TIE = 1e-9
Floats = npt.NDArray[np.float64]
Counts = int | npt.NDArray[np.int64]


def sign_flip(
    worse: npt.ArrayLike, margin: float = 0.0, *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """One-sided p-values of the paired randomisation test that the mean exceeds a margin.

    The test of Fisher, The Design of Experiments (1935), section 21, as `scipy.stats.
    permutation_test` has it with `permutation_type="samples"`. Its level is exact where the two
    releases are exchangeable, whatever the margin (taking `margin` off every value can only raise
    the p-value), and where `worse - margin` is symmetric about 0; else it holds for many questions.
    All flips are tried where there are at most `resamples` of them, else so many are drawn, and
    what was observed counts as one of them (Phipson and Smyth, 2010), so that no p-value is 0.

    Args:
        worse: by how much one of the pair is worse, shape (..., n), n > 0.
        margin: a mean that would not matter, at least 0.
        seed: of the flips that are drawn; equal values give equal p-values.

    Returns:
        Shape (...).
    """
    values = np.asarray(worse, dtype=np.float64) - margin
    assert values.shape[-1] and margin >= 0, "the caller decides what to say about no values"
    rows = values.reshape(-1, values.shape[-1])
    # A question that does not differ is the same with either sign: fewer flips to try.
    rows = rows[:, np.any(rows != 0, axis=0)]
    size = rows.shape[1]
    flips = 2**size if 2**size <= resamples + 1 else None
    generator = np.random.default_rng(seed)
    reached = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, flips or resamples, _BATCH):
        count = min(_BATCH, (flips or resamples) - start)
        flipped = _all_flips(start, count, size) if flips else _drawn(generator, count, size)
        # A flip changes the sum by twice what it turns: it reaches the sum if that is at most 0.
        reached += np.count_nonzero(flipped @ rows.T <= _TIE, axis=0)
    found = reached / flips if flips else (reached + 1) / (resamples + 1)
    return found.reshape(values.shape[:-1])


def mcnemar(lost: Counts, won: Counts) -> Floats:
    """One-sided p-values of the exact McNemar test that more questions are lost than won.

    Only questions that one of the pair has right and the other wrong count; where the two are
    alike, each of them is lost with probability a half (McNemar, 1947; exact by the binomial).

    Args:
        lost, won: counts, of any one shape.
    """
    from scipy.stats import binom

    found: Floats = np.asarray(binom.sf(np.asarray(lost) - 1, np.asarray(lost) + won, 0.5))
    return found


def _all_flips(start: int, count: int, size: int) -> Floats:
    """Some of all 2 ** size choices of what is flipped, 1 where it is."""
    numbers = np.arange(start, start + count, dtype=np.int64)[:, None]
    return ((numbers >> np.arange(size)) & 1).astype(np.float64)


def _drawn(generator: np.random.Generator, count: int, size: int) -> Floats:
    return generator.integers(2, size=(count, size), dtype=np.int8).astype(np.float64)
