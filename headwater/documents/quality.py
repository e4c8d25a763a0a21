"""Great Expectations over documents and chunks: what must hold before anything is built on them.

What is asked is in files (`headwater.documents.suites`); here are the tables that it is asked of, and
what a failure names. One that is to warn is reported and blocks nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.duplicates import survivors
from headwater.documents.suites import Expectation, Suite, load_suite
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.tables import SCHEMAS

#: As many failing rows are reported, over all expectations of a suite.
MAX_FAILING_ROWS = 20
#: Read of `clean_documents` for the table that a suite is asked of.
DOCUMENT_COLUMNS = (
    "uri", "source", "shard", "title", "language", "licence", "headings", "input_digest", "digest",
    "text",
)  # fmt: skip
#: The chunks of a document cover all of its text: what an index is believed for, so no choice.
_COVERAGE = Expectation.model_validate(
    {"expect": "ExpectColumnValuesToBeInSet", "column": "uncovered_bytes", "value_set": [0]}
)
_CLASSES = "https://greatexpectations.io/expectations"


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityResult:
    """The outcome of a suite.

    `expectations` has one entry each: `expectation`, `column`, `success`, `severity`,
    `unexpected` (rows), `detail`. `failing_rows` names at most `MAX_FAILING_ROWS` of them by
    `uri`, `column` and `value`.
    """

    success: bool
    expectations: list[dict[str, Any]]
    failing_rows: list[dict[str, Any]]
    statistics: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What fails of a suite that quarantines: single documents, by URI, and all together."""

    documents: dict[str, str]
    together: list[str]


def validate_documents(lake: Lake, suite: Suite | None = None) -> QualityResult:
    """Validate all of `clean_documents`; texts are measured a shard at a time.

    Args:
        suite: default the shipped one. What it has quarantined was asked of each shard before.
    """
    checked = (suite or load_suite("documents")).checked

    def measured(table: pa.Table) -> pa.Table:
        return document_table(table, checked)

    return _validate(checked, _by_shard(lake, "clean_documents", DOCUMENT_COLUMNS, measured))


def validate_chunks(lake: Lake, max_tokens: int = 254, suite: Suite | None = None) -> QualityResult:
    """Validate all of `document_shards`: bounds, and that the spans join to whole documents.

    Args:
        max_tokens: the bound that chunks were made with.
        suite: default the shipped one.
    """
    columns = ["id", "uri", "source", "ordinal", "start", "end", "text", "tokens", "embed_digest"]
    asked = suite or load_suite("chunks")
    # Headwater's own expectation of a text is that there is any: its first character tells.
    whole_texts = len(asked.entries) > len(load_suite("chunks").entries) and asked.names("text")

    def light(table: pa.Table) -> pa.Table:
        if whole_texts:
            return table
        begun = pc.utf8_slice_codeunits(table["text"], 0, 1)
        return table.set_column(columns.index("text"), "text", begun)

    table = _by_shard(lake, "document_shards", [*columns, "digest"], light)
    table = table.sort_by([("uri", "ascending"), ("ordinal", "ascending")])
    documents = _coverage(lake, table)
    exists = pc.is_in(table["uri"], documents["uri"].combine_chunks())
    table = table.append_column("document_exists", exists).append_column("gap_before", _gaps(table))
    bound = Expectation.model_validate(
        {
            "expect": "ExpectColumnValuesToBeBetween", "column": "tokens",
            "min_value": 1, "max_value": max_tokens,
        }
    )  # fmt: skip
    bounded = Suite("chunks", (*asked.entries, ("the bound on tokens", bound)))
    chunks = _validate(bounded, table)
    whole = Suite("chunks", (("the coverage of documents", _COVERAGE),))
    coverage = _validate(whole, documents)
    return QualityResult(
        success=chunks.success and coverage.success,
        expectations=chunks.expectations + coverage.expectations,
        failing_rows=(chunks.failing_rows + coverage.failing_rows)[:MAX_FAILING_ROWS],
        statistics={**chunks.statistics, "documents": documents.num_rows},
    )


def document_table(table: pa.Table, suite: Suite) -> pa.Table:
    """Rows of `clean_documents` (`DOCUMENT_COLUMNS`) as the table that a suite is asked of."""
    text, characters = table["text"], pc.utf8_length(table["text"])
    unreadable = pc.count_substring(text, "\ufffd")
    share = pc.divide(unreadable.cast(pa.float64()), pc.max_element_wise(characters, 1))
    asked = table.drop_columns(["text", "headings"]).append_column("characters", characters)
    asked = asked.append_column("unreadable_share", share)
    if suite.names("headings"):
        asked = asked.append_column("headings", pc.list_value_length(table["headings"]))
    if suite.names("words"):
        asked = asked.append_column("words", pc.count_substring_regex(text, r"\S+"))
    return asked


