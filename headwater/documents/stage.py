"""What the three document stages share: their statistics, and writing only what changed.

Knows tables and digests, not documents: a stage says for each shard which rows it keeps and which
are new; shards without a difference are not written.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction

from headwater.documents.contents import RowMemory, contents
from headwater.documents.row_digests import NONE, Digests, as_column, of_column, row_digests
from headwater.fresh import FRESH, Step
from headwater.lake import WRITERS, Lake, chosen_rows, rows_to_table
from headwater.records import digest_of
from headwater.snapshot import Snapshot, file_name
from headwater.tables import SCHEMAS

#: New rows of about this size are committed together: the most that a kill loses.
COMMIT_BYTES = 32 * 2**20
#: The column that digests of rows are in while a shard is put together.
_DIGEST = "row_digest"
#: Documents of one task, and bytes of theirs, where tasks are done apart: a second or two of work.
BLOCK, BLOCK_BYTES = 64, 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStats:
    """What one run of a stage over some shards did; counts are documents unless named otherwise.

    `quarantined` counts what lies in quarantine for this stage after the run, in these shards.
    `digest` names the content of the stage's whole table, `shard_digests` that of each shard.
    """

    seen: int
    processed: int
    reused: int
    quarantined: int
    removed: int
    shards_written: tuple[str, ...]
    digest: str
    per_shard: dict[str, dict[str, int]]
    shard_digests: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The table that a stage writes, and the columns that name its content.

    `stages` are those that its quarantined documents are under. Columns `where_given` count only in
    rows where they hold something: a row without keeps the digest that it had before there was such
    a column.
    """

    table: str
    stages: tuple[str, ...]
    version: str
    columns: tuple[str, ...]
    where_given: tuple[str, ...] = ()


@dataclass(slots=True)
class ShardCounts:
    """Counters of one shard while a stage works on it."""

    seen: int = 0
    processed: int = 0
    reused: int = 0
    quarantined: int = 0
    removed: int = 0


