"""Expectations over documents and chunks: what must hold before anything is built on them.

What is asked is in files (`headwater.documents.suites`); here are the tables that it is asked of, what
a failure names, and what need not be asked again. What each row answers for itself is asked of the
shards that are others than when they last held, some thousands of rows at a time; the rest of the
whole table, of the columns that it takes. An expectation that is to warn blocks nothing.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.asking import Answer, Entries, ask, described, engine
from headwater.documents.duplicates import left_out_by_shard
from headwater.documents.figures import Figures, figures_of
from headwater.documents.rest import Rest
from headwater.documents.suites import Expectation, Suite, load_suite
from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.lake import Lake, Snapshot
from headwater.records import digest_of

QUALITY_VERSION = "quality/1"
#: As many failing rows are reported, over all expectations of a suite.
MAX_FAILING_ROWS = 20
#: Rows that are asked of together: enough that a small corpus is asked once, since each time costs some
#: tenths of a second. Of whole texts fewer.
BATCH_ROWS, BATCH_TEXTS = 50_000, 10_000
#: What became of a shard, the worst first.
FAILS, WARNS, HOLDS, HELD_BEFORE = "fails", "warns", "holds", "held before"
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
class QualityResult:
    """The outcome of a suite.

    `expectations` has one entry each: `expectation`, `column`, `success`, `severity`,
    `unexpected` (rows), `detail`. `failing_rows` names at most `MAX_FAILING_ROWS` of them by
    `uri`, `column` and `value`. `shards` has one entry each: `shard`, `rows`, `unexpected`, `status`.
    """

    success: bool
    expectations: list[dict[str, Any]]
    failing_rows: list[dict[str, Any]]
    statistics: dict[str, Any]
    shards: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What fails of a suite that quarantines: single documents, by URI, and all together."""

    documents: dict[str, str]
    together: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """What a suite is asked of.

    Attributes:
        sizes: rows of each shard, in order.
        columns: that it has.
        identity: the column that names a row. A value may be in one shard alone.
        rows: a shard with some of the columns, its rows in an order of their own.
        most: rows that are asked of together.
        stored: where the columns `as_stored` are found as they are.
        order: the columns that rows of a shard are in the order of, where it is not that of `stored`.
    """

    sizes: dict[str, int]
    columns: tuple[str, ...]
    identity: str
    rows: Callable[[str, Collection[str]], pa.Table]
    most: int
    stored: Snapshot
    as_stored: tuple[str, ...]
    order: tuple[str, ...] = ()

    def all_of(self, columns: Sequence[str]) -> pa.Table:
        """All shards in one table."""
        parts: Iterable[pa.Table]
        if set(columns) <= set(self.as_stored):
            taken = list(dict.fromkeys([*columns, *self.order]))
            read = (rows for _, rows in self.stored.partitions(self.sizes, taken))
            by = [(name, "ascending") for name in self.order]
            parts = ((rows.sort_by(by) if by else rows).select(columns) for rows in read)
        else:
            parts = (self.rows(shard, columns) for shard in self.sizes)
        return pa.concat_tables([self.rows("", columns), *parts])

    def names(self) -> Iterator[pa.ChunkedArray]:
        """What names the rows, a shard at a time."""
        for _, rows in self.stored.partitions(self.sizes, [self.identity]):
            yield rows[self.identity]

    def groups(self, shards: Iterable[str]) -> Iterator[list[str]]:
        """Shards that are asked of together."""
        group, rows = list[str](), 0
        for shard in shards:
            if group and rows + self.sizes[shard] > self.most:
                yield group
                group, rows = [], 0
            group.append(shard)
            rows += self.sizes[shard]
        if group:
            yield group


@dataclass(slots=True)
class _Tally:
    """One expectation over all of a table."""

    success: bool = True
    unexpected: int = 0
    observed: Any = None
    fault: str = ""
    failing: list[dict[str, Any]] = field(default_factory=list)

    def add(self, answer: Answer, rows: pa.Table, column: str) -> None:
        self.success &= answer.success
        self.unexpected += answer.unexpected
        self.observed = answer.observed if self.observed is None else self.observed
        self.fault = self.fault or answer.fault
        if answer.success or answer.rows is None:
            return
        for number in answer.rows[: MAX_FAILING_ROWS - len(self.failing)].tolist():
            uri = str(rows["uri"][number].as_py())
            value = rows[column][number].as_py() if column in rows.column_names else None
            shown = uri if value is None else str(value)[:200]
            self.failing.append({"uri": uri, "column": column, "value": shown})


