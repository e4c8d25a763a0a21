"""A suite asked of a table in shards: which of it again, some thousands of rows at a time, and what came.

What each row answers for itself is asked of the shards that are not at rest; the rest of the whole
table, of the columns that it takes. Knows shards, columns and expectations, not what a table is of.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.documents.asking import Answer, Entries, ask, described
from headwater.documents.suites import Expectation, Suite
from headwater.lake import Snapshot

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


def ask_shards(
    suite: Suite, table: ShardedTable, at_rest: Mapping[str, Mapping[str, int]]
) -> Outcome:
    """Ask what is to be asked; the shards at rest hold, as far as rows answer for themselves.

    Args:
        at_rest: what was counted of these shards.
    """
    outcome = Outcome()
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
    every = np.concatenate(hashes)
    return len(np.unique(every)) < len(every)


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
    rows: np.ndarray[Any, np.dtype[np.int64]], shards: Sequence[str], sizes: Mapping[str, int]
) -> dict[str, int]:
    """How many of these rows are in each shard, of shards one after another."""
    ends = np.cumsum([sizes[shard] for shard in shards])
    counts = np.bincount(np.searchsorted(ends, rows, side="right"), minlength=len(shards))
    return {shard: int(count) for shard, count in zip(shards, counts, strict=True) if count}


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
