"""Expectations over documents and chunks: what must hold before anything is built on them.

What is asked is in files (`headwater.documents.suites`), and how of shards in
`headwater.documents.asked`; here are the tables that it is asked of. What need not be asked again is
told by what held before (`headwater.documents.asked_before`). An expectation that is to warn blocks
nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.asked import Asking, Part, QualityResult, ShardedTable, result_of
from headwater.documents.asked_before import Memory
from headwater.documents.asking import ask, described
from headwater.documents.changes import changed
from headwater.documents.chunk_rows import AS_STORED, COMPARED, COVERAGE, OF_CHUNKS, Chunks
from headwater.documents.figures import NAMED, Figures, figures_of
from headwater.documents.rest import Before
from headwater.documents.suites import Expectation, Suite, load_suite
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.snapshot import MAKERS, Snapshot, read_ahead

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
#: The chunks of a document cover all of its text: what an index is believed for, so no choice.
_COVERAGE = Expectation.model_validate(
    {"expect": "ExpectColumnValuesToBeInSet", "column": "uncovered_bytes", "value_set": [0]}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What fails of a suite that quarantines: single documents, by URI, and all together."""

    documents: dict[str, str]
    together: list[str]


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
    memory = Memory(lake, "documents", [stored], checked)
    if (outcome_before := memory.result()) is not None:
        return outcome_before
    documents = _Documents(lake, stored, checked)
    table = ShardedTable(
        sizes={shard: stored.sizes[shard] for shard in sorted(stored.files)},
        columns=_document_columns(checked),
        identity="uri",
        rows=documents.rows,
        most=most,
        stored=stored,
        as_stored=_AS_STORED,
    )
    at_rest = memory.at_rest(table.sizes)
    awake = [shard for shard in table.sizes if shard not in at_rest]
    before = memory.before(awake)
    asking = Asking(checked, table, at_rest, apart=bool(before))

    def part(shard: str) -> Part:
        return documents.part(shard, asking.columns, before.get(shard))

    for shard, rows in read_ahead(part, awake, readers=MAKERS):
        asking.add(shard, rows)
    outcome = asking.outcome()
    result = result_of([outcome], table.sizes, at_rest)
    memory.keep(result, outcome.counts, outcome.statuses)
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
    chunks = Chunks(lake, asked)
    out = {shard: sorted(uris) for shard, uris in chunks.left_out.items()}
    memory = Memory(lake, "chunks", [chunks.stored, chunks.documents], bounded, out)
    if (outcome_before := memory.result()) is not None:
        return outcome_before
    most = most or (BATCH_TEXTS if chunks.whole_texts else BATCH_ROWS)
    table = ShardedTable(
        sizes={shard: chunks.stored.sizes[shard] for shard in chunks.shards},
        columns=(*OF_CHUNKS, *COMPARED),
        identity="id",
        rows=chunks.rows,
        most=most,
        stored=chunks.stored,
        as_stored=AS_STORED,
        order=("uri", "ordinal"),
    )
    covered = ShardedTable(
        sizes={shard: chunks.documents.sizes[shard] for shard in chunks.shards},
        columns=COVERAGE,
        identity="uri",
        rows=lambda shard, _: chunks.coverage(shard),
        most=most,
        stored=chunks.documents,
        as_stored=("uri",),
    )
    at_rest = memory.at_rest(table.sizes)
    awake = [shard for shard in table.sizes if shard not in at_rest]
    before = memory.before(awake)
    asking = Asking(bounded, table, at_rest, apart=bool(before))
    whole = Suite("chunks", (("the coverage of documents", _COVERAGE),))
    of_coverage = Asking(whole, covered, at_rest, apart=bool(before))

    def parts(shard: str) -> tuple[Part, Part]:
        return chunks.parts(shard, asking.columns, before.get(shard))

    for shard, (rows, uncovered) in read_ahead(parts, awake, readers=MAKERS):
        asking.add(shard, rows)
        of_coverage.add(shard, uncovered)
    outcome, coverage = asking.outcome(), of_coverage.outcome()
    for shard, counts in outcome.counts.items():
        counts["documents"] = coverage.counts[shard]["rows"]
    result = result_of([outcome, coverage], table.sizes, at_rest)
    documents = sum(each["documents"] for each in (*outcome.counts.values(), *at_rest.values()))
    result = replace(result, statistics={**result.statistics, "documents": documents})
    memory.keep(result, outcome.counts, outcome.statuses.keys() | coverage.statuses.keys())
    return result


class _Documents:
    """`clean_documents` as a suite is asked of it, a shard at a time."""

    def __init__(self, lake: Lake, stored: Snapshot, suite: Suite) -> None:
        self._stored = stored
        self._figures = Figures(lake, stored, words=suite.names("words"))

    def rows(self, shard: str, columns: Collection[str]) -> pa.Table:
        """All documents of a shard."""
        named = NAMED if set(_MEASURED) & set(columns) else ()
        table = self._stored.partition(
            shard, [each for each in _AS_STORED if each in {*columns, *named}]
        )
        return self._measured(shard, table, None, columns)

    def part(self, shard: str, columns: Collection[str], before: Before | None) -> Part:
        """The documents of a shard that are asked of: where it held, those that are others now."""
        then = None
        if before is not None:
            (files,) = before.files
            then = self._stored.earlier(shard, files, _AS_STORED)
        if then is not None:
            now = self._stored.partition(shard, _AS_STORED)
            mine = pc.is_in(now["uri"], value_set=changed(then, now, "uri"))
            return Part(rows=self._measured(shard, now, mine, columns), every=now)
        rows = self.rows(shard, columns)
        return Part(rows=rows, every=rows)

    def _measured(
        self,
        shard: str,
        table: pa.Table,
        chosen: pa.ChunkedArray | None,
        columns: Collection[str],
    ) -> pa.Table:
        """Rows with the columns that are asked of, those of their texts too.

        Args:
            table: of the whole shard.
            chosen: which of its rows; None is all.
        """
        rows = table if chosen is None else table.filter(chosen)
        stored = rows.select([each for each in _AS_STORED if each in columns])
        if not set(_MEASURED) & set(columns):
            return stored
        if not rows.num_rows:
            return _with_figures(stored, self._figures.of(""), columns)
        figures = self._figures.of(shard, table)
        return _with_figures(stored, figures if chosen is None else figures.filter(chosen), columns)


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