@dataclass(slots=True)
class _Outcome:
    """What came of asking a suite.

    `counts` are of each shard that was asked, by what is counted; `statuses` of those where
    something fails.
    """

    summaries: list[dict[str, Any]] = field(default_factory=list)
    failing: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    unexpected: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, str] = field(default_factory=dict)

    def fails(self, shard: str, severity: str) -> None:
        if severity != "warning":
            self.statuses[shard] = FAILS
        else:
            self.statuses.setdefault(shard, WARNS)


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

    table = _Table(
        sizes={shard: stored.sizes[shard] for shard in sorted(stored.files)},
        columns=_document_columns(checked),
        identity="uri",
        rows=rows,
        most=most,
        stored=stored,
        as_stored=_AS_STORED,
    )
    at_rest = memory.at_rest(table.sizes)
    outcome = _ask(checked, table, at_rest)
    result = _result([outcome], table.sizes, at_rest)
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
    table = _Table(
        sizes={shard: chunks.stored.sizes[shard] for shard in chunks.shards},
        columns=(*_OF_CHUNKS, *_COMPARED),
        identity="id",
        rows=chunks.rows,
        most=most,
        stored=chunks.stored,
        as_stored=tuple(each for each in _OF_CHUNKS if each != "text"),
        order=("uri", "ordinal"),
    )
    covered = _Table(
        sizes={shard: chunks.documents.sizes[shard] for shard in chunks.shards},
        columns=("uri", "uncovered_bytes"),
        identity="uri",
        rows=lambda shard, _: chunks.coverage(shard),
        most=most,
        stored=chunks.documents,
        as_stored=("uri",),
    )
    at_rest = memory.at_rest(table.sizes)
    outcome = _ask(bounded, table, at_rest)
    whole = Suite("chunks", (("the coverage of documents", _COVERAGE),))
    coverage = _ask(whole, covered, at_rest)
    for shard, counts in outcome.counts.items():
        counts["documents"] = coverage.counts[shard]["rows"]
    result = _result([outcome, coverage], table.sizes, at_rest)
    documents = sum(each["documents"] for each in (*outcome.counts.values(), *at_rest.values()))
    result = replace(result, statistics={**result.statistics, "documents": documents})
    broken_shards = outcome.statuses.keys() | coverage.statuses.keys()
    memory.keep(result, {s: of for s, of in outcome.counts.items() if s not in broken_shards})
    return result