def broken(suite: Suite, table: pa.Table) -> Broken:
    """What of a shard's documents (`document_table`) fails a suite that quarantines.

    Raises:
        HeadwaterError: an expectation cannot be asked of this table.
    """
    documents: dict[str, str] = {}
    together: list[str] = []
    for outcome in _outcomes(suite, table, "COMPLETE"):
        for result in outcome.results:
            if result.success:
                continue
            if not result.result:
                raise HeadwaterError(
                    f"{result.expectation_config.meta['place']} could not be asked of the documents:"
                    f" {_fault(result.exception_info)}.",
                    mend="Correct its arguments.",
                )
            found = result.to_json_dict()
            summary, _ = _summary(found)
            named = " on ".join(filter(None, (summary["expectation"], summary["column"])))
            rows = found["result"].get("unexpected_index_list")
            if rows is None:
                together.append(f"{named}: {summary['observed']}")
            for row in rows or ():
                documents.setdefault(str(row["uri"]), named)
    return Broken(documents=documents, together=together)


def _by_shard(
    lake: Lake, name: str, columns: Sequence[str], make: Callable[[pa.Table], pa.Table]
) -> pa.Table:
    """What is made of each shard of a table, in one: texts of one shard are in memory at a time."""
    stored = lake.snapshot(name)
    empty = make(pa.schema([SCHEMAS[name].field(each) for each in columns]).empty_table())
    parts = (make(stored.partition(shard, columns)) for shard in sorted(stored.files))
    return pa.concat_tables([empty, *parts])


def _coverage(lake: Lake, chunks: pa.Table) -> pa.Table:
    """For each document that is no duplicate the bytes of its text that no chunk covers."""

    def measured(table: pa.Table) -> pa.Table:
        return table.set_column(1, "bytes", pc.binary_length(table["text"]))

    documents = _by_shard(lake, "clean_documents", ["uri", "text"], measured)
    left_out = pa.array(list(survivors(lake)), pa.string())
    documents = documents.filter(pc.invert(pc.is_in(documents["uri"], left_out)))
    covered: Counter[str] = Counter()
    for row in chunks.select(["uri", "start", "end"]).to_pylist():
        covered[row["uri"]] += row["end"] - row["start"]
    lengths = documents["bytes"].to_pylist()
    uris = documents["uri"].to_pylist()
    missing = [length - covered[uri] for uri, length in zip(uris, lengths, strict=True)]
    return pa.table({"uri": documents["uri"], "uncovered_bytes": pa.array(missing, pa.int64())})


def _gaps(chunks: pa.Table) -> pa.Array:
    """Bytes between each chunk and the one before it in its document (rows sorted)."""
    gaps, uri, end = [], None, 0
    for row in chunks.select(["uri", "start", "end"]).to_pylist():
        gaps.append(row["start"] - (end if row["uri"] == uri else 0))
        uri, end = row["uri"], row["end"]
    return pa.array(gaps, pa.int64())


def _validate(suite: Suite, table: pa.Table) -> QualityResult:
    summaries, failing, statistics = [], list[dict[str, Any]](), Counter[str]()
    for outcome in _outcomes(suite, table, "SUMMARY"):
        for result in outcome.results:
            summary, rows = _summary(result.to_json_dict())
            summaries.append(summary)
            failing += rows
        for name in ("evaluated_expectations", "successful_expectations"):
            statistics[name] += outcome.statistics[name]
    return QualityResult(
        success=all(entry["success"] or entry["severity"] == "warning" for entry in summaries),
        expectations=summaries,
        failing_rows=failing[:MAX_FAILING_ROWS],
        statistics={"rows": table.num_rows, **statistics},
    )


def _outcomes(suite: Suite, table: pa.Table, form: str) -> Iterator[Any]:
    """What comes out for all sources, and then for each choice of them.

    Sources of which there are no rows are asked nothing.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    by_sources: dict[tuple[str, ...], list[tuple[str, Expectation]]] = {}
    for place, entry in suite.entries:
        by_sources.setdefault(entry.sources, []).append((place, entry))
    for number, (sources, entries) in enumerate(by_sources.items()):
        rows = table
        if sources:
            rows = table.filter(pc.is_in(table["source"], pa.array(sources, pa.string())))
            if not rows.num_rows:
                continue
        name = f"{suite.name}_{number}"
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch(
            batch_parameters={"dataframe": rows.to_pandas()}
        )
        asked = gx.ExpectationSuite(name=name)
        for place, entry in entries:
            asked.add_expectation(_built(gx, place, entry))
        yield batch.validate(
            asked,
            result_format={"result_format": form, "unexpected_index_column_names": ["uri"]},
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


def _summary(result: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One expectation's entry, and the rows that failed it."""
    config, found = result["expectation_config"], result["result"]
    arguments = dict(config["kwargs"])
    arguments.pop("batch_id", None)
    column = arguments.pop("column", None) or arguments.get("column_A", "")
    error = result["exception_info"].get("exception_message") or ""
    summary = {
        "expectation": config["type"],
        "column": column,
        "arguments": arguments,
        "success": bool(result["success"]),
        "severity": str(config.get("severity") or "critical"),
        "unexpected": int(found.get("unexpected_count") or 0),
        "observed": found.get("observed_value"),
        "detail": error,
    }
    if result["success"]:
        return summary, []
    rows = [
        {"uri": str(row["uri"]), "column": column, "value": str(row.get(column, row["uri"]))[:200]}
        for row in found.get("partial_unexpected_index_list") or []
    ]
    return summary, rows or [
        {"uri": "", "column": column, "value": str(found.get("observed_value"))}
    ]
