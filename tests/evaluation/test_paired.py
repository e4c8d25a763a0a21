"""The paired tests against scipy's, which are slower and take no margin."""

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from headwater.evaluation.paired import mcnemar, sign_flip


def scipy_p(values, **options):
    found = permutation_test(
        (values,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples",
        alternative="greater", vectorized=True, rng=np.random.default_rng(0), **options,
    )  # fmt: skip
    return found.pvalue


@pytest.mark.parametrize("shift", [-0.4, 0.0, 0.3, 1.0])
def test_all_flips_of_a_few_questions(shift):
    values = np.random.default_rng(3).normal(shift, 1, size=10)
    assert sign_flip(values) == pytest.approx(scipy_p(values, n_resamples=10_000))
    assert sign_flip(values, 0.2) == pytest.approx(scipy_p(values - 0.2, n_resamples=10_000))


def test_drawn_flips_of_many_questions():
    values = np.random.default_rng(4).standard_t(3, size=60) + 0.25
    assert sign_flip(values, resamples=9_999) == pytest.approx(
        scipy_p(values, n_resamples=9_999), abs=0.01
    )
    assert sign_flip(values + 100, resamples=999) == 1 / 1000, "never 0"


def test_questions_that_do_not_differ_count_for_nothing():
    few = [0.3, 0.1, -0.2, 0.4]
    assert sign_flip([*few, *[0.0] * 70]) == sign_flip(few) == 3 / 16
    assert sign_flip([0.0] * 80) == 1
    assert sign_flip([0.0] * 80, 0.01) == 1


def test_a_margin_only_takes_away_blocks():
    values = np.random.default_rng(5).laplace(0.1, 1, size=(50, 12))
    assert np.all(sign_flip(values, 0.05) >= sign_flip(values))


def test_mcnemar_is_the_binomial_of_what_changed():
    for lost, won in ((7, 0), (5, 2), (2, 5), (1, 1)):
        expected = binomtest(lost, lost + won, alternative="greater").pvalue
        assert mcnemar(lost, won) == pytest.approx(expected)
        signs = [1.0] * lost + [-1.0] * won + [0.0] * 5
        assert sign_flip(signs) == pytest.approx(expected), "the same test"
    assert mcnemar(0, 0) == 1
