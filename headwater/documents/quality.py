"""Expectations over documents and chunks: what must hold before anything is built on them.

What is asked is in files (`headwater.documents.suites`), and how of shards in
`headwater.documents.asked`; here are the tables that it is asked of, and what need not be asked again.
An expectation that is to warn blocks nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.asked import (
    HELD_BEFORE,
    QualityResult,
    ShardedTable,
    ask_shards,
    result_of,
)
from headwater.documents.asking import ask, described, engine
from headwater.documents.duplicates import left_out_by_shard
from headwater.documents.figures import Figures, figures_of
from headwater.documents.rest import Rest
from headwater.documents.suites import Expectation, Suite, load_suite
from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.lake import Lake, Snapshot
from headwater.records import digest_of

QUALITY_VERSION = "quality/1"
#: Rows that are asked of together: enough that a small corpus is asked once, since each time costs some
#: tenths of a second. Of whole texts fewer.
BATCH_ROWS, BATCH_TEXTS = 50_000, 10_000
#: Columns of `clean_documents` that are asked of as they are, and those that take its text.
_AS_STORED = (
    "uri", "source", "shard", "title", "language", "licence", "input_digest", "digest",
)  # fmt: skip
_MEASURED = ("characters", "unreadable_share", "headings", "words")
#: Read of `clean_documents` for the table that a suite is asked of.
DOCUMENT_COLUMNS = (*_AS_STORED, "headings", "text")
#: Columns of `document_shards` that are asked of, and those that compare a chunk with others.
_OF_CHUNKS = (
    "id", "uri", "source", "ordinal", "start", "end", "text", "tokens", "embed_digest", "digest",
)  # fmt: skip
_COMPARED = ("document_exists", "gap_before")
#: The chunks of a document cover all of its text: what an index is believed for, so no choice.
_COVERAGE = Expectation.model_validate(
    {"expect": "ExpectColumnValuesToBeInSet", "column": "uncovered_bytes", "value_set": [0]}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What fails of a suite that quarantines: single documents, by URI, and all together."""

    documents: dict[str, str]
    together: list[str]


