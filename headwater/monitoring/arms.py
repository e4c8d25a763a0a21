"""How two arms answered the same days: the champion against a canary, an A/B arm or a shadow.

Knows the requests of the lake and statistics. It is a report for people; the endpoint's own
judgement of a canary is in `headwater.release.canary`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headwater.evaluation.statistics import Interval, mean, rounded
from headwater.lake import Lake
from headwater.records import digest_of
from headwater.release import traffic
from headwater.settings import Settings

#: Part of the report's digest: change it when the same requests give another report.
ARMS_VERSION = 1
#: With fewer answers an arm has no interval.
FEWEST = 10
_COLUMNS = ["release", "arm", "time", "status", "refused", "ungrounded", "total_ms", "answer"]
#: Measures of a request: name, how it is read. None is left out.
_MEASURES: tuple[tuple[str, Any], ...] = (
    ("error", lambda row: float(row["status"] in ("error", "deadline"))),
    ("refused", lambda row: float(row["refused"])),
    ("ungrounded", lambda row: row["ungrounded"]),
    ("seconds", lambda row: row["total_ms"] / 1000 if row["status"] == "ok" else None),
    ("answer_characters", lambda row: float(len(row["answer"]))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmsReport:
    """Means of each arm and the challenger's difference, with its 95 % interval.

    Attributes:
        challenger, arm: the release compared with the champion, and as what it answered; None
            where nothing has ever run beside a champion.
        means: by arm and measure.
        differences: by measure, challenger minus champion; lacks what has too few answers.
    """

    champion: str | None
    challenger: str | None
    arm: str | None
    answers: Mapping[str, int]
    means: Mapping[str, Mapping[str, float]]
    differences: Mapping[str, Interval]

    @property
    def digest(self) -> str:
        return digest_of(ARMS_VERSION, asdict(self))

    def rows(self) -> list[dict[str, Any]]:
        """A row a measure: its mean in each arm, the difference and its interval."""
        measures = {name for means in self.means.values() for name in means}
        rows = []
        for measure in [name for name, _ in _MEASURES if name in measures]:
            row: dict[str, Any] = {"measure": measure}
            row |= {arm: means.get(measure, "") for arm, means in self.means.items()}
            found = self.differences.get(measure)
            if found is not None:
                row |= {"difference": found.mean, "low": found.low, "high": found.high}
            rows.append(row)
        return rows


def compare_arms(lake: Lake, settings: Settings) -> ArmsReport:
    """The latest challenger against the champion, over the requests since it began.

    Welch's t interval (Welch 1947) for the difference of means: the arms are answers to other
    questions, and need not vary alike.
    """
    begun = [event for event in traffic.events(settings) if event["change"] in ("canary", "shadow")]
    if not begun or begun[-1]["release"] is None:
        return ArmsReport(
            champion=None, challenger=None, arm=None, answers={}, means={}, differences={}
        )
    last = begun[-1]
    arm = last["change"]
    sides = {"champion": (last["champion"], "champion"), arm: (last["release"], arm)}
    values = {name: _values(lake, *side, since=last["time"]) for name, side in sides.items()}
    return ArmsReport(
        champion=last["champion"],
        challenger=last["release"],
        arm=arm,
        answers={name: len(found["error"]) for name, found in values.items()},
        means={
            name: {measure: mean(of) for measure, of in found.items() if of}
            for name, found in values.items()
        },
        differences={
            measure: _difference(values[arm][measure], values["champion"][measure])
            for measure, _ in _MEASURES
            if min(len(values[arm][measure]), len(values["champion"][measure])) >= FEWEST
        },
    )


def plot(report: ArmsReport) -> bytes:
    """A PNG: each measure's difference in parts of the champion's mean, with its interval."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.6 + 0.5 * len(report.differences)), layout="constrained")
    axes = figure.subplots()
    for at, (measure, found) in enumerate(report.differences.items()):
        unit = abs(report.means["champion"].get(measure, 0.0)) or 1.0
        axes.plot([found.low / unit, found.high / unit], [at, at], color="#4c78a8", linewidth=3)
        axes.plot(found.mean / unit, at, "o", color="#1c2430")
    axes.axvline(0, color="#9aa5b1", linewidth=0.8)
    axes.set_yticks(range(len(report.differences)), list(report.differences))
    axes.set_xlabel(f"{report.arm} minus champion, in parts of the champion's mean")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _values(lake: Lake, release: str, arm: str, *, since: str) -> dict[str, list[float]]:
    """Each measure of a release's requests as an arm since a time; aborted ones are left out."""
    days = lake.read("requests", columns=["day"])["day"].unique().to_pylist()
    rows: list[dict[str, Any]] = []
    for day in sorted(day for day in days if day >= since[:10]):
        where = {"day": [day], "release": [release], "arm": [arm]}
        rows += lake.read("requests", columns=_COLUMNS, where=where).to_pylist()
    kept = [row for row in rows if row["time"].isoformat() >= since and row["status"] != "aborted"]
    read = {name: [measure(row) for row in kept] for name, measure in _MEASURES}
    return {name: [value for value in found if value is not None] for name, found in read.items()}


def _difference(challenger: Sequence[float], champion: Sequence[float]) -> Interval:
    from scipy.stats import ttest_ind

    middle = sum(challenger) / len(challenger) - sum(champion) / len(champion)
    if len({*challenger}) == len({*champion}) == 1:  # no variance, no interval
        return Interval(mean=rounded(middle), low=rounded(middle), high=rounded(middle))
    found = ttest_ind(challenger, champion, equal_var=False).confidence_interval()
    return Interval(mean=rounded(middle), low=rounded(found.low), high=rounded(found.high))
