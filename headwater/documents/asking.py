"""Asking Great Expectations: some expectations of one table, with the numbers of the rows that fail.

Knows expectations and Arrow tables, not where rows come from nor what a failure does. A call costs
some tenths of a second, whatever the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.suites import Expectation
from headwater.errors import HeadwaterError

Entries = Sequence[tuple[str, Expectation]]
Numbers = npt.NDArray[np.int64]
_CLASSES = "https://greatexpectations.io/expectations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came out for one expectation.

    `rows` are the numbers of the rows that fail, in order; None where it is not asked of rows.
    `fault` says why it could not be asked, where it could not.
    """

    success: bool
    unexpected: int = 0
    observed: Any = None
    rows: Numbers | None = None
    fault: str = ""


def engine() -> str:
    """Names who is asked."""
    return f"great-expectations/{version('great-expectations')}"


def described(entries: Entries) -> dict[str, dict[str, Any]]:
    """What each entry asks, by its place: `expectation`, `column`, `arguments`, `severity`.

    Raises:
        HeadwaterError: Great Expectations knows no such expectation, or not with these arguments.
    """
    import great_expectations as gx

    found = {}
    for place, entry in entries:
        config = _built(gx, place, entry).configuration.to_json_dict()
        arguments = dict(config["kwargs"])
        column = arguments.pop("column", None) or arguments.get("column_A", "")
        found[place] = {
            "expectation": config["type"],
            "column": column,
            "arguments": arguments,
            "severity": str(config.get("severity") or "critical"),
        }
    return found


def ask(entries: Entries, table: pa.Table) -> dict[str, Answer]:
    """The answers by place; nothing is asked for sources of which there are no rows."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    by_sources: dict[tuple[str, ...], list[tuple[str, Expectation]]] = {}
    for place, entry in entries:
        by_sources.setdefault(entry.sources, []).append((place, entry))
    answers: dict[str, Answer] = {}
    for number, (sources, some) in enumerate(by_sources.items()):
        rows, numbers = table, np.arange(table.num_rows)
        if sources:
            chosen = pc.is_in(table["source"], pa.array(sources, pa.string()))
            rows, numbers = table.filter(chosen), np.flatnonzero(chosen.to_numpy())
            if not rows.num_rows:
                continue
        name = f"asked_{number}"
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch(
            batch_parameters={"dataframe": rows.to_pandas()}
        )
        suite = gx.ExpectationSuite(name=name)
        for place, entry in some:
            suite.add_expectation(_built(gx, place, entry))
        # Without names for rows it numbers them, which is quick however many fail.
        outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
        for result in outcome.results:
            answers[result.expectation_config.meta["place"]] = _answer(result, numbers)
    return answers


def _answer(result: Any, numbers: Numbers) -> Answer:
    found = result.result or {}
    listed = found.get("unexpected_index_list")
    result.result = {"observed_value": found.get("observed_value")}  # all that is to be plain
    return Answer(
        success=bool(result.success),
        unexpected=int(found.get("unexpected_count") or 0),
        observed=result.to_json_dict()["result"]["observed_value"],
        rows=None if listed is None else numbers[np.sort(np.array(listed, dtype=np.int64))],
        fault="" if found or result.success else _fault(result.exception_info),
    )


def _fault(info: Any) -> str:
    """What went wrong in asking, of one exception or of one a metric."""
    told = [info] if "exception_message" in info else list(info.values())
    messages = [each.get("exception_message") for each in told if isinstance(each, dict)]
    return str(next(filter(None, messages), "it has no result"))


def _built(gx: Any, place: str, entry: Expectation) -> Any:
    kind = getattr(gx.expectations, entry.expect, None)
    if kind is None:
        raise HeadwaterError(
            f"{place}: Great Expectations has no such expectation.", mend=f"See {_CLASSES}."
        )
    severity = "warning" if entry.on_failure == "warn" else "critical"
    try:
        return kind(**entry.arguments, severity=severity, meta={"place": place})
    except (TypeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise HeadwaterError(f"{place}: {told}.", mend=f"See {_CLASSES}.") from error