@dataclass(slots=True)
class ShardWriter:
    """Writes the new content of shards, and commits it in a few Delta commits.

    Rows are identified by `uri`: a document that stays keeps all its rows. A shard is replaced once. It
    is put together and written by another thread, while the stage is at work on the next ones.
    """

    lake: Lake
    output: Output
    #: Called before each commit: writes what must be on disk before these rows are.
    first: Callable[[], None] | None = None
    written: list[str] = field(default_factory=list)
    #: Of the rows of each shard that was written.
    digests: dict[str, Digests] = field(default_factory=dict)
    _files: dict[str, Future[AddAction | None]] = field(default_factory=dict)
    _threads: ThreadPoolExecutor | None = None
    _memory: RowMemory | None = None
    _lock: Lock = field(default_factory=Lock)
    _bytes: int = 0
    _stored: Snapshot | None = None

    def replace(self, shard: str, gone: Collection[str], new: pa.Table) -> None:
        """Make a shard hold its stored rows but those of the documents in `gone`, and the new rows."""
        # As of the first one: commits of this writer leave the shards alone that are to come.
        self._stored = self._stored or self.lake.snapshot(self.output.table)
        self._threads = self._threads or ThreadPoolExecutor(WRITERS, "writing")
        wait([each for each in self._files.values() if not each.done()][:-WRITERS])
        self._files[shard] = self._threads.submit(self._write, shard, gone, new)
        self._bytes += new.nbytes
        if self._bytes >= COMMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what is written."""
        if self._files:
            files = {shard: file.result() for shard, file in self._files.items()}
            if self.first is not None:
                self.first()
            self.lake.replace_by(self.output.table, files)
            self.written += files
            self._files, self._bytes = {}, 0

    def close(self) -> None:
        """Commit what is written, and end the threads that wrote it: what they freed stays with them."""
        self.flush()
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = self._memory = None

    def _write(self, shard: str, gone: Collection[str], new: pa.Table) -> AddAction | None:
        assert self._stored is not None  # whoever calls has seen to it
        new = _in_order(new.cast(SCHEMAS[self.output.table]))
        old, base = self._stored.replaced(shard), self._stored.files.get(shard, [])
        file, rows, self.digests[shard] = self._put_together(shard, base, old, gone, new)
        # Of a document that has old rows, too, the new ones would not be all.
        come = set(new["uri"].to_pylist()).difference(gone)
        if file is not None and come.isdisjoint(old["uri"].to_pylist() if come else ()):
            step = Step(base=base, gone=frozenset(gone), new=new)
            FRESH.hold(file_name(file.path), step, rows)
        return file

    def _put_together(
        self, shard: str, base: Sequence[str], old: pa.Table, gone: Collection[str], new: pa.Table
    ) -> tuple[AddAction | None, int, Digests]:
        """Write what a shard is to hold; gives the file, its number of rows and their digests."""
        output, remembered = self.output, self._remembered()
        digests = remembered.of(shard, base) if base else NONE
        if digests is None or len(digests) != len(old):
            rows = _merged(old, gone, new)
            digests = row_digests(rows, output.columns, output.where_given)
        else:  # those of the rows that stay are what they were
            of_new = row_digests(new, output.columns, output.where_given)
            rows = _merged(
                old.append_column(_DIGEST, as_column(digests)),
                gone,
                new.append_column(_DIGEST, as_column(of_new)),
            )
            digests = of_column(rows[_DIGEST])
            rows = rows.drop_columns([_DIGEST])
        return self.lake.write_file(output.table, shard, rows), len(rows), digests

    def _remembered(self) -> RowMemory:
        with self._lock:
            if self._memory is None:
                output = self.output
                columns, where_given = output.columns, output.where_given
                self._memory = RowMemory(self.lake, output.table, columns, where_given)
            return self._memory


def _merged(old: pa.Table, gone: Collection[str], new: pa.Table) -> pa.Table:
    """The old rows but those of some documents, and new ones, in the order of documents.

    Old rows that stay are not copied where they were in that order: the new ones are put between runs
    of them.
    """
    new = _in_order(new)
    held, come = old["uri"].to_pylist(), new["uri"].to_pylist()
    parts, place, done = list[pa.Table](), 0, 0
    for uri in sorted({*come, *gone}):
        start = bisect_left(held, uri, place)
        end = bisect_right(held, uri, start)
        if end > start and uri not in gone:
            break  # a document that has old rows and new ones, which may come in between
        if start > place:
            first = bisect_left(come, uri, done)
            parts += [new.slice(done, first - done), old.slice(place, start - place)]
            done = first
        place = end
    else:
        if held == sorted(held):
            return pa.concat_tables([*parts, new.slice(done), old.slice(place)])
    return pa.concat_tables([chosen_rows(old, gone, but=True), new]).sort_by(_order(old))


def _order(rows: pa.Table) -> list[tuple[str, str]]:
    """How the rows of a shard are sorted."""
    return [(key, "ascending") for key in ("uri", "ordinal") if key in rows.column_names]


def _in_order(rows: pa.Table) -> pa.Table:
    """Rows as a shard has them, sorted where they are not."""
    order = _order(rows)
    places = list(zip(*(rows[key].to_pylist() for key, _ in order), strict=True))
    return rows if places == sorted(places) else rows.sort_by(order)


def made_from(
    rows: pa.Table,
    held: Mapping[str, str],
    touched: Collection[str] | None,
    name: Callable[[pa.Table], dict[str, str]],
) -> dict[str, str]:
    """What each document is to be made from, by URI.

    Args:
        rows: of the documents that there are, with what names it.
        held: what each stored one was made from.
        touched: documents whose rows may be others than those that `held` was made from; None is all.
        name: names what documents are made from.
    """
    if touched is None:
        return name(rows)
    uris = rows["uri"].to_pylist()
    others = [at for at, uri in enumerate(uris) if uri in touched or uri not in held]
    named = name(rows.take(pa.array(others, pa.int64())))
    return {uri: named[uri] if uri in named else held[uri] for uri in uris}


def quarantined(lake: Lake, stage: str, shards: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Rows that a stage has put into quarantine, by URI."""
    rows = lake.read("quarantine", where={"shard": shards, "stage": [stage]})
    return {row["uri"]: row for row in rows.to_pylist()}


