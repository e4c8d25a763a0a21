import numpy as np
import pytest

from headwater.evaluation.sequential import Comparison, ExchangeTest, MeanTest


def first_rejection(differences: np.ndarray, alpha: float, limit: float = 0.0) -> int | None:
    test = MeanTest(limit=limit)
    for number, difference in enumerate(differences, start=1):
        test.add(float(difference))
        if test.e_value >= 1 / alpha:
            return number
    return None


def test_looking_after_every_difference_keeps_the_level():
    """At every look, over 500 runs of 1,000 differences of mean 0: at most alpha and its noise."""
    draws = np.random.default_rng(7).choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(500, 1000))
    rejected = sum(first_rejection(run, alpha=0.05) is not None for run in draws)
    assert rejected / 500 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_what_is_always_worse_is_seen_soon():
    assert first_rejection(np.ones(100), alpha=0.002) <= 15
    assert first_rejection(np.full(1000, 0.3), alpha=0.002) <= 60


def test_a_limit_moves_the_hypothesis():
    steady = np.full(2000, 0.1)
    assert first_rejection(steady, alpha=0.01, limit=0.2) is None
    assert first_rejection(steady, alpha=0.01, limit=-0.1) is not None


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="not in"):
        MeanTest().add(1.5)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_equal_arms_give_no_evidence_however_the_values_fall(rate):
    random = np.random.default_rng(5)
    high = 0
    for _ in range(300):
        test = ExchangeTest()
        for _ in range(200):
            values = (random.random(21) < rate).astype(float).tolist()
            test.add(values[:20], values[20:])
            if test.e_value >= 20:
                high += 1
                break
    assert high / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_factor_is_1_on_average_over_all_ways_to_deal():
    values = [0.0, 0.0, 0.25, 0.5, 1.0]
    tests = []
    for at in range(len(values)):
        test = ExchangeTest()
        test.add(values[:at] + values[at + 1 :], [values[at]])
        tests.append(test.e_value)
    assert np.mean(tests) == pytest.approx(1)


def test_what_is_bad_in_one_arm_alone_is_seen_after_a_few():
    test = ExchangeTest()
    for _ in range(4):
        test.add([0.0] * 20, [1.0])
    assert test.e_value >= 5 / 0.002
    both = ExchangeTest()
    for _ in range(50):
        both.add([1.0] * 20, [1.0])
    assert both.e_value == pytest.approx(1)


def test_a_test_that_nobody_ends_stays_finite():
    comparison = Comparison(margin=0.1)
    for value in (1.0, 0.0):
        for _ in range(2_000):
            for _ in range(20):
                comparison.champion(1.0 - value)
            comparison.challenger(value)
        assert max(comparison.harm.e_value, comparison.harmless.e_value) <= 1e12


def test_arms_are_compared_by_means_of_the_same_stretch():
    comparison = Comparison(margin=0.1)
    for value in (0.0, 1.0, 0.5):
        comparison.champion(value)
    assert comparison.harm.count == 0
    comparison.challenger(0.5)
    assert comparison.harm.count == 1 and comparison.harm.e_value == 1.0
    comparison.challenger(1.0)
    comparison.challenger(0.0)
    assert comparison.harm.count == 1, "it waits for the champion"
    comparison.champion(0.5)
    assert comparison.harm.count == 2 and comparison.harm.e_value == 1.0


def test_an_equal_arm_is_shown_harmless_and_a_worse_one_harmful():
    random = np.random.default_rng(3)
    same, worse = Comparison(margin=0.1), Comparison(margin=0.1)
    for _ in range(400):
        champion, equal, bad = random.random(3) < (0.05, 0.05, 0.6)
        same.champion(float(champion))
        same.challenger(float(equal))
        worse.champion(float(champion))
        worse.challenger(float(bad))
    assert same.harmless.e_value > 20 and same.harm.e_value < 20
    assert worse.harm.e_value > 500 and worse.harmless.e_value < 1
