"""Reports on disk: the latest ones, which the release stage judges, and those that releases name.

Only the rows are kept; figures are aggregated from them again, so they cannot disagree.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from headwater.errors import HeadwaterError, IntegrityError
from headwater.evaluation.generation import (
    GENERATION_REPORT_VERSION,
    Answer,
    GeneratedItem,
    GenerationReport,
    report_of,
)
from headwater.evaluation.retrieval import RETRIEVAL_REPORT_VERSION, RankedItem, RetrievalReport
from headwater.evaluation.retrieval import report_of as retrieval_report_of
from headwater.files import read_json, write_json
from headwater.settings import Settings

_Report = TypeVar("_Report", RetrievalReport, GenerationReport)
RETRIEVAL, GENERATION = "retrieval_report", "generation_report"
#: Seconds that a kept report is left alone though no release names it: a run may be about to.
GRACE = 24 * 3600


def save(
    settings: Settings,
    name: str,
    report: RetrievalReport | GenerationReport,
    *,
    index: str = "",
    adapter: str = "",
    base: str = "",
    prompt: str = "",
    retrieval: str = "",
) -> None:
    """Keep a report as the latest of its name, with what it judges by name or digest.

    Args:
        retrieval: digest of the settings by which passages were found.
    """
    write_json(
        settings.reports / name / "latest.json",
        {
            "digest": report.digest,
            "index": index,
            "adapter": adapter,
            "base": base,
            "prompt": prompt,
            "retrieval": retrieval,
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


def judged_base(settings: Settings) -> str:
    """Digest of the base model that the latest generation report judges; empty in an old one."""
    return str(_saved(settings, GENERATION).get("base", ""))


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


def check_found_by(settings: Settings, retrieval: str) -> None:
    """Refuse to release passages that are found in another way than the latest reports judge.

    Reports from before there were rerankers do not say.

    Args:
        retrieval: digest of the retrieval settings of a candidate.

    Raises:
        HeadwaterError: a report judges others.
    """
    for name in (RETRIEVAL, GENERATION):
        if _saved(settings, name).get("retrieval") not in (None, "", retrieval):
            raise HeadwaterError(
                f"The latest {name} judges passages that were found by other settings.",
                mend="Run `headwater build`, which makes it anew.",
            )


def keep(settings: Settings, report: RetrievalReport | GenerationReport) -> str:
    """Keep a report's rows under its digest, which is returned, for a release to name."""
    is_retrieval = isinstance(report, RetrievalReport)
    digest = report.digest
    path = _kept(settings, RETRIEVAL if is_retrieval else GENERATION, digest)
    if path.exists():
        path.touch()  # it is new again: `prune` must leave it to who named it now
    else:
        version = RETRIEVAL_REPORT_VERSION if is_retrieval else GENERATION_REPORT_VERSION
        write_json(path, {"version": version, "rows": [asdict(row) for row in report.rows]})
    return digest


def kept_retrieval(settings: Settings, digest: str) -> tuple[RankedItem, ...] | None:
    """The rows of a kept retrieval report; None where it is gone or of another version.

    Raises:
        IntegrityError: its content is not what its digest names.
    """
    report = _read_kept(settings, RETRIEVAL, digest, RETRIEVAL_REPORT_VERSION, _bare_retrieval)
    return None if report is None else report.rows


def kept_generation(settings: Settings, digest: str) -> tuple[GeneratedItem, ...] | None:
    """The rows of a kept generation report; None where it is gone or of another version.

    Raises:
        IntegrityError: its content is not what its digest names.
    """
    report = _read_kept(settings, GENERATION, digest, GENERATION_REPORT_VERSION, _bare_generation)
    return None if report is None else report.rows


def prune(settings: Settings, named: Collection[str]) -> int:
    """Remove kept reports that no release names, younger than `GRACE` excepted; how many."""
    removed = 0
    for name in (RETRIEVAL, GENERATION):
        for path in (settings.reports / name / "kept").glob("*.json"):
            if path.stem not in named and time.time() - path.stat().st_mtime > GRACE:
                path.unlink()
                removed += 1
    return removed


def _kept(settings: Settings, name: str, digest: str) -> Path:
    return settings.reports / name / "kept" / f"{digest}.json"


def _read_kept(
    settings: Settings,
    name: str,
    digest: str,
    version: int,
    of_rows: Callable[[Iterable[Mapping[str, Any]]], _Report],
) -> _Report | None:
    path = _kept(settings, name, digest)
    saved = read_json(path)
    if saved is None or saved["version"] != version:
        return None
    report = of_rows(saved["rows"])
    if report.digest != digest:
        raise IntegrityError(
            f"{path} is not the report that its name says.",
            mend="Delete it: the next candidate is then not compared with this report.",
        )
    return report


def _bare_retrieval(rows: Iterable[Mapping[str, Any]]) -> RetrievalReport:
    """The rows without their figures, which a digest is not made of."""
    found = tuple(RankedItem(**row) for row in rows)
    return RetrievalReport(curated=None, provisional=None, rows=found)


def _bare_generation(rows: Iterable[Mapping[str, Any]]) -> GenerationReport:
    """As above."""
    found = tuple(_generated(row) for row in rows)
    return GenerationReport(curated=None, provisional=None, rows=found)


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
