"""The latest reports on disk: what the release stage judges, and `headwater status` shows.

Only the rows are kept; figures are aggregated from them again, so they cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from headwater.errors import HeadwaterError
from headwater.evaluation.generation import Answer, GeneratedItem, GenerationReport, report_of
from headwater.evaluation.retrieval import RankedItem, RetrievalReport
from headwater.evaluation.retrieval import report_of as retrieval_report_of
from headwater.files import read_json, write_json
from headwater.settings import Settings

RETRIEVAL, GENERATION = "retrieval_report", "generation_report"


def save(settings: Settings, name: str, report: RetrievalReport | GenerationReport) -> None:
    """Keep a report as the latest of its name."""
    write_json(
        settings.reports / name / "latest.json",
        {"digest": report.digest, "rows": [asdict(row) for row in report.rows]},
    )


def latest_retrieval(settings: Settings) -> RetrievalReport:
    """The retrieval report that was saved last.

    Raises:
        HeadwaterError: there is none yet.
    """
    return retrieval_report_of([RankedItem(**row) for row in _rows(settings, RETRIEVAL)])


def latest_generation(settings: Settings) -> GenerationReport:
    """The generation report that was saved last.

    Raises:
        HeadwaterError: there is none yet.
    """
    return report_of([_generated(row) for row in _rows(settings, GENERATION)])


def _generated(row: Mapping[str, Any]) -> GeneratedItem:
    answers = {arm: Answer(**answer) for arm, answer in row["answers"].items()}
    return GeneratedItem(**{**row, "answers": answers})


def _rows(settings: Settings, name: str) -> list[dict[str, Any]]:
    saved = read_json(settings.reports / name / "latest.json")
    if saved is None:
        raise HeadwaterError(f"There is no {name} yet.", mend="Run `headwater build`.")
    rows: list[dict[str, Any]] = saved["rows"]
    return rows
