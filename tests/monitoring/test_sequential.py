"""Evidence that may be looked at after every window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.monitoring.panels import PANELS, WEIGHTS
from headwater.monitoring.sequential import MOST, Evidence, combined, factor

ALPHA = 0.05


def test_a_factor_is_one_on_average_at_most() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    assert float(np.mean([factor(each) for each in p])) == pytest.approx(1.0, abs=1e-4)
    assert factor(1e-12) == pytest.approx(MOST, rel=1e-6)
    assert factor(1.0) == pytest.approx(factor(0.9999), abs=1e-3)


@given(st.floats(1e-9, 1.0), st.floats(1e-9, 1.0))
def test_smaller_p_values_never_say_less(one: float, other: float) -> None:
    small, large = sorted([one, other])
    assert factor(small) >= factor(large) - 1e-9


@given(st.integers(0, 500))
def test_stakes_make_one(windows: int) -> None:
    evidence = Evidence()
    for _ in range(windows):
        evidence = evidence.after(1.0)
    assert evidence.value == pytest.approx(1.0)


@given(st.lists(st.floats(1e-9, 1.0), max_size=30), st.floats(1e-6, 1.0))
def test_a_window_adds_what_its_factor_says(history: list[float], p: float) -> None:
    """A fair bet: averaged over factors that are 1 on average, the evidence stays as it was."""
    evidence = Evidence()
    for each in history:
        evidence = evidence.after(factor(each))
    low, high = evidence.after(0.5).value, evidence.after(1.5).value
    assert (low + high) / 2 == pytest.approx(evidence.value)


def test_without_drift_evidence_is_seldom_ever_enough() -> None:
    """Ville's inequality, by simulation: 2,000 adapters, 300 windows each, looked at every time."""
    random = np.random.default_rng(0)
    false = 0
    for _ in range(2000):
        evidence = {name: Evidence() for name in PANELS}
        # All panels see the same p-value: the combination must hold for any dependence.
        for p in 1 - random.random(300):
            evidence = {name: each.after(factor(p)) for name, each in evidence.items()}
            if combined(evidence, WEIGHTS) >= 1 / ALPHA:
                false += 1
                break
    assert false / 2000 <= ALPHA


def test_one_odd_window_is_never_enough() -> None:
    """Whatever its p-values, after any windows whose evidence was no sign of drift."""
    for before in range(0, 100, 10):
        evidence = Evidence()
        for _ in range(before):
            evidence = evidence.after(1.0)
        odd = {name: evidence.after(MOST) for name in PANELS}
        assert combined(odd, WEIGHTS) < 100
        after = {name: each.after(factor(0.5)) for name, each in odd.items()}
        assert combined(after, WEIGHTS) < combined(odd, WEIGHTS)


def test_a_late_drift_is_still_seen() -> None:
    """After 200 quiet windows five that are as odd as can be are enough."""
    random = np.random.default_rng(1)
    evidence = Evidence()
    for p in 1 - random.random(200):
        evidence = evidence.after(factor(p))
    for _ in range(5):
        evidence = evidence.after(MOST)
    assert 0.5 * evidence.value >= 100


def test_weights_make_one() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert set(WEIGHTS) == set(PANELS)
