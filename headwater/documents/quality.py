"""Great Expectations over documents and chunks: what must hold before anything is built on them.

Suites are data: an expectation's class and its arguments. A failed expectation of severity
"warning" is reported and blocks nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.duplicates import survivors
from headwater.lake import SCHEMAS, Lake

#: As many failing rows are reported, over all expectations of a suite.
MAX_FAILING_ROWS = 20
_SHA256 = r"^[0-9a-f]{64}$"

Expectation = tuple[str, dict[str, Any]]

DOCUMENTS: tuple[Expectation, ...] = (
    ("ExpectTableRowCountToBeBetween", {"min_value": 1}),
    ("ExpectColumnValuesToNotBeNull", {"column": "uri"}),
    ("ExpectColumnValuesToBeUnique", {"column": "uri"}),
    ("ExpectColumnValuesToMatchRegex", {"column": "uri", "regex": r"^[A-Za-z][\w+.-]*://"}),
    ("ExpectColumnValuesToMatchRegex", {"column": "shard", "regex": r"^[0-9a-f]{2}$"}),
    ("ExpectColumnValueLengthsToBeBetween", {"column": "title", "min_value": 1, "max_value": 160}),
    ("ExpectColumnValuesToBeBetween", {"column": "characters", "min_value": 1}),
    ("ExpectColumnValuesToMatchRegex", {"column": "language", "regex": r"^[a-z]{2,3}$"}),
    ("ExpectColumnValuesToMatchRegex", {"column": "digest", "regex": _SHA256}),
    ("ExpectColumnValuesToMatchRegex", {"column": "input_digest", "regex": _SHA256}),
    (
        "ExpectColumnValuesToBeBetween",
        {"column": "unreadable_share", "max_value": 0.01, "severity": "warning"},
    ),
)
CHUNKS: tuple[Expectation, ...] = (
    ("ExpectTableRowCountToBeBetween", {"min_value": 1}),
    ("ExpectColumnValuesToNotBeNull", {"column": "id"}),
    ("ExpectColumnValuesToBeUnique", {"column": "id"}),
    ("ExpectColumnValuesToNotBeNull", {"column": "uri"}),
    ("ExpectColumnValuesToBeInSet", {"column": "document_exists", "value_set": [True]}),
    (
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": "end", "column_B": "start"},
    ),
    ("ExpectColumnValuesToBeInSet", {"column": "gap_before", "value_set": [0]}),
    ("ExpectColumnValueLengthsToBeBetween", {"column": "text", "min_value": 1}),
    ("ExpectColumnValuesToMatchRegex", {"column": "embed_digest", "regex": _SHA256}),
    ("ExpectColumnValuesToMatchRegex", {"column": "digest", "regex": _SHA256}),
)
COVERAGE: tuple[Expectation, ...] = (
    ("ExpectColumnValuesToBeInSet", {"column": "uncovered_bytes", "value_set": [0]}),
)


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


def validate_documents(lake: Lake) -> QualityResult:
    """Validate all of `clean_documents`; texts are measured a shard at a time."""
    columns = ["uri", "shard", "title", "language", "input_digest", "digest", "text"]

    def measured(table: pa.Table) -> pa.Table:
        characters = pc.utf8_length(table["text"])
        unreadable = pc.count_substring(table["text"], "\ufffd")
        share = pc.divide(unreadable.cast(pa.float64()), pc.max_element_wise(characters, 1))
        table = table.drop_columns(["text"]).append_column("characters", characters)
        return table.append_column("unreadable_share", share)

    return _validate("documents", _by_shard(lake, "clean_documents", columns, measured), DOCUMENTS)


def validate_chunks(lake: Lake, max_tokens: int = 254) -> QualityResult:
    """Validate all of `document_shards`: bounds, and that the spans join to whole documents.

    Args:
        max_tokens: the bound that chunks were made with.
    """
    columns = ["id", "uri", "ordinal", "start", "end", "text", "tokens", "embed_digest", "digest"]

    def light(table: pa.Table) -> pa.Table:
        # Of a text it is asked whether there is any.
        begun = pc.utf8_slice_codeunits(table["text"], 0, 1)
        return table.set_column(columns.index("text"), "text", begun)

    table = _by_shard(lake, "document_shards", columns, light)
    table = table.sort_by([("uri", "ascending"), ("ordinal", "ascending")])
    documents = _coverage(lake, table)
    exists = pc.is_in(table["uri"], documents["uri"].combine_chunks())
    table = table.append_column("document_exists", exists).append_column("gap_before", _gaps(table))
    bound = {"column": "tokens", "min_value": 1, "max_value": max_tokens}
    chunks = _validate("chunks", table, (*CHUNKS, ("ExpectColumnValuesToBeBetween", bound)))
    coverage = _validate("coverage", documents, COVERAGE)
    return QualityResult(
        success=chunks.success and coverage.success,
        expectations=chunks.expectations + coverage.expectations,
        failing_rows=(chunks.failing_rows + coverage.failing_rows)[:MAX_FAILING_ROWS],
        statistics={**chunks.statistics, "documents": documents.num_rows},
    )


def _by_shard(
    lake: Lake, name: str, columns: list[str], make: Callable[[pa.Table], pa.Table]
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


def _validate(name: str, table: pa.Table, expectations: Sequence[Expectation]) -> QualityResult:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe(name).get_batch(
        batch_parameters={"dataframe": table.to_pandas()}
    )
    suite = gx.ExpectationSuite(name=name)
    for kind, arguments in expectations:
        suite.add_expectation(getattr(gx.expectations, kind)(**arguments))
    outcome = batch.validate(
        suite,
        result_format={"result_format": "SUMMARY", "unexpected_index_column_names": ["uri"]},
    )
    summaries, failing = [], list[dict[str, Any]]()
    for result in outcome.results:
        summary, rows = _summary(result.to_json_dict())
        summaries.append(summary)
        failing += rows
    return QualityResult(
        success=all(entry["success"] or entry["severity"] == "warning" for entry in summaries),
        expectations=summaries,
        failing_rows=failing[:MAX_FAILING_ROWS],
        statistics={"rows": table.num_rows, **outcome.statistics},
    )


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
