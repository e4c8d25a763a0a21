import numpy as np
import pytest
from scipy import stats

from headwater.evaluation.statistics import Interval, bootstrap, mean, paired_bootstrap, rounded


@pytest.mark.parametrize("size", [8, 66, 300])
def test_interval_is_scipys_percentile_bootstrap(size: int) -> None:
    values = np.random.default_rng(1).gamma(2.0, size=size)
    ours = bootstrap(values)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    error = values.std() / np.sqrt(size)
    assert ours.mean == pytest.approx(values.mean(), abs=1e-5)
    assert ours.low == pytest.approx(theirs.low, abs=0.08 * error)
    assert ours.high == pytest.approx(theirs.high, abs=0.08 * error)


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        interval = bootstrap(random.normal(0.3, 1.0, size=60))
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 200 <= 0.985


def test_pairing_removes_what_both_arms_share() -> None:
    random = np.random.default_rng(4)
    difficulty = random.normal(3.0, 2.0, size=60)
    base = difficulty + random.normal(0, 0.05, size=60)
    adapter = difficulty - 0.2 + random.normal(0, 0.05, size=60)
    paired = paired_bootstrap(adapter, base)
    assert -0.25 < paired.low < paired.mean < paired.high < -0.15
    alone = bootstrap(adapter)
    assert alone.high - alone.low > 10 * (paired.high - paired.low)


def test_same_values_and_seed_give_the_same_interval() -> None:
    values = list(np.random.default_rng(5).normal(size=40))
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_one_value_and_equal_values_have_no_width() -> None:
    assert bootstrap([0.25]) == Interval(mean=0.25, low=0.25, high=0.25)
    assert paired_bootstrap([1, 0, 1], [1, 0, 1]) == Interval(mean=0.0, low=0.0, high=0.0)


def test_figures_are_rounded_and_never_minus_zero() -> None:
    assert mean([1, 2]) == 1.5
    assert str(rounded(-1e-9)) == "0.0"


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        paired_bootstrap([1.0, 2.0], [1.0, 2.0, 3.0])