class _Memory:
    """Which shards held when they were last asked, and the outcome where all of them did."""

    def __init__(
        self,
        lake: Lake,
        name: str,
        reads: Sequence[Snapshot],
        suite: Suite,
        of_shard: Mapping[str, Any] | None = None,
    ) -> None:
        made_with = [QUALITY_VERSION, engine(), suite.digest]
        self._path = lake.root / ".rest" / f"{name}_asked.json"
        self._key = digest_of(made_with, dict(of_shard or {}), [table.files for table in reads])
        self._rest = Rest(lake, [], reads, made_with, of_shard, name=f"{name}_checked")

    def result(self) -> QualityResult | None:
        """The outcome, where nothing has changed since everything held."""
        before = read_json(self._path)
        if before is None or before["key"] != self._key:
            return None
        return QualityResult(**before["result"])

    def at_rest(self, shards: Iterable[str]) -> dict[str, dict[str, int]]:
        """What was counted of the shards that need not be asked."""
        found = {shard: self._rest.counts(shard) for shard in shards}
        return {shard: counts for shard, counts in found.items() if counts is not None}

    def keep(self, result: QualityResult, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Remember the shards that held, with what was counted of them."""
        self._rest.keep(counts)
        if all(entry["success"] for entry in result.expectations):
            shards = [entry | {"status": HELD_BEFORE} for entry in result.shards]
            kept = asdict(replace(result, shards=shards))
            write_json(self._path, {"key": self._key, "result": kept})


def validate_documents(
    lake: Lake, suite: Suite | None = None, *, most: int = BATCH_ROWS
) -> QualityResult:
    """Validate all of `clean_documents`; texts are read a shard at a time, and where they changed.

    Args:
        suite: default the shipped one. What it has quarantined was asked of each shard before.
        most: rows that are asked of together.
    """
    checked = (suite or load_suite("documents")).checked
    stored = lake.snapshot("clean_documents")
    memory = _Memory(lake, "documents", [stored], checked)
    if (before := memory.result()) is not None:
        return before
    figures = Figures(lake, stored, words=checked.names("words"))

    def rows(shard: str, columns: Collection[str]) -> pa.Table:
        table = stored.partition(shard, [each for each in _AS_STORED if each in columns])
        if not set(_MEASURED) & set(columns):
            return table
        return _with_figures(table, figures.of(shard, table["uri"]), columns)

    table = ShardedTable(
        sizes={shard: stored.sizes[shard] for shard in sorted(stored.files)},
        columns=_document_columns(checked),
        identity="uri",
        rows=rows,
        most=most,
        stored=stored,
        as_stored=_AS_STORED,
    )
    at_rest = memory.at_rest(table.sizes)
    outcome = ask_shards(checked, table, at_rest)
    result = result_of([outcome], table.sizes, at_rest)
    held = {s: of for s, of in outcome.counts.items() if s not in outcome.statuses}
    memory.keep(result, held)
    return result


def validate_chunks(
    lake: Lake,
    max_tokens: int = 254,
    suite: Suite | None = None,
    *,
    most: int | None = None,
) -> QualityResult:
    """Validate all of `document_shards`: bounds, and that the spans join to whole documents.

    A chunk lives in the shard of its document, so a shard is judged by itself.

    Args:
        max_tokens: the bound that chunks were made with.
        suite: default the shipped one.
        most: rows that are asked of together.
    """
    asked = suite or load_suite("chunks")
    bound = Expectation.model_validate(
        {
            "expect": "ExpectColumnValuesToBeBetween", "column": "tokens",
            "min_value": 1, "max_value": max_tokens,
        }
    )  # fmt: skip
    bounded = Suite("chunks", (*asked.entries, ("the bound on tokens", bound)))
    chunks = _Chunks(lake, asked)
    out = {shard: digest_of(sorted(uris)) for shard, uris in chunks.left_out.items()}
    memory = _Memory(lake, "chunks", [chunks.stored, chunks.documents], bounded, out)
    if (before := memory.result()) is not None:
        return before
    most = most or (BATCH_TEXTS if chunks.whole_texts else BATCH_ROWS)
    table = ShardedTable(
        sizes={shard: chunks.stored.sizes[shard] for shard in chunks.shards},
        columns=(*_OF_CHUNKS, *_COMPARED),
        identity="id",
        rows=chunks.rows,
        most=most,
        stored=chunks.stored,
        as_stored=tuple(each for each in _OF_CHUNKS if each != "text"),
        order=("uri", "ordinal"),
    )
    covered = ShardedTable(
        sizes={shard: chunks.documents.sizes[shard] for shard in chunks.shards},
        columns=("uri", "uncovered_bytes"),
        identity="uri",
        rows=lambda shard, _: chunks.coverage(shard),
        most=most,
        stored=chunks.documents,
        as_stored=("uri",),
    )
    at_rest = memory.at_rest(table.sizes)
    outcome = ask_shards(bounded, table, at_rest)
    whole = Suite("chunks", (("the coverage of documents", _COVERAGE),))
    coverage = ask_shards(whole, covered, at_rest)
    for shard, counts in outcome.counts.items():
        counts["documents"] = coverage.counts[shard]["rows"]
    result = result_of([outcome, coverage], table.sizes, at_rest)
    documents = sum(each["documents"] for each in (*outcome.counts.values(), *at_rest.values()))
    result = replace(result, statistics={**result.statistics, "documents": documents})
    broken_shards = outcome.statuses.keys() | coverage.statuses.keys()
    memory.keep(result, {s: of for s, of in outcome.counts.items() if s not in broken_shards})
    return result


class _Chunks:
    """`document_shards` beside the documents that its chunks are of, a shard at a time."""

    def __init__(self, lake: Lake, suite: Suite) -> None:
        self.stored = lake.snapshot("document_shards")
        self.documents = lake.snapshot("clean_documents")
        self.shards = sorted({*self.stored.files, *self.documents.files})
        self.left_out = left_out_by_shard(lake, self.shards)
        # Headwater's own expectation of a text is that there is any: its first character tells.
        shipped = len(load_suite("chunks").entries)
        self.whole_texts = len(suite.entries) > shipped and suite.names("text")
        self._figures = Figures(lake, self.documents)

    def rows(self, shard: str, columns: Collection[str]) -> pa.Table:
        """The chunks of a shard, by document and place in it."""
        wanted = {*columns, "uri", "ordinal"}
        if "gap_before" in wanted:
            wanted |= {"start", "end"}
        table = self.stored.partition(shard, [each for each in _OF_CHUNKS if each in wanted])
        table = table.sort_by([("uri", "ascending"), ("ordinal", "ascending")])
        if "text" in wanted and not self.whole_texts:
            begun = pc.utf8_slice_codeunits(table["text"], 0, 1)
            table = table.set_column(table.column_names.index("text"), "text", begun)
        if "document_exists" in wanted:
            known = self._documents_of(shard)["uri"].combine_chunks()
            table = table.append_column("document_exists", pc.is_in(table["uri"], known))
        if "gap_before" in wanted:
            table = table.append_column("gap_before", _gaps(table))
        return table.select([each for each in (*_OF_CHUNKS, *_COMPARED) if each in columns])

    def coverage(self, shard: str) -> pa.Table:
        """For each document that is no duplicate the bytes of its text that no chunk covers."""
        documents = self._documents_of(shard)
        covered: Counter[str] = Counter()
        for row in self.stored.partition(shard, ["uri", "start", "end"]).to_pylist():
            covered[row["uri"]] += row["end"] - row["start"]
        lengths, uris = documents["bytes"].to_pylist(), documents["uri"].to_pylist()
        missing = [length - covered[uri] for uri, length in zip(uris, lengths, strict=True)]
        return pa.table({"uri": documents["uri"], "uncovered_bytes": pa.array(missing, pa.int64())})

    def _documents_of(self, shard: str) -> pa.Table:
        documents = self._figures.of(shard).select(["uri", "bytes"])
        left_out = pa.array(sorted(self.left_out.get(shard, ())), pa.string())
        return documents.filter(pc.invert(pc.is_in(documents["uri"], left_out)))


def document_table(table: pa.Table, suite: Suite) -> pa.Table:
    """Rows of `clean_documents` (`DOCUMENT_COLUMNS`) as the table that a suite is asked of."""
    columns = _document_columns(suite)
    figures = figures_of(table, words="words" in columns)
    return _with_figures(table.select(list(_AS_STORED)), figures, columns)


def broken(suite: Suite, table: pa.Table) -> Broken:
    """What of a shard's documents (`document_table`) fails a suite that quarantines.

    Raises:
        HeadwaterError: an expectation cannot be asked of this table.
    """
    documents: dict[str, str] = {}
    together: list[str] = []
    about, answers = described(suite.entries), ask(suite.entries, table)
    for place, answer in answers.items():
        if answer.success:
            continue
        if answer.fault:
            raise HeadwaterError(
                f"{place} could not be asked of the documents: {answer.fault}.",
                mend="Correct its arguments.",
            )
        named = " on ".join(filter(None, (about[place]["expectation"], about[place]["column"])))
        if answer.rows is None:
            together.append(f"{named}: {answer.observed}")
        else:
            for uri in table["uri"].take(pa.array(answer.rows)).to_pylist():
                documents.setdefault(str(uri), named)
    return Broken(documents=documents, together=together)


def _document_columns(suite: Suite) -> tuple[str, ...]:
    """Columns of documents; two of them where they are asked of alone."""
    chosen = (each for each in ("headings", "words") if suite.names(each))
    return (*_AS_STORED, "characters", "unreadable_share", *chosen)


def _with_figures(table: pa.Table, figures: pa.Table, columns: Collection[str]) -> pa.Table:
    least = pc.max_element_wise(figures["characters"], 1)
    share = pc.divide(figures["unreadable"].cast(pa.float64()), least)
    for name in _MEASURED:
        if name in columns:
            table = table.append_column(
                name, share if name == "unreadable_share" else figures[name]
            )
    return table


def _gaps(chunks: pa.Table) -> pa.Array:
    """Bytes between each chunk and the one before it in its document (rows sorted)."""
    gaps, uri, end = [], None, 0
    for row in chunks.select(["uri", "start", "end"]).to_pylist():
        gaps.append(row["start"] - (end if row["uri"] == uri else 0))
        uri, end = row["uri"], row["end"]
    return pa.array(gaps, pa.int64())