def worst_first(shards: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shards of a result, those that fail before those that warn, and those before the rest."""
    order = (FAILS, WARNS, HOLDS, HELD_BEFORE)
    return sorted(shards, key=lambda each: (order.index(each["status"]), each["shard"]))


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


def _ask(suite: Suite, table: _Table, at_rest: Mapping[str, Mapping[str, int]]) -> _Outcome:
    """Ask what is to be asked; the shards at rest hold, as far as rows answer for themselves.

    Args:
        at_rest: what was counted of these shards.
    """
    outcome = _Outcome()
    about = described(suite.entries)
    entries = dict(suite.entries)
    tallies = {place: _Tally() for place in entries}
    sources = sorted({source for entry in entries.values() for source in entry.sources})

    def note(answers: Mapping[str, Answer], rows: pa.Table, shards: Sequence[str]) -> None:
        for place, answer in answers.items():
            tallies[place].add(answer, rows, about[place]["column"])
            if answer.success:
                continue
            severity = about[place]["severity"]
            if answer.rows is not None:
                for shard, count in _by_shard(answer.rows, shards, sizes).items():
                    outcome.unexpected[shard] += count
                    outcome.fails(shard, severity)
            elif entries[place].of_one_row or entries[place].unique:
                for shard in shards:  # it could not be asked, so nothing is known of them
                    outcome.fails(shard, severity)

    sizes: dict[str, int] = {}
    groups = list(table.groups(shard for shard in table.sizes if shard not in at_rest))
    at_once = len(groups) == 1 and groups[0] == list(table.sizes)
    by_row = suite.entries if at_once else _asked_by_row(suite.entries, table)
    columns = table.columns if at_once else _columns(by_row, table, sources)
    for group in groups:
        parts = {shard: table.rows(shard, columns) for shard in group}
        for shard, part in parts.items():
            sizes[shard] = part.num_rows
            outcome.counts[shard] = {"rows": part.num_rows, **_of_sources(part, sources)}
        rows = pa.concat_tables(parts.values())
        note(ask(by_row, rows), rows, group)
    others = [(place, entry) for place, entry in suite.entries if place not in dict(by_row)]
    if others:
        sizes = dict(table.sizes)
        rows = table.all_of(_columns(others, table, sources))
        note(ask(others, rows), rows, list(sizes))

    for place, entry in suite.entries:
        known = (*outcome.counts.values(), *at_rest.values())
        if entry.sources and not any(of[_of(each)] for of in known for each in entry.sources):
            continue  # nothing is asked of no rows
        tally = tallies[place]
        outcome.summaries.append(
            {
                **about[place],
                "success": tally.success,
                "unexpected": tally.unexpected,
                "observed": tally.observed,
                "detail": tally.fault,
            }
        )
        if not tally.success:
            column, observed = about[place]["column"], str(tally.observed)
            outcome.failing += tally.failing or [{"uri": "", "column": column, "value": observed}]
    return outcome


def _asked_by_row(entries: Entries, table: _Table) -> Entries:
    """What parts of a table answer for: rows by themselves, and that they are named once.

    A name lives in one shard, so shards by themselves can tell; whether that is so is looked at.
    """
    once: list[bool] = []  # looked at where it matters

    def is_by_row(entry: Expectation) -> bool:
        if entry.unique != table.identity:
            return entry.of_one_row
        if not once:
            once.append(not _repeats(table))
        return once[0]

    return tuple((place, entry) for place, entry in entries if is_by_row(entry))


def _repeats(table: _Table) -> bool:
    """Whether a name may be there twice: eight bytes of each are held."""
    from pandas.util import hash_array

    hashes = [np.empty(0, dtype=np.uint64)]
    for names in table.names():
        hashes.append(hash_array(names.drop_null().to_numpy().astype(object), categorize=False))
    every = np.concatenate(hashes)
    return len(np.unique(every)) < len(every)


def _columns(entries: Entries, table: _Table, sources: Sequence[str]) -> list[str]:
    """The columns that some expectations take."""
    taken = {"uri"} | ({"source"} if sources else set())
    for _, entry in entries:
        named = entry.mentions(table.columns)
        taken |= named if named or entry.counts_rows else set(table.columns)
    return [each for each in table.columns if each in taken]


def _of_sources(rows: pa.Table, sources: Sequence[str]) -> dict[str, int]:
    if not sources:
        return {}
    found = Counter(rows["source"].to_pylist())
    return {_of(source): found[source] for source in sources}


def _of(source: str) -> str:
    """How the rows of a source are called where they are counted."""
    return f"of {source}"


def _by_shard(
    rows: np.ndarray[Any, np.dtype[np.int64]], shards: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, int]:
    """How many of these rows are in each shard, of shards one after another."""
    ends = np.cumsum([sizes[shard] for shard in shards])
    counts = np.bincount(np.searchsorted(ends, rows, side="right"), minlength=len(shards))
    return {shard: int(count) for shard, count in zip(shards, counts, strict=True) if count}


def _result(
    outcomes: Sequence[_Outcome], sizes: Mapping[str, int], at_rest: Collection[str]
) -> QualityResult:
    """Outcomes in one; the statistics are those of the first."""
    summaries = [entry for outcome in outcomes for entry in outcome.summaries]
    shards = []
    for shard, rows in sizes.items():
        found = {outcome.statuses[shard] for outcome in outcomes if shard in outcome.statuses}
        held = HELD_BEFORE if shard in at_rest else HOLDS
        shards.append(
            {
                "shard": shard,
                "rows": rows,
                "unexpected": sum(outcome.unexpected[shard] for outcome in outcomes),
                "status": FAILS if FAILS in found else WARNS if found else held,
            }
        )
    first = outcomes[0].summaries
    return QualityResult(
        success=all(entry["success"] or entry["severity"] == "warning" for entry in summaries),
        expectations=summaries,
        failing_rows=[row for each in outcomes for row in each.failing][:MAX_FAILING_ROWS],
        statistics={
            "rows": sum(sizes.values()),
            "evaluated_expectations": len(first),
            "successful_expectations": sum(entry["success"] for entry in first),
        },
        shards=shards,
    )
