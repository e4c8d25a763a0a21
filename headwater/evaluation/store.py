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


def save(
    settings: Settings,
    name: str,
    report: RetrievalReport | GenerationReport,
    *,
    index: str = "",
    adapter: str = "",
    prompt: str = "",
) -> None:
    """Keep a report as the latest of its name, with the index, adapter and prompt that it judges."""
    write_json(
        settings.reports / name / "latest.json",
        {
            "digest": report.digest,
            "index": index,
            "adapter": adapter,
            "prompt": prompt,
            "rows": [asdict(row) for row in report.rows],
        },
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


def judged_index(settings: Settings, adapter: str) -> str:
    """The index version that both latest reports judge, the second with this adapter.

    Raises:
        HeadwaterError: they judge different things, as when only one of them was made anew.
    """
    retrieval, generation = (_saved(settings, name) for name in (RETRIEVAL, GENERATION))
    if retrieval["index"] != generation["index"] or generation["adapter"] != adapter:
        raise HeadwaterError(
            "The latest reports judge different indexes, or another adapter.",
            mend="Run `headwater build`, which makes both anew.",
        )
    index: str = retrieval["index"]
    return index


def judged_prompt(settings: Settings) -> str:
    """Digest of the prompt that the latest generation report judges.

    Raises:
        HeadwaterError: the report does not say, as one from before prompts were kept.
    """
    prompt: str = _saved(settings, GENERATION).get("prompt", "")
    if not prompt:
        raise HeadwaterError(
            "The latest generation report does not name its prompt.",
            mend="Materialize generation_report again.",
        )
    return prompt


def _generated(row: Mapping[str, Any]) -> GeneratedItem:
    answers = {arm: Answer(**answer) for arm, answer in row["answers"].items()}
    return GeneratedItem(**{**row, "answers": answers})


def _rows(settings: Settings, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _saved(settings, name)["rows"]
    return rows


def _saved(settings: Settings, name: str) -> dict[str, Any]:
    saved: dict[str, Any] | None = read_json(settings.reports / name / "latest.json")
    if saved is None:
        raise HeadwaterError(f"There is no {name} yet.", mend="Run `headwater build`.")
    return saved
