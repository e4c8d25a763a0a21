"""A suite asked of a table in shards: which of it again, some thousands of rows at a time, and what came.

What each row answers for itself is asked of the shards that are not at rest, and of a shard that held
of the documents that changed since; the rest of the whole table, of the columns that it takes. Knows
shards, columns and expectations, not what a table is of.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.documents.asking import Answer, Entries, ask, described
from headwater.documents.suites import Expectation, Suite
from headwater.snapshot import Snapshot

#: As many failing rows are reported, over all expectations of a suite.
MAX_FAILING_ROWS = 20
#: What became of a shard, the worst first.
FAILS, WARNS, HOLDS, HELD_BEFORE = "fails", "warns", "holds", "held before"


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
class ShardedTable:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A shard as it is asked of.

    Attributes:
        rows: that are asked of.
        every: all rows of the shard, with the columns that are counted. The same where all are asked of.
    """

    rows: pa.Table
    every: pa.Table


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
class Outcome:
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


class Asking:
    """A suite that is asked of a table, a shard after another.

    Args:
        at_rest: what was counted of the shards that are not asked of. They hold, as far as rows answer
            for themselves.
        apart: whether shards may come in part, so that the whole table is asked by itself.

    Attributes:
        columns: that the rows of a shard have to have.
    """

    def __init__(
        self,
        suite: Suite,
        table: ShardedTable,
        at_rest: Mapping[str, Mapping[str, int]],
        *,
        apart: bool,
    ) -> None:
        self._suite, self._table, self._at_rest = suite, table, at_rest
        self._about = described(suite.entries)
        self._entries = dict(suite.entries)
        self._tallies = {place: _Tally() for place in self._entries}
        self._sources = sorted({each for _, entry in suite.entries for each in entry.sources})
        self._outcome = Outcome()
        rows = sum(table.sizes.values())
        fits = len(table.sizes) == 1 or (bool(table.sizes) and rows <= table.most)
        self._at_once = fits and not at_rest and not apart
        self._by_row = suite.entries if self._at_once else _asked_by_row(suite.entries, table)
        self.columns: Collection[str] = (
            table.columns if self._at_once else _columns(self._by_row, table, self._sources)
        )
        self._group: dict[str, Part] = {}

    def add(self, shard: str, part: Part) -> None:
        """Ask of a shard, with others or by itself."""
        counts = {"rows": part.every.num_rows, **_of_sources(part.every, self._sources)}
        self._outcome.counts[shard] = counts
        held = sum(each.rows.num_rows for each in self._group.values())
        if self._group and not self._at_once and held + part.rows.num_rows > self._table.most:
            self._ask_group()
        self._group[shard] = part

    def outcome(self) -> Outcome:
        """What came of it all; nothing is added after it."""
        self._ask_group()
        by_row = dict(self._by_row)
        others = [(place, entry) for place, entry in self._suite.entries if place not in by_row]
        if others:
            answers, rows = _of_whole(others, self._table, self._sources)
            self._note(answers, rows, self._table.sizes)
        for place, entry in self._suite.entries:
            self._sum_up(place, entry)
        return self._outcome

    def _ask_group(self) -> None:
        parts = [part.rows for part in self._group.values()]
        # Where nothing changed in shards that held, there is nothing to ask of.
        if any(p.rows.num_rows or p.rows is p.every for p in self._group.values()):
            rows = pa.concat_tables(parts)
            sizes = {shard: part.rows.num_rows for shard, part in self._group.items()}
            self._note(ask(self._by_row, rows), rows, sizes)
        self._group = {}

    def _note(
        self, answers: Mapping[str, Answer], rows: pa.Table, sizes: Mapping[str, int]
    ) -> None:
        """Take in what was answered of shards that follow one another."""
        outcome = self._outcome
        for place, answer in answers.items():
            self._tallies[place].add(answer, rows, self._about[place]["column"])
            if answer.success:
                continue
            severity, entry = self._about[place]["severity"], self._entries[place]
            if answer.rows is not None:
                for shard, count in _by_shard(answer.rows, sizes).items():
                    outcome.unexpected[shard] += count
                    outcome.fails(shard, severity)
            elif entry.of_one_row or entry.unique:
                for shard in sizes:  # it could not be asked, so nothing is known of them
                    outcome.fails(shard, severity)

    def _sum_up(self, place: str, entry: Expectation) -> None:
        outcome, tally = self._outcome, self._tallies[place]
        known = (*outcome.counts.values(), *self._at_rest.values())
        if entry.sources and not any(of[_of(each)] for of in known for each in entry.sources):
            return  # nothing is asked of no rows
        outcome.summaries.append(
            {
                **self._about[place],
                "success": tally.success,
                "unexpected": tally.unexpected,
                "observed": tally.observed,
                "detail": tally.fault,
            }
        )
        if not tally.success:
            column, observed = self._about[place]["column"], str(tally.observed)
            outcome.failing += tally.failing or [{"uri": "", "column": column, "value": observed}]


def _of_whole(
    entries: Entries, table: ShardedTable, sources: Sequence[str]
) -> tuple[dict[str, Answer], pa.Table]:
    """The answers about all rows, and the rows. What is but counted is not read."""
    rows: pa.Table
    if all(e.counts_rows and not e.sources and not e.mentions(table.columns) for _, e in entries):
        rows = pa.table({"row": np.zeros(sum(table.sizes.values()), np.int8)})
    else:
        rows = table.all_of(_columns(entries, table, sources))
    return ask(entries, rows), rows


def _asked_by_row(entries: Entries, table: ShardedTable) -> Entries:
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


def _repeats(table: ShardedTable) -> bool:
    """Whether a name may be there twice: eight bytes of each are held."""
    from pandas.util import hash_array

    hashes = [np.empty(0, dtype=np.uint64)]
    for names in table.names():
        hashes.append(hash_array(names.drop_null().to_numpy().astype(object), categorize=False))
    every = np.sort(np.concatenate(hashes))
    return bool((every[1:] == every[:-1]).any())


def _columns(entries: Entries, table: ShardedTable, sources: Sequence[str]) -> list[str]:
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
    rows: np.ndarray[Any, np.dtype[np.int64]], sizes: Mapping[str, int]
) -> dict[str, int]:
    """How many of these rows are in each shard, of shards one after another."""
    ends = np.cumsum(list(sizes.values()))
    counts = np.bincount(np.searchsorted(ends, rows, side="right"), minlength=len(sizes))
    return {shard: int(count) for shard, count in zip(sizes, counts, strict=True) if count}


def result_of(
    outcomes: Sequence[Outcome], sizes: Mapping[str, int], at_rest: Collection[str]
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


def worst_first(shards: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shards of a result, those that fail before those that warn, and those before the rest."""
    order = (FAILS, WARNS, HOLDS, HELD_BEFORE)
    return sorted(shards, key=lambda each: (order.index(each["status"]), each["shard"]))
