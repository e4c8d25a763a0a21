"""Windows are tested fairly: uniform p-values without drift, small ones with it."""

import numpy as np
import pytest
from scipy import stats

from headwater.monitoring.drift_state import Firing, Watch, begin, consume
from headwater.monitoring.features import NUMBERS, Sample
from headwater.monitoring.panels import PANELS, TOPICS, nearest, nearest_within, test_window
from headwater.monitoring.policy import DriftPolicy
from headwater.monitoring.windows import Cursor

SMALL = DriftPolicy(
    alpha=0.05, reference_requests=60, window_requests=20, pool_requests=200, permutations=99
)


def sample(random: np.random.Generator, size: int, **shifts: float) -> Sample:
    """Requests without a pattern; a shift moves a number, or the questions' mean vector."""
    vectors = random.normal(size=(size, 16))
    vectors[:, 0] += shifts.get("topic", 0.0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = random.normal(size=(size, len(NUMBERS)))
    for name, shift in shifts.items():
        if name != "topic":
            numbers[:, NUMBERS.index(name)] += shift
    refused, thumb = NUMBERS.index("refused"), NUMBERS.index("thumb")
    numbers[:, refused] = random.random(size) < 0.1 + shifts.get("refused", 0.0)
    numbers[:, thumb] = np.where(random.random(size) < 0.1, random.random(size) < 0.7, np.nan)
    return Sample(
        traces=np.array([f"{random.integers(1 << 60):x}" for _ in range(size)]),
        times=np.arange(size, dtype=np.float64),
        releases=np.array(["r"] * size),
        sources=np.array(["s"] * size),
        numbers=numbers,
        vectors=vectors.astype(np.float16),
    )


def watched(
    seed: int, windows: int, *, drift_from: int | None = None, policy: DriftPolicy = SMALL,
    **shifts: float,
) -> Watch:  # fmt: skip
    """A watch over so many windows; it ends where it fires."""
    random = np.random.default_rng(seed)
    watch = begin(sample(random, policy.reference_requests), Cursor("", ""), policy)
    for number in range(1, windows + 1):
        drifted = shifts if drift_from is not None and number >= drift_from else {}
        window = sample(random, policy.window_requests, **drifted)
        at = Cursor(f"2026-01-01T00:{number:02d}", "t")
        watch = consume(watch, window, (at, at), policy)
        if watch.fired:
            break
    return watch


def test_p_values_are_uniform_and_independent_without_drift() -> None:
    """Though every window is compared with a pool that shares most of the last one's requests."""
    first: dict[str, list[float]] = {name: [] for name in PANELS}
    second: dict[str, list[float]] = {name: [] for name in PANELS}
    for seed in range(300):
        random = np.random.default_rng(seed)
        pool = sample(random, 30)
        for kept in (first, second):
            found = test_window(sample(random, 10), pool, permutations=99, keep=30, seed=seed)
            pool = found.pool
            for name, p in found.p_values.items():
                kept[name].append(p if p is not None else np.nan)
    for name in PANELS:
        pairs = np.array([first[name], second[name]])
        pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
        assert stats.kstest(pairs.ravel(), "uniform").pvalue > 0.001, name
        assert stats.spearmanr(*pairs).pvalue > 0.001, name


def test_a_reference_that_is_odd_by_chance_does_not_add_up() -> None:
    """A fixed reference would be told from the truth in the end; what came since is pooled with it."""
    random = np.random.default_rng(0)
    odd = sample(random, SMALL.reference_requests)
    order = np.argsort(odd.column("answer_characters"))
    odd = odd.take(order[len(order) // 4 :])  # the shorter quarter never happened to be asked
    watch = begin(odd, Cursor("", ""), SMALL)
    at = Cursor("2026-01-01", "t")
    for _ in range(60):
        watch = consume(watch, sample(random, SMALL.window_requests), (at, at), SMALL)
    assert watch.fired is None
    assert len(watch.pool) == SMALL.pool_requests


@pytest.mark.timeout(600)
def test_false_alarms_are_as_seldom_as_stated() -> None:
    """150 adapters, 40 windows each: at most alpha of them are ever called drifted."""
    false = sum(watched(seed, 40).fired is not None for seed in range(150))
    assert false <= 0.05 * 150


@pytest.mark.parametrize(
    ("panel", "shifts"),
    [
        (TOPICS, {"topic": 4.0}),
        ("question_text", {"question_characters": 2.0}),
        ("retrieval_scores", {"similarity": -2.0}),
        ("answer_length", {"answer_characters": 2.0}),
        ("refusals", {"refused": 0.8}),
    ],
)
def test_a_planted_shift_fires_on_its_panel_within_six_windows(
    panel: str, shifts: dict[str, float]
) -> None:
    policy = DriftPolicy()
    fired: Firing | None = watched(7, 14, drift_from=9, policy=policy, **shifts).fired
    assert fired is not None and fired.panel == panel
    assert 10 <= fired.window <= 14
    assert 8 <= fired.onset <= 10


def test_the_same_seed_gives_the_same_test() -> None:
    random = np.random.default_rng(0)
    pool, window = sample(random, 30), sample(random, 10)
    one, two = (test_window(window, pool, permutations=99, keep=25, seed=3) for _ in range(2))
    other = test_window(window, pool, permutations=99, keep=25, seed=4)
    assert one.p_values == two.p_values != other.p_values
    assert one.pool.digest == two.pool.digest and len(one.pool) == 25


def test_a_panel_without_differences_says_nothing() -> None:
    random = np.random.default_rng(0)
    pool, window = sample(random, 30), sample(random, 10)
    for part in (pool, window):
        part.numbers[:, NUMBERS.index("refused")] = 0
        part.numbers[:, NUMBERS.index("thumb")] = np.nan
    found = test_window(window, pool, permutations=99, keep=40, seed=0).p_values
    assert found["refusals"] is None and found["feedback"] is None
    assert found[TOPICS] is not None


def test_nearest_tells_how_far_a_question_is() -> None:
    random = np.random.default_rng(0)
    reference, far = sample(random, 40), sample(random, 20, topic=-9.0)
    assert nearest(reference, reference) == pytest.approx(np.ones(40), abs=1e-2)
    assert nearest_within(reference).max() < 0.99
    assert len(nearest(far, reference)) == 20
