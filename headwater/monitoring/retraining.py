"""Whether a retraining is worth its cost: a decision, with its reasoning in words and numbers.

Weighs what a drift costs in quality against what earlier trainings took in time, energy and
carbon. Knows the drift's state, past costs and the policy, not how a training is launched.
"""

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import HeadwaterError
from headwater.evaluation.document import escape_markdown
from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.monitoring import hard_questions
from headwater.monitoring.drift import latest, since_onset, unlike, unlike_share
from headwater.monitoring.drift_state import Store
from headwater.monitoring.features import Sample
from headwater.monitoring.panels import TOPICS
from headwater.monitoring.policy import MonitoringPolicy, RetrainingPolicy, load_policy
from headwater.monitoring.windows import Requests
from headwater.records import digest_of
from headwater.settings import Settings

#: Part of a decision's digest: change it when the same figures decide otherwise.
DECISION_VERSION = 1
_KEPT = 100

#: Questions of production to mean NLL of the answers that chunks give to them, nats per token, and
#: the same of the reference's, under the adapter of an id; None where too few have an answer.
NllGap = Callable[[Sequence[str], str], tuple[float, float] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCost:
    """What one training took; energy and emissions are None where they could not be measured."""

    seconds: float
    kwh: float | None
    kg_co2: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One measure of quality on reference and drifted requests; `points` is what is lost by it."""

    name: str
    reference: float
    drifted: float
    points: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to retrain, and why.

    Attributes:
        verdict: `retrain`, `not_worth_it`, `too_few` (drifted requests to judge by), `no_drift`,
            `no_reference`, `no_cost` (no training was ever measured) or `cooling_down`.
        retrain: stays true, under the same digest, for the cool-down: a launch that was missed is
            made up for, and one that was made is not repeated.
        drift: status of the drift report it rests on.
        gain, cost: money, in the policy's currency.
        reasons: sentences, in the order of the reasoning.
        time: when it was taken, ISO 8601, UTC.
    """

    verdict: str
    retrain: bool
    drift: str
    reference: str
    panel: str
    evidence: float
    digest: str
    gain: float
    cost: float
    numbers: Mapping[str, float]
    signals: Sequence[Signal]
    reasons: Sequence[str]
    examples: Sequence[Mapping[str, Any]]
    time: str

    def to_markdown(self) -> str:
        """The reasoning as a person reads it."""
        head = f"### {'Retrain' if self.retrain else 'Do not retrain'}: {self.verdict}"
        reasons = "\n".join(f"- {escape_markdown(reason)}" for reason in self.reasons)
        signals = ["| signal | reference | drifted | points lost |", "|---|---|---|---|"]
        signals += [
            f"| {each.name} | {each.reference:.3f} | {each.drifted:.3f} | {each.points:.2f} |"
            for each in self.signals
        ]
        numbers = ["| number | value |", "|---|---|"]
        numbers += [f"| {name} | {value:.4g} |" for name, value in self.numbers.items()]
        tables = ["\n".join(rows) for rows in (signals, numbers) if len(rows) > 2]
        return "\n\n".join([head, reasons, *tables]) + "\n"


def decide(
    lake: Lake,
    settings: Settings,
    *,
    costs: Sequence[TrainingCost],
    now: datetime,
    nll_gap: NllGap | None = None,
    policy: MonitoringPolicy | None = None,
) -> Decision:
    """Decide on the latest drift report; a decision to retrain also keeps the hard questions.

    Args:
        costs: of earlier trainings, in any order.
        now: UTC.
        nll_gap: measures answers; asked only where a decision is due.

    Raises:
        HeadwaterError: there is no drift report yet.
    """
    policy = policy or load_policy(settings)
    report = latest(settings)
    if report is None:
        raise HeadwaterError("There is no drift report yet.", mend="Run the job `monitor`.")
    with _locked(settings):
        return _decide(lake, settings, report, costs=costs, now=now, nll_gap=nll_gap, policy=policy)


def _decide(
    lake: Lake,
    settings: Settings,
    report: Mapping[str, Any],
    *,
    costs: Sequence[TrainingCost],
    now: datetime,
    nll_gap: NllGap | None,
    policy: MonitoringPolicy,
) -> Decision:
    """Take the decision, or the one that stands, and keep it."""
    taken = _taken(settings)
    cool = timedelta(hours=policy.retraining.cool_down_hours)
    warm = [each for each in taken if now - datetime.fromisoformat(each["time"]) < cool]
    standing = next((each for each in warm if each["reference"] == report["reference"]), None)
    if report["status"] != "drift":
        decision = _no(report, now, *_undrifted(report))
    elif standing is not None:
        decision = _restored(standing)
    elif warm:
        told = (
            f"A retraining was decided on at {warm[-1]['time']}; the next may follow {cool} later."
        )
        decision = _no(report, now, "cooling_down", [told])
    elif not costs:
        told = "No earlier training was measured, so what one costs is not known: headwater build."
        decision = _no(report, now, "no_cost", [told])
    else:
        attempt = sum(each["reference"] == report["reference"] for each in taken)
        decision = _weigh(
            lake, settings, report,
            costs=costs, now=now, nll_gap=nll_gap, policy=policy, attempt=attempt,
        )  # fmt: skip
    if decision.retrain and standing is None:
        write_json(_path(settings, "decisions"), [*taken, asdict(decision)][-_KEPT:])
    write_json(_path(settings, "decision"), asdict(decision))
    return decision


def latest_decision(settings: Settings) -> dict[str, Any] | None:
    """The last decision as plain JSON, or None before the first."""
    found: dict[str, Any] | None = read_json(_path(settings, "decision"))
    return found


def signals(reference: Sample, drifted: Sample, policy: RetrainingPolicy) -> list[Signal]:
    """What the log tells about quality: refusals, groundedness, passages, thumbs; worse is lost."""
    found = []
    for name, values in _LOGGED.items():
        old, new = values(reference), values(drifted)
        old, new = old[~np.isnan(old)], new[~np.isnan(new)]
        if len(old) and len(new):
            before, after = float(old.mean()), float(new.mean())
            found.append(_signal(name, before, after, before - after, policy))
    return found


_LOGGED: Mapping[str, Callable[[Sample], npt.NDArray[np.float64]]] = {
    "answered": lambda sample: 1 - sample.column("refused"),
    "grounded": lambda sample: sample.column("grounded"),
    "similarity": lambda sample: sample.column("similarity"),
    "thumbs_up": lambda sample: sample.column("thumb"),
}


def _signal(
    name: str, reference: float, drifted: float, worse: float, policy: RetrainingPolicy
) -> Signal:
    points = getattr(policy.points, name) * max(0.0, worse)
    return Signal(name=name, reference=reference, drifted=drifted, points=points)


def _weigh(
    lake: Lake,
    settings: Settings,
    report: Mapping[str, Any],
    *,
    costs: Sequence[TrainingCost],
    now: datetime,
    nll_gap: NllGap | None,
    policy: MonitoringPolicy,
    attempt: int,
) -> Decision:
    """Gain against cost, for a drift that no decision stands for."""
    rules = policy.retraining
    store, requests = Store(settings, report["adapter"]), Requests(lake, settings)
    with store.locked():
        held, watch = store.reference(), store.load(policy.drift)
    assert held is not None and watch is not None  # the report tells of a drift from them
    reference, current = held[0], since_onset(watch)
    if report["panel"] == TOPICS:
        drifted, share = current.take(unlike(reference, current)), unlike_share(reference, current)
        who = f"{share:.0%} of the traffic since the drift began asks what the reference does not"
    else:
        drifted, share = current, 1.0
        who = f"the panel {report['panel']} drifted, which concerns all of the traffic"
    about = (
        f"Drift on {report['panel']}: evidence {report['evidence']:.3g}, {report['threshold']:.0f}"
        f" is enough (false alarms at most {report['alpha']:.0%}); {who}."
    )
    if len(drifted) < rules.fewest_requests:
        told = f"{len(drifted)} drifted requests are too few to judge quality by; {rules.fewest_requests} are needed."
        return _no(report, now, "too_few", [about, told])
    hard = hard_questions.hardest(requests, drifted, rules.hard_questions)
    lost = signals(reference, drifted, rules)
    gap = nll_gap([each["question"] for each in hard], report["adapter"]) if nll_gap else None
    if gap is not None:
        lost.append(_signal("nll", gap[1], gap[0], gap[0] - gap[1], rules))
    points = min(100.0, sum(each.points for each in lost))
    horizon = requests.a_day() * rules.horizon_days
    gain = horizon / 1000 * share * points * rules.recoverable * rules.value_per_point
    price = _price(costs, rules)
    cost = price["money"]
    retrain = gain > cost
    if retrain:
        hard_questions.keep(settings, hard, rules.hard_questions)
    named = ", ".join(f"{each.name} {each.points:.1f}" for each in lost if each.points > 0)
    reasons = [
        about,
        f"Quality lost on the {len(drifted)} drifted requests: {points:.1f} points ({named or 'none'}).",
        f"Gain: {horizon:.0f} requests in {rules.horizon_days:.0f} days x {share:.2f} drifted x"
        f" {points:.1f} points x {rules.recoverable:.2f} won back x {rules.value_per_point:g} for a"
        f" point of 1,000 requests = {gain:.3f}.",
        f"Cost, from {len(costs)} earlier trainings: {price['seconds']:.0f} s at"
        f" {rules.machine_price:g} an hour, {price['kwh']:.4f} kWh at {rules.electricity_price:g},"
        f" {price['kg_co2']:.4f} kg CO2e at {rules.carbon_price:g}, and {rules.fixed_cost:g} for"
        f" any release = {cost:.3f}.",
        f"The gain is {'more' if retrain else 'not more'} than the cost"
        + (f"; {len(hard)} hard questions go into the training rows." if retrain else "."),
    ]
    numbers = {
        "requests_in_horizon": horizon,
        "drifted_share": share,
        "points_lost": points,
        **{key: value for key, value in price.items() if key != "money"},
        "gain": gain,
        "cost": cost,
    }
    return Decision(
        verdict="retrain" if retrain else "not_worth_it",
        retrain=retrain,
        drift=report["status"],
        reference=report["reference"],
        panel=report["panel"],
        evidence=report["evidence"],
        digest=digest_of(DECISION_VERSION, report["reference"], report["fired"]["chain"], attempt),
        gain=gain,
        cost=cost,
        numbers=numbers,
        signals=lost,
        reasons=reasons,
        examples=report["examples"],
        time=now.isoformat(timespec="seconds"),
    )


def _price(costs: Sequence[TrainingCost], rules: RetrainingPolicy) -> dict[str, float]:
    """Seconds, kWh, kg CO2e and money of one retraining: the median of earlier trainings, times overhead."""
    seconds = float(np.median([each.seconds for each in costs])) * rules.overhead
    measured = [each.kwh for each in costs if each.kwh is not None]
    emitted = [each.kg_co2 for each in costs if each.kg_co2 is not None]
    kwh = (
        float(np.median(measured)) * rules.overhead
        if measured
        else seconds * rules.watts / 3_600_000
    )
    kg = float(np.median(emitted)) * rules.overhead if emitted else rules.emitted(kwh)
    money = rules.money(seconds=seconds, kwh=kwh, kg_co2=kg) + rules.fixed_cost
    return {"seconds": seconds, "kwh": kwh, "kg_co2": kg, "money": money}


def _undrifted(report: Mapping[str, Any]) -> tuple[str, list[str]]:
    if report["status"] != "ok":
        told = f"{report['reference_requests']} requests so far: the drift report is still `{report['status']}`."
        return "no_reference", [told]
    told = (
        f"No drift: evidence {report['evidence']:.3g} after {report['windows']} windows,"
        f" {report['threshold']:.0f} would be enough."
    )
    return "no_drift", [told]


def _no(report: Mapping[str, Any], now: datetime, verdict: str, reasons: list[str]) -> Decision:
    return Decision(
        verdict=verdict,
        retrain=False,
        drift=report["status"],
        reference=report["reference"],
        panel=report["panel"],
        evidence=report["evidence"],
        digest=digest_of(DECISION_VERSION, verdict, report["digest"]),
        gain=0.0,
        cost=0.0,
        numbers={},
        signals=(),
        reasons=reasons,
        examples=report["examples"],
        time=now.isoformat(timespec="seconds"),
    )


def _restored(held: Mapping[str, Any]) -> Decision:
    return Decision(**{**held, "signals": [Signal(**each) for each in held["signals"]]})


def _taken(settings: Settings) -> list[dict[str, Any]]:
    """Decisions to retrain, oldest first."""
    found: list[dict[str, Any]] | None = read_json(_path(settings, "decisions"))
    return found or []


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Two decisions at once must not both see that none was taken; the lock dies with its process."""
    with _path(settings, "decision").with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path(settings: Settings, name: str) -> Path:
    return settings.root / "monitoring" / f"{name}.json"