def write_quarantine(
    lake: Lake, stage: str, shards: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Make `rows` all that a stage holds in quarantine in these shards; other stages' rows stay."""
    table = lake.read("quarantine", where={"shard": shards})
    mine = pc.equal(table["stage"], stage)
    old = {row["uri"]: row for row in table.filter(mine).to_pylist()}
    # As they would be read back, so that they compare.
    new = {row["uri"]: row for row in rows_to_table("quarantine", rows).to_pylist()}
    changed = sorted(
        {(old | new)[uri]["shard"] for uri in old | new if old.get(uri) != new.get(uri)}
    )
    if not changed:
        return
    others = table.filter(pc.invert(mine))
    everything = pa.concat_tables([others, rows_to_table("quarantine", list(new.values()))])
    kept = everything.filter(pc.is_in(everything["shard"], pa.array(changed, pa.string())))
    lake.replace(
        "quarantine", kept.sort_by([("stage", "ascending"), ("uri", "ascending")]), keys=changed
    )


def held_shards(lake: Lake, table: str) -> set[str]:
    """Shards of which a table holds rows."""
    return {shard for shard, rows in lake.snapshot(table).sizes.items() if rows}


def with_retired(
    lake: Lake,
    table: str,
    upstream: str,
    shards: Sequence[str],
    in_force: Sequence[str] | None = None,
) -> list[str]:
    """`shards`, and those that a table still holds and its upstream no longer does.

    Such shards appear when the number of shards is lowered; a stage visits them to empty them.

    Args:
        in_force: all shards that there are, in order, where other processes may be at work on others
            than `shards`. Whoever has the last of them visits those that are no more.
    """
    retired = held_shards(lake, table) - held_shards(lake, upstream)
    if in_force is not None:
        retired = retired.difference(in_force) if in_force[-1] in shards else set()
    return sorted({*shards, *retired})


def as_it_stands(lake: Lake, output: Output, shards: Sequence[str]) -> StageStats:
    """What a stage says of a table that is held: every document is there, none is touched."""
    counts = {shard: ShardCounts() for shard in shards}
    stored = lake.snapshot(output.table)
    for shard, rows in stored.partitions(sorted({*shards, *stored.sizes}), ["uri"]):
        documents = len(pc.unique(rows["uri"].combine_chunks()))
        if documents:
            count = counts.setdefault(shard, ShardCounts())
            count.seen = count.reused = documents
    for stage in output.stages:
        for row in quarantined(lake, stage, list(counts)).values():
            counts[row["shard"]].quarantined += 1
    return stage_stats(ShardWriter(lake, output), counts)


def stage_stats(writer: ShardWriter, counts: Mapping[str, ShardCounts]) -> StageStats:
    """Close the writer and sum up; digests are those of its output's columns as they now stand.

    They do not depend on row order or time: `digest_of(version, sorted digests of the rows)`.
    """
    writer.close()
    output = writer.output
    writer.lake.ensure([output.table])
    held = contents(
        writer.lake,
        output.table,
        version=output.version,
        columns=output.columns,
        where_given=output.where_given,
        known=writer.digests,
    )
    empty = digest_of(output.version, [])
    return StageStats(
        seen=sum(count.seen for count in counts.values()),
        processed=sum(count.processed for count in counts.values()),
        reused=sum(count.reused for count in counts.values()),
        quarantined=sum(count.quarantined for count in counts.values()),
        removed=sum(count.removed for count in counts.values()),
        shards_written=tuple(sorted(writer.written)),
        digest=held.whole,
        per_shard={shard: asdict(count) for shard, count in counts.items()},
        shard_digests={shard: held.shards.get(shard, empty) for shard in counts},
    )


def at_rest(counts: ShardCounts) -> dict[str, int]:
    """What a stage counts of a shard in which it will find nothing to do, after these counts."""
    return asdict(ShardCounts(seen=counts.seen, reused=counts.seen, quarantined=counts.quarantined))
