"""A retraining is decided on where its gain is more than its cost, and once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.monitoring import hard_questions
from headwater.monitoring.drift import drift_report
from headwater.monitoring.policy import (
    DriftPolicy,
    MonitoringPolicy,
    RetrainingPolicy,
    load_policy,
)
from headwater.monitoring.retraining import Decision, TrainingCost, decide, latest_decision
from headwater.settings import Settings
from tests.monitoring.conftest import WordEncoder, ask, log_requests, release_with

pytestmark = pytest.mark.usefixtures("unpictured")
DRIFT = DriftPolicy(reference_requests=80, window_requests=20, pool_requests=200, permutations=199)
POLICY = MonitoringPolicy(drift=DRIFT, retraining=RetrainingPolicy(value_per_point=1.0))
COSTS = [TrainingCost(seconds=60.0, kwh=0.001, kg_co2=0.0005)]
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def drifted(lake: Lake, settings: Settings, *, refused: bool = True, topic: str = "garden") -> None:
    """A reference, and then another topic whose questions are refused."""
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 100))
    new = ask(release, 100, topic=topic, day="2026-01-03")
    for row in new:
        row["refused"] = refused
    log_requests(lake, new)
    drift_report(lake, settings, encode=WordEncoder(), policy=DRIFT)


def decided(lake: Lake, settings: Settings, **changes: Any) -> Decision:
    return decide(lake, settings, **{"costs": COSTS, "now": NOW, "policy": POLICY} | changes)


def test_before_the_first_report_there_is_nothing_to_decide(lake: Lake, settings: Settings) -> None:
    with pytest.raises(HeadwaterError, match="no drift report"):
        decided(lake, settings)


def test_without_drift_nothing_is_weighed(lake: Lake, settings: Settings) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 60))
    drift_report(lake, settings, encode=WordEncoder(), policy=DRIFT)
    assert decided(lake, settings).verdict == "no_reference"
    log_requests(lake, ask(release, 160))
    drift_report(lake, settings, encode=WordEncoder(), policy=DRIFT)
    quiet = decided(lake, settings)
    assert (quiet.verdict, quiet.retrain) == ("no_drift", False)


def test_lost_quality_is_worth_a_retraining(lake: Lake, settings: Settings) -> None:
    """The sum by hand: 100 requests a day, all of another topic, nine in ten more refused."""
    drifted(lake, settings)
    decision = decided(lake, settings)
    assert (decision.verdict, decision.retrain) == ("retrain", True)
    rules, numbers = POLICY.retraining, decision.numbers
    assert numbers["requests_in_horizon"] == pytest.approx(100 * rules.horizon_days)
    (answered,) = [each for each in decision.signals if each.name == "answered"]
    assert answered.drifted == 0.0 and answered.reference == pytest.approx(0.9, abs=0.1)
    gain = 1.4 * numbers["drifted_share"] * numbers["points_lost"] * 0.5 * 1.0
    assert decision.gain == pytest.approx(gain)
    cost = 180 / 3600 * 0.20 + 0.003 * 0.30 + 0.0015 * 0.10 + 0.50
    assert decision.cost == pytest.approx(cost)
    text = decision.to_markdown()
    assert "### Retrain" in text and f"{gain:.3f}" in text and f"{cost:.3f}" in text
    assert latest_decision(settings) is not None


def test_a_topic_that_is_answered_as_well_is_not_worth_it(lake: Lake, settings: Settings) -> None:
    drifted(lake, settings, refused=False)
    decision = decided(lake, settings)
    assert (decision.verdict, decision.retrain, decision.drift) == ("not_worth_it", False, "drift")
    assert hard_questions.read(settings) == []


def test_a_costly_training_is_not_worth_it(lake: Lake, settings: Settings) -> None:
    drifted(lake, settings)
    dear = [TrainingCost(seconds=3600 * 500, kwh=200.0, kg_co2=100.0)]
    assert decided(lake, settings, costs=dear).verdict == "not_worth_it"


def test_energy_that_was_not_measured_is_estimated(lake: Lake, settings: Settings) -> None:
    drifted(lake, settings)
    unmeasured = [TrainingCost(seconds=120.0, kwh=None, kg_co2=None)]
    numbers = decided(lake, settings, costs=unmeasured).numbers
    assert numbers["kwh"] == pytest.approx(360 * 30 / 3_600_000)
    assert numbers["kg_co2"] == pytest.approx(numbers["kwh"] * 0.475)


def test_no_measured_training_no_decision(lake: Lake, settings: Settings) -> None:
    drifted(lake, settings)
    assert decided(lake, settings, costs=[]).verdict == "no_cost"


def test_a_decision_stands_for_its_cool_down(lake: Lake, settings: Settings) -> None:
    """The same digest within it, so nothing is launched twice; afterwards a second attempt."""
    drifted(lake, settings)
    first = decided(lake, settings)
    standing = decided(lake, settings, now=NOW + timedelta(hours=23))
    assert standing == first
    later = decided(lake, settings, now=NOW + timedelta(hours=25))
    assert later.retrain and later.digest != first.digest


def test_another_drift_waits_for_the_cool_down(lake: Lake, settings: Settings) -> None:
    drifted(lake, settings)
    decided(lake, settings)
    release = release_with(settings, "adapter-2")
    log_requests(lake, ask(release, 100, day="2026-01-04"))
    log_requests(lake, ask(release, 100, topic="garden", day="2026-01-05"))
    drift_report(lake, settings, encode=WordEncoder(), policy=DRIFT)
    soon = decided(lake, settings, now=NOW + timedelta(hours=2))
    assert (soon.verdict, soon.retrain) == ("cooling_down", False)
    assert decided(lake, settings, now=NOW + timedelta(hours=30)).verdict != "cooling_down"


def test_likelihood_of_extracted_answers_counts(lake: Lake, settings: Settings) -> None:
    drifted(lake, settings, refused=False)
    asked: list[str] = []

    def gap(questions: Any, adapter: str) -> tuple[float, float]:
        asked.extend(questions)
        assert adapter == "adapter-1"
        return 3.5, 2.0

    decision = decided(lake, settings, nll_gap=gap)
    (nll,) = [each for each in decision.signals if each.name == "nll"]
    assert nll.points == pytest.approx(30.0)
    assert decision.retrain and asked


def test_hard_questions_are_kept_worst_first_and_private_ones_are_not(
    lake: Lake, settings: Settings
) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 100))
    new = ask(release, 100, topic="garden", day="2026-01-03")
    for at, row in enumerate(new):
        row["refused"] = at % 2 == 0
    new[0]["question"] = "Why does mulch not answer anna@example.org about compost?"
    new[2]["question"] = "Is 4929123412341234 the number of my spade order?"
    log_requests(lake, new)
    drift_report(lake, settings, encode=WordEncoder(), policy=DRIFT)
    few = replace(POLICY, retraining=replace(POLICY.retraining, hard_questions=30))
    assert decided(lake, settings, policy=few).retrain
    kept = hard_questions.read(settings)
    refused = {row["question"] for row in new if row["refused"]}
    assert 20 <= len(kept) <= 30 and set(kept) <= refused
    assert not any("@" in question or "4929" in question for question in kept)
    hard_questions.keep(settings, [{"trace": "t", "question": "What is a new one?"}], 30)
    assert hard_questions.read(settings)[0] == "What is a new one?"
    assert hard_questions.read(settings)[1] == kept[0]


def test_the_policy_is_read_and_checked(settings: Settings) -> None:
    """Shipped choices are the defaults of the code, and an installation replaces single ones."""
    assert load_policy(settings) == MonitoringPolicy()
    settings.root.mkdir(exist_ok=True)
    own = settings.root / "monitoring.yaml"
    own.write_text("retraining: {carbon_price: 9.0, points: {nll: 1.0}}\n")
    policy = load_policy(settings)
    assert (policy.retraining.carbon_price, policy.retraining.points.nll) == (9.0, 1.0)
    assert policy.retraining.points.answered == 100
    for wrong in ("drift: {alpha: 2}", "drift: {alhpa: 0.1}", "- a list", "drift: [", "drift: 3"):
        own.write_text(wrong)
        with pytest.raises(HeadwaterError, match=r"monitoring\.yaml"):
            load_policy(settings)
