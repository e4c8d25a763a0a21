"""Whether production is still asked what it was asked when the adapter was new.

Consumes the requests since the last look, window by window, and says how strong the evidence for a
lasting drift is, on which panel, and which questions show it. Knows nothing of what follows from it.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.evaluation.document import Document, Picture, Table
from headwater.files import new_folder, read_json, write_json
from headwater.lake import Lake
from headwater.monitoring.drift_plots import evidence_plot, numbers_plot, topics_plot
from headwater.monitoring.drift_state import (
    DRIFT_VERSION,
    Firing,
    Store,
    Watch,
    WindowFigures,
    begin,
    consume,
)
from headwater.monitoring.evidently_page import write_evidently
from headwater.monitoring.features import Encode, Sample, features
from headwater.monitoring.panels import PANELS, TOPICS, WEIGHTS, nearest, nearest_within
from headwater.monitoring.policy import DriftPolicy, load_policy
from headwater.monitoring.windows import Requests, cursor_at, in_windows
from headwater.records import digest_of, short
from headwater.settings import Settings

#: Reports that are kept; Evidently's page alone has four megabytes.
KEPT = 12
#: Share of the reference's own questions that count as unlike it: what is called unlike is so by
#: being further from its nearest question than these are.
UNLIKE = 0.05
_EXAMPLES = 5
_EXAMPLE_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One comparison. `evidence` is its number: 1 says nothing, the threshold says drift.

    `p_value` is of the last window, None where it says nothing; `reference` and `current` are means
    (for topics, of the cosine to the nearest question of the reference).
    """

    evidence: float
    p_value: float | None
    reference: float | None
    current: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """The judgement over all windows since the reference.

    Attributes:
        status: `no_reference` (the reference is still filling), `not_enough` (no whole window
            after it), `ok` or `drift`.
        evidence: of all panels together; a drift from `threshold` on.
        panel: the one that contributes most; the one that did when the drift was found.
        share: part of the latest requests that is unlike the reference, 0 to 1, beyond what is
            expected of the reference itself.
        reference: digest of the reference window.
        fired: when the evidence first was enough.
        examples: the questions behind the leading panel, with their traces.
        folder: the report's files, None where nothing was compared.
    """

    status: str
    adapter: str
    reference: str
    reference_requests: int
    windows: int
    evidence: float
    threshold: float
    alpha: float
    panel: str
    panels: Mapping[str, Panel]
    share: float
    fired: Firing | None
    examples: Sequence[Mapping[str, Any]]
    folder: Path | None
    digest: str

    def rows(self) -> list[dict[str, Any]]:
        """One row a panel, the strongest first."""
        rows = [{"panel": name, **asdict(panel)} for name, panel in self.panels.items()]
        return sorted(rows, key=lambda row: (-row["evidence"], row["panel"]))

    def as_mapping(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {**asdict(self), "folder": str(self.folder) if self.folder else None}


def drift_report(
    lake: Lake, settings: Settings, *, encode: Encode, policy: DriftPolicy | None = None
) -> DriftReport:
    """Consume what was asked since the last look; the same requests give the same report.

    Args:
        encode: questions to unit vectors, (n, d); called once for each request.
    """
    policy = policy or load_policy(settings).drift
    requests = Requests(lake, settings)
    if requests.adapter is None:
        return _told(settings, _unjudged("no_reference", "", 0, policy))
    store = Store(settings, requests.adapter)
    with store.locked():
        held = store.reference()
        if held is None:
            rows = list(islice(requests.after(None), policy.reference_requests))
            if len(rows) < policy.reference_requests:
                found = _unjudged("no_reference", requests.adapter, len(rows), policy)
                return _told(settings, found)
            held = features(lake, rows, encode), cursor_at(rows[-1])
            store.keep_reference(*held)
        watch = store.load(policy) or begin(*held, policy)
        before = watch.chain
        for rows in in_windows(requests.after(watch.cursor), policy.window_requests):
            span = cursor_at(rows[0]), cursor_at(rows[-1])
            watch = consume(watch, features(lake, rows, encode), span, policy)
        if watch.chain != before:
            store.save(watch, policy)
        if not watch.history:
            found = _unjudged("not_enough", requests.adapter, len(held[0]), policy)
            return _told(settings, found)
        return _told(settings, _judged(settings, requests, held[0], watch, policy))


def latest(settings: Settings) -> dict[str, Any] | None:
    """The last report as `DriftReport.as_mapping` gives it, or None before the first."""
    found: dict[str, Any] | None = read_json(_latest(settings))
    return found


def since_onset(watch: Watch) -> Sample:
    """The latest requests; of a drift, those from its onset on."""
    if watch.fired is None:
        return watch.recent
    onset = [each for each in watch.history if each.number >= watch.fired.onset]
    first = datetime.fromisoformat(onset[0].first).timestamp()
    later = watch.recent.take(watch.recent.times >= first - 1e-5)
    return later if len(later) else watch.recent


def unlike(reference: Sample, current: Sample) -> npt.NDArray[np.bool_]:
    """Which questions are further from the reference than nearly all of its own are, (n,)."""
    limit = np.quantile(nearest_within(reference), UNLIKE)
    return nearest(current, reference) < limit


def unlike_share(reference: Sample, current: Sample) -> float:
    """Part of the questions that is unlike the reference, beyond what is expected without drift."""
    share = float(unlike(reference, current).mean())
    return round(max(0.0, (share - UNLIKE) / (1 - UNLIKE)), 4)


def _judged(
    settings: Settings, requests: Requests, reference: Sample, watch: Watch, policy: DriftPolicy
) -> DriftReport:
    """The report of a state that has seen windows, with its files."""
    current = since_onset(watch)
    panel = watch.fired.panel if watch.fired else watch.leading
    folder = settings.reports / "drift" / watch.chain
    report = DriftReport(
        status="drift" if watch.fired else "ok",
        adapter=requests.adapter or "",
        reference=watch.reference,
        reference_requests=len(reference),
        windows=watch.windows,
        evidence=watch.combined,
        threshold=1 / policy.alpha,
        alpha=policy.alpha,
        panel=panel,
        panels=_panels(reference, current, watch),
        share=unlike_share(reference, current),
        fired=watch.fired,
        examples=_examples(requests, reference, current, panel),
        folder=folder,
        digest=watch.chain,
    )
    if not folder.exists():
        with new_folder(folder) as work:
            write_evidently(reference, current, work / "evidently.html")
            document = _document(report, reference, current, watch.history)
            (work / "index.html").write_text(_linked(document.to_html()), "utf-8")
            (work / "report.md").write_text(document.to_markdown(), "utf-8")
    _forget_old(folder.parent)
    return report


def _panels(reference: Sample, current: Sample, watch: Watch) -> dict[str, Panel]:
    last = watch.history[-1]
    panels = {}
    for name, columns in PANELS.items():
        old = nearest_within(reference) if name == TOPICS else reference.column(columns[0])
        new = nearest(current, reference) if name == TOPICS else current.column(columns[0])
        panels[name] = Panel(
            evidence=watch.evidence[name].value,
            p_value=last.p_values[name],
            reference=_mean(old),
            current=_mean(new),
        )
    return panels


def _examples(
    requests: Requests, reference: Sample, current: Sample, panel: str
) -> list[dict[str, Any]]:
    """The requests that are most unlike the reference on a panel, one for each question."""
    if panel == TOPICS:
        odd = 1 - nearest(current, reference)
    else:
        odd = np.max([_oddness(reference, current, name) for name in PANELS[panel]], axis=0)
    order = np.lexsort((current.traces, -odd))[: 4 * _EXAMPLES]
    asked = requests.questions({str(current.traces[i]): float(current.times[i]) for i in order})
    shown: dict[str, dict[str, Any]] = {}
    for i in order:
        trace = str(current.traces[i])
        question = asked.get(trace, "")[:_EXAMPLE_CHARS]
        example = {"trace": trace, "question": question, "unlike": round(float(odd[i]), 3)}
        shown.setdefault(" ".join(question.lower().split()), example)
    return list(shown.values())[:_EXAMPLES]


def _oddness(reference: Sample, current: Sample, name: str) -> npt.NDArray[np.float64]:
    """Distance from the reference's median in its deviations; 0 where a value is not known."""
    old = reference.column(name)
    if np.isnan(old).all():
        return np.zeros(len(current))
    deviation = float(np.nanstd(old)) or 1.0
    return np.nan_to_num(np.abs(current.column(name) - np.nanmedian(old)) / deviation)


def _document(
    report: DriftReport, reference: Sample, current: Sample, history: Sequence[WindowFigures]
) -> Document:
    panels = [
        (
            row["panel"], f"{row['evidence']:.3g}", _shown(row["p_value"]),
            _shown(row["reference"]), _shown(row["current"]),
        )
        for row in report.rows()
    ]  # fmt: skip
    examples = [(e["trace"], e["question"], f"{e['unlike']:.3f}") for e in report.examples]
    header = ("panel", "evidence", "last p-value", "mean, reference", "mean, current")
    alone = {name: f"{report.threshold / weight:.0f}" for name, weight in WEIGHTS.items()}
    return Document(
        title=f"Drift report: {report.status}",
        facts={
            "adapter": report.adapter,
            "reference": f"{short(report.reference)}, {report.reference_requests} requests",
            "windows": str(report.windows),
            "evidence": f"{report.evidence:.3g}; a drift from {report.threshold:.0f} on",
            "false alarms": f"at most {report.alpha:.0%} of adapters, ever, however often one looks",
            "unlike the reference": f"{report.share:.0%} of the latest {len(current)} questions",
            "fired": _fired(report.fired),
        },
        notes=[],
        parts=[
            Table("Panels", header, panels),
            Picture("evidence over windows", evidence_plot(history, report.threshold)),
            Picture(
                "questions by their nearest in the reference",
                topics_plot(
                    nearest_within(reference),
                    nearest(current, reference),
                    float(np.quantile(nearest_within(reference), UNLIKE)),
                ),
            ),
            Picture("numbers of reference and current requests", numbers_plot(reference, current)),
            Table(f"Behind {report.panel}", ("trace", "question", "unlike"), examples),
            _groups("By source", reference.sources, current.sources, reference, current),
            _groups("By release", reference.releases, current.releases, reference, current),
            Table(
                "A panel alone is a drift from this evidence on",
                ("panel", "evidence"),
                list(alone.items()),
            ),
        ],
    )


def _groups(
    title: str, old: npt.NDArray[np.str_], new: npt.NDArray[np.str_], *samples: Sample
) -> Table:
    """Requests, refusals, similarity, groundedness, length and thumbs of each group; largest first."""
    shown = ("refused", "similarity", "grounded", "answer_characters", "thumb")
    rows = []
    for window, groups, sample in zip(("reference", "current"), (old, new), samples, strict=True):
        names, counts = np.unique(groups, return_counts=True)
        for at in np.argsort(-counts, kind="stable")[:10]:
            part = sample.take(groups == names[at])
            means = [_shown(_mean(part.column(column))) for column in shown]
            name = str(names[at])
            rows.append((window, name[:40], str(counts[at]), *means))
    return Table(title, ("window", "group", "requests", *shown), rows)


def _fired(fired: Firing | None) -> str:
    if fired is None:
        return "no"
    return (
        f"on {fired.panel} at window {fired.window} ({fired.time}), evidence {fired.evidence:.3g};"
        f" it began about window {fired.onset}"
    )


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if len(known) else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _linked(page: str) -> str:
    link = '<p><a href="evidently.html">Distributions, by Evidently</a></p></body>'
    return page.replace("</body>", link)


def _forget_old(reports: Path) -> None:
    """Keep the newest reports; the state they tell of lies elsewhere."""
    folders = [path for path in reports.iterdir() if path.is_dir() and path.name[0] != "."]
    for path in sorted(folders, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(path)


def _unjudged(status: str, adapter: str, requests: int, policy: DriftPolicy) -> DriftReport:
    return DriftReport(
        status=status,
        adapter=adapter,
        reference="",
        reference_requests=requests,
        windows=0,
        evidence=1.0,
        threshold=1 / policy.alpha,
        alpha=policy.alpha,
        panel="",
        panels={},
        share=0.0,
        fired=None,
        examples=[],
        folder=None,
        digest=digest_of(DRIFT_VERSION, policy.digest, status, adapter),
    )


def _told(settings: Settings, report: DriftReport) -> DriftReport:
    """Leave the report where the command line finds it."""
    write_json(_latest(settings), report.as_mapping())
    return report


def _latest(settings: Settings) -> Path:
    return settings.root / "monitoring" / "drift" / "latest.json"
