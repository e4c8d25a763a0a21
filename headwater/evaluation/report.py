"""The evaluation as a person reads it: HTML and Markdown reports, and the summary for a release."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headwater.evaluation.document import Document, Picture, Table
from headwater.evaluation.gates import GateResult
from headwater.evaluation.generation import (
    ArmFigures,
    GeneratedItem,
    GenerationReport,
    GenerationSlice,
)
from headwater.evaluation.likelihood import ADAPTER, BASE
from headwater.evaluation.plots import generation_plot, retrieval_plot
from headwater.evaluation.retrieval import DEPTH, RankedItem, RetrievalReport, RetrievalSlice
from headwater.evaluation.statistics import Interval
from headwater.files import new_folder
from headwater.records import digest_of

#: Part of a written report's name: raise it when reports look different.
REPORT_VERSION = 1
_PROVISIONAL = (
    "Provisional: questions made from titles and headings, which no person has read. "
    "`headwater golden review` turns them into real ones."
)
#: Rows of the tables of single questions.
_SHOWN = 12
_MISSING = "-"


def summary(retrieval: RetrievalReport, generation: GenerationReport) -> dict[str, Any]:
    """The headline figures as plain JSON: what a release carries and `headwater status` prints."""
    found, written = retrieval.headline, generation.headline
    value: dict[str, Any] = {"retrieval": None, "generation": None}
    if found is not None:
        value["retrieval"] = {
            "items": found.items,
            "provisional": retrieval.curated is None,
            "ndcg_at_10": {mode: figures.ndcg_at_10.mean for mode, figures in found.modes.items()},
            "recall_at_5": found.modes["fused"].recall[5],
            "mrr": found.modes["fused"].mrr,
            "differences": {name: asdict(v) for name, v in found.differences.items()},
        }
    if written is not None:
        value["generation"] = {
            "items": written.items,
            "answered": written.answered,
            "provisional": generation.curated is None,
            **{f"{name}_delta": asdict(interval) for name, interval in written.deltas.items()},
            "arms": {
                arm: {**asdict(figures), "nll": figures.nll.mean}
                for arm, figures in written.arms.items()
            },
        }
    value["digest"] = digest_of(retrieval.digest, generation.digest)
    return value


def retrieval_document(report: RetrievalReport, facts: Mapping[str, str]) -> Document:
    """The retrieval report; `facts` name what was examined (index version, golden set)."""
    parts: list[Table | Picture] = []
    notes = [] if report.curated else [_PROVISIONAL]
    for name, figures in (("Curated", report.curated), ("Provisional", report.provisional)):
        if figures is not None:
            parts += _retrieval_parts(name, figures)
    lost = [row for row in report.rows if row.rank["fused"] != 1]
    lost.sort(key=lambda row: -(row.rank["fused"] or DEPTH + 1))
    header = ("question", "expected", "found first", "dense", "bm25", "fused")
    parts.append(Table("Questions not answered first", header, [_lost(row) for row in lost]))
    return Document(title="Retrieval report", facts=facts, notes=notes, parts=parts)


def generation_document(report: GenerationReport, facts: Mapping[str, str]) -> Document:
    """The generation report; `facts` name what was examined (base model, adapter, prompt)."""
    parts: list[Table | Picture] = []
    notes = [] if report.curated else [_PROVISIONAL]
    for name, figures in (("Curated", report.curated), ("Provisional", report.provisional)):
        rows = [row for row in report.rows if row.provisional == (name == "Provisional")]
        if figures is not None:
            parts += _generation_parts(name, figures, rows)
    answered = [row for row in report.rows if row.answers][:_SHOWN]
    arms = tuple(answered[0].answers) if answered else ()
    header = ("question", "reference", *(f"{arm} answers" for arm in arms))
    rows_shown = [
        (row.question, row.reference, *(row.answers[arm].text for arm in arms)) for row in answered
    ]
    if answered:
        parts.append(Table("Some answers", header, rows_shown))
    return Document(title="Generation report", facts=facts, notes=notes, parts=parts)


def gates_table(gates: Sequence[GateResult]) -> Table:
    """One line per gate."""
    rows = [
        (gate.name, "passed" if gate.passed else "BLOCKED", gate.threshold, gate.detail)
        for gate in gates
    ]
    return Table("Gates", ("gate", "result", "must be", "found"), rows)


def write_report(reports: Path, name: str, digest: str, document: Document) -> Path:
    """Write `report.html` and `report.md` to a folder named by content; returns the folder.

    Args:
        reports: `Settings.reports`.
        name: the asset, for example "retrieval_report".
        digest: the report's. What is written already is left as it is.
    """
    folder = reports / name / digest_of(digest, dict(document.facts), REPORT_VERSION)[:16]
    if not folder.exists():
        with new_folder(folder) as work:
            (work / "report.html").write_text(document.to_html(), "utf-8")
            (work / "report.md").write_text(document.to_markdown(), "utf-8")
    return folder


def show(value: Interval | float | None, decimals: int = 3) -> str:
    """A figure for a table: `0.812 [0.751, 0.868]`, `0.812`, or a dash."""
    if value is None:
        return _MISSING
    if isinstance(value, Interval):
        return f"{value.mean:.{decimals}f} [{value.low:.{decimals}f}, {value.high:.{decimals}f}]"
    return f"{value:.{decimals}f}"


def _retrieval_parts(name: str, figures: RetrievalSlice) -> list[Table | Picture]:
    title = f"{name}: {figures.items} questions"
    cutoffs = sorted(next(iter(figures.modes.values())).recall)
    header = ("", "nDCG@10", "MRR", *(f"recall@{k}" for k in cutoffs))
    rows = [
        (mode, show(shown.ndcg_at_10), show(shown.mrr), *(show(shown.recall[k]) for k in cutoffs))
        for mode, shown in figures.modes.items()
    ]
    rows += [(f"{a}, difference", show(b)) + ("",) * (len(cutoffs) + 1)
             for a, b in figures.differences.items()]  # fmt: skip
    return [
        Table(title, header, rows),
        Picture(f"{name}: nDCG@10 and recall by retrieval mode", retrieval_plot(figures)),
    ]


def _generation_parts(
    name: str, figures: GenerationSlice, rows: Sequence[GeneratedItem]
) -> list[Table | Picture]:
    title = (
        f"{name}: {figures.items} references, {figures.answered} answers; the right document "
        f"was shown for {figures.context_right:.0%}"
    )
    measures = {
        "NLL of references, nats per token": ("nll", 3),
        "ROUGE-L": ("rouge_l", 3),
        "chrF": ("chrf", 1),
        "cites the right document": ("cites_right", 3),
        "latency p50, ms": ("latency_ms_p50", 0),
        "latency p95, ms": ("latency_ms_p95", 0),
        "tokens per second": ("tokens_per_second", 1),
    }
    lines = [
        (
            label,
            *(show(_figure(arm, field), decimals) for arm in figures.arms.values()),
            show(figures.deltas.get(field), decimals),
        )
        for label, (field, decimals) in measures.items()
    ]
    table = Table(title, ("", *figures.arms, "adapter - base, 95 % interval"), lines)
    deltas = [row.nll[ADAPTER] - row.nll[BASE] for row in rows if ADAPTER in row.nll]
    return [table, Picture(f"{name}: likelihood by question", generation_plot(figures, deltas))]


def _figure(arm: ArmFigures, field: str) -> Interval | float | None:
    value: Interval | float | None = getattr(arm, field)
    return value


def _lost(row: RankedItem) -> tuple[str, ...]:
    ranks = (str(row.rank[mode] or f"> {DEPTH}") for mode in ("dense", "bm25", "fused"))
    return row.question, row.uri, row.top["fused"], *ranks
