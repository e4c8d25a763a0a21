"""The lake: Delta tables on disk, one a name, sharded ones partitioned by `shard`.

Knows tables, not stages. Every write is one Delta commit: it is there whole, or not at all, and it
names the run that made it.
"""

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from headwater.data_files import write_partition_file
from headwater.errors import HeadwaterError
from headwater.files import is_abandoned, read_json, write_json
from headwater.locks import Parts, wait_for
from headwater.memory import give_back, work_apart
from headwater.snapshot import Snapshot, schema_of
from headwater.tables import PARTITIONED, SCHEMAS

P = ParamSpec("P")
R = TypeVar("R")
#: Partitions that are written at once, each by a thread.
WRITERS = 2
#: Partitions that a commit names; of more it says how many.
_SHOWN = 8

#: Files that the tables' engine has not finished. It passes by what a killed process has left of them.
_UNFINISHED = re.compile(r".+#\d+|_commit_.+\.json\.tmp")
#: Keys of ours in a commit's own record.
_RUN, _WORDS = "headwater_run", "headwater_words"


class Conflict(HeadwaterError):
    """A table moved between the moment it was read and the moment it was to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One version of a table: when, by what operation, of which run of Dagster, in words."""

    version: int
    time: datetime
    operation: str
    run: str
    words: str


class Lake:
    """Typed access to the tables below one folder (or, later, one bucket).

    A handle remembers which versions it read and wrote. It does not overwrite rows that another
    has written since it read the table.

    Args:
        run: the run of Dagster that commits are noted with; "" outside of one.
        on_use: called with this handle when it has read or written another version.
    """

    def __init__(
        self, root: Path, *, run: str = "", on_use: Callable[["Lake"], None] | None = None
    ) -> None:
        self.root = root
        self.run = run
        #: Versions that this handle read or wrote last, by table.
        self.versions_read: dict[str, int] = {}
        self.versions_written: dict[str, int] = {}
        self._bases: dict[str, int] = {}
        self._on_use = on_use
        self._writers = Parts(root / ".writer.lock")

    def path(self, name: str) -> Path:
        return self.root / name

    def _open(self, name: str, version: int | None = None) -> deltalake.DeltaTable | None:
        try:
            return deltalake.DeltaTable(str(self.path(name)), version=version)
        except TableNotFoundError:
            return None

    def version(self, name: str) -> int | None:
        """The newest version of a table, or None where it was never written."""
        table = self._open(name)
        return None if table is None else table.version()

    def ensure(self, names: Iterable[str] = tuple(SCHEMAS)) -> None:
        """Create the tables that are missing, empty, and the columns that are new."""
        for name in names:
            table = self._open(name)
            if table is None:
                with self._committing(name):
                    if self._open(name) is None:
                        self._create(name)
            elif _missing_columns(table, SCHEMAS[name]) and name not in self.holds():
                with self._committing(name):
                    self._widened(name, deltalake.DeltaTable(str(self.path(name))))

    def read(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        where: Mapping[str, Sequence[str]] | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """Rows of a table, empty where it was never written.

        Args:
            columns: only these columns (cheap: the others are not read from disk).
            where: for each named column, the values to keep; partition columns skip whole files.
            version: read as of this version.
        """
        schema = schema_of(name, columns)
        if where is not None and any(not values for values in where.values()):
            return schema.empty_table()
        table = self._open(name, version)
        if table is None:
            return schema.empty_table()
        if version is None:
            self._bases[name] = table.version()
        self._note(self.versions_read, name, table.version())
        filters = [(column, "in", list(values)) for column, values in (where or {}).items()]
        return _rows(table, schema, filters, PARTITIONED.get(name))

    def snapshot(self, name: str) -> Snapshot:
        """A table as it is now, to be read some partitions at a time."""
        table = self._open(name)
        if table is not None:
            self._bases[name] = table.version()
            self._note(self.versions_read, name, table.version())
        return Snapshot(name, table, self.path(name))

    def batches(
        self, name: str, version: int, columns: Sequence[str], partitions: Sequence[str] | None
    ) -> Iterator[pa.RecordBatch]:
        """Some columns of a version, a batch at a time; columns that it lacks are left out.

        Args:
            partitions: only these values of the partition column; None is all.
        """
        table = deltalake.DeltaTable(str(self.path(name)), version=version)
        known = {field.name for field in table.schema().fields}
        rows = table.to_pyarrow_dataset()
        wanted = None if partitions is None else pc.field(PARTITIONED[name]).isin(list(partitions))
        yield from rows.to_batches(columns=[c for c in columns if c in known], filter=wanted)

    def head(self, name: str, version: int, where: Mapping[str, str], limit: int) -> pa.Table:
        """The first rows of a version whose columns have these values, with all its columns."""
        table = deltalake.DeltaTable(str(self.path(name)), version=version)
        wanted = None
        for column, value in where.items():
            term = pc.field(column).cast(pa.string()) == value
            wanted = term if wanted is None else wanted & term
        return table.to_pyarrow_dataset().head(limit, filter=wanted)

    def replace(self, name: str, rows: pa.Table, *, keys: Sequence[str]) -> int:
        """Replace whole partitions (`keys` of the partition column) in one commit.

        Rows must belong to those partitions. Returns the new version.

        Raises:
            Conflict: another has written these partitions since this handle read the table.
            HeadwaterError: the table is held at an earlier version.
        """
        words = f"replaced {PARTITIONED[name]} {_shown(keys)}"
        return self._write(name, rows, keys, words=words)

    def write_file(self, name: str, key: str, rows: pa.Table) -> AddAction | None:
        """Write rows of a partition as a data file that no version has; None where there are no rows.

        By any thread. Whoever does so is `alone` on the partition: what no version has is vacuumed.
        """
        if not rows.num_rows:
            return None
        typed = rows if rows.schema.equals(SCHEMAS[name]) else rows.cast(SCHEMAS[name])
        return write_partition_file(self.path(name), PARTITIONED[name], key, typed)

    def replace_by(self, name: str, files: Mapping[str, AddAction | None]) -> int:
        """As `replace`, by the files that `write_file` has written, by partition."""
        words = f"replaced {PARTITIONED[name]} {_shown(list(files))}"
        return self._write(name, files, list(files), words=words)

    def append(self, name: str, rows: pa.Table, *, keys: Sequence[str]) -> int:
        """Add rows to partitions (`keys`) in one commit; what is there stays. Returns the new version.

        Raises:
            Conflict: another has written these partitions since this handle read the table.
            HeadwaterError: the table is held at an earlier version.
        """
        words = f"added to {PARTITIONED[name]} {_shown(keys)}"
        return self._write(name, rows, keys, words=words, add=True)

    def overwrite(self, name: str, rows: pa.Table) -> int:
        """Replace all rows of a table in one commit. Returns the new version.

        Raises:
            Conflict: another has written the table since this handle read it.
        """
        return self._write(name, rows, None, words="replaced all rows")

    def history(self, name: str, limit: int | None = None) -> list[Commit]:
        """The versions of a table, newest first; [] where it was never written."""
        table = self._open(name)
        return [] if table is None else [_commit(entry) for entry in table.history(limit)]

    def files(self, name: str, version: int | None = None) -> dict[str, int]:
        """The data files of a version, relative to the table's folder, with their sizes."""
        table = self._open(name, version)
        if table is None:
            return {}
        actions = table.get_add_actions()
        return dict(
            zip(
                actions.column("path").to_pylist(),
                actions.column("size_bytes").to_pylist(),
                strict=True,
            )
        )

    def restore(self, name: str, version: int) -> int:
        """Make a table's content that of an earlier version, in one commit; the files are the same.

        Returns the new version, or the newest where it has that content already.
        """
        with self._committing(name):
            table = deltalake.DeltaTable(str(self.path(name)))
            if set(table.file_uris()) != set(self._files_at(name, version, None)):
                table.restore(version, **self._as(f"restored to version {version}"))
        written = deltalake.DeltaTable(str(self.path(name))).version()
        self._wrote(name, written)
        return written

    def vacuum(self, name: str, keep: Sequence[int], *, dry_run: bool) -> list[str]:
        """Delete the files that none of the versions in `keep` needs; returns them.

        And those that a killed process has begun, a day later: another program may be at work.
        """
        with self._committing(name):
            table = deltalake.DeltaTable(str(self.path(name)))

            def run(dry: bool) -> list[str]:
                return table.vacuum(
                    retention_hours=0,
                    dry_run=dry,
                    enforce_retention_duration=False,
                    full=True,
                    keep_versions=sorted(keep),
                    **self._as("vacuumed"),
                )

            found = run(True)
            if found and not dry_run:
                run(False)
            if not dry_run:
                self._drop_unfinished(name)
            return found

    def _drop_unfinished(self, name: str) -> None:
        for path in self.path(name).rglob("*"):
            if _UNFINISHED.fullmatch(path.name) and is_abandoned(path):
                path.unlink(missing_ok=True)

    @contextmanager
    def alone(self, who: str) -> Iterator[None]:
        """Be the only one at work on the document tables; does not wait.

        Raises:
            Busy: another is; says who.
        """
        with self._writers.all(who=who, run=self.run), work_apart():
            yield

    @contextmanager
    def alone_on(self, shards: Iterable[str], who: str) -> Iterator[None]:
        """Be the only one at work on these shards of the document tables; does not wait.

        Others may be at work on other shards, of the same tables.

        Raises:
            Busy: another is at work on one of them, or on all; says who.
        """
        with self._writers.some(shards, who=who, run=self.run), work_apart():
            yield

    def holds(self) -> dict[str, dict[str, Any]]:
        """Tables that stay as they were restored, with `version`, `since` and `why` of each."""
        found: dict[str, dict[str, Any]] = read_json(self.root / "holds.json") or {}
        return found

    def set_holds(self, holds: Mapping[str, Mapping[str, Any]]) -> None:
        """Say which tables no stage writes."""
        write_json(self.root / "holds.json", dict(holds))

    def _write(
        self,
        name: str,
        rows: pa.Table | Mapping[str, AddAction | None],
        keys: Sequence[str] | None,
        *,
        words: str,
        add: bool = False,
    ) -> int:
        """Commit rows, or the files that hold them."""
        if name in self.holds():
            raise HeadwaterError(
                f"{name} is held at version {self.holds()[name]['version']}, so nothing writes it.",
                mend=f"`headwater data follow {name}` lets it follow its inputs again.",
            )
        with self._committing(name):
            found = self._open(name)
            if found is None:
                found = self._create(name)
            else:
                self._refuse_if_moved(name, found.version(), keys)
            table, column = self._widened(name, found), PARTITIONED.get(name)
            noted = self._as(words)
            mode: Literal["append", "overwrite"] = "append" if add else "overwrite"
            try:
                if column is None:
                    assert isinstance(rows, pa.Table)  # files are of partitions
                    deltalake.write_deltalake(table, rows.cast(SCHEMAS[name]), mode=mode, **noted)
                else:
                    if isinstance(rows, pa.Table):
                        rows = self._files_of(name, rows)
                    added: list[AddAction | RemoveAction] = list(filter(None, rows.values()))
                    replaced = None if add or keys is None else [(column, "in", list(keys))]
                    table.create_write_transaction(
                        added, mode, SCHEMAS[name], column, replaced, **noted
                    )
            except CommitFailedError as error:  # of a writer that is not ours
                raise _conflict(name) from error
            table.update_incremental()
            version = table.version()
        self._wrote(name, version)
        give_back()  # what was written since the commit before is in memory no more
        return version

    def _files_of(self, name: str, rows: pa.Table) -> dict[str, AddAction | None]:
        """Write rows as a data file for each partition."""
        column = rows[PARTITIONED[name]]
        keys = pc.unique(column).to_pylist()

        def write(key: str) -> AddAction | None:
            return self.write_file(name, key, rows.filter(pc.equal(column, key)))

        with ThreadPoolExecutor(WRITERS, "writing") as threads:
            return dict(zip(keys, threads.map(write, keys), strict=True))

    def _create(self, name: str) -> deltalake.DeltaTable:
        partition = PARTITIONED.get(name)
        self.path(name).mkdir(parents=True, exist_ok=True)
        deltalake.write_deltalake(
            str(self.path(name)),
            SCHEMAS[name].empty_table(),
            mode="append",
            partition_by=[partition] if partition else None,
            name=name,
            **self._as("created"),
        )
        return deltalake.DeltaTable(str(self.path(name)))

    def _widened(self, name: str, table: deltalake.DeltaTable) -> deltalake.DeltaTable:
        """The table, with the columns null that an earlier version of Headwater did not write."""
        missing = _missing_columns(table, SCHEMAS[name])
        if missing:
            fields = deltalake.Schema.from_arrow(pa.schema(missing)).fields
            added = ", ".join(field.name for field in missing)
            table.alter.add_columns(fields, **self._as(f"added columns {added}"))
            table = deltalake.DeltaTable(str(self.path(name)))
        return table

    def _refuse_if_moved(self, name: str, newest: int, keys: Sequence[str] | None) -> None:
        """Another commit in between is no conflict where it left these partitions alone."""
        base = self._bases.get(name)
        if base is None or base == newest:
            return
        if self._files_at(name, base, keys) != self._files_at(name, newest, keys):
            raise _conflict(name)

    def _files_at(self, name: str, version: int, keys: Sequence[str] | None) -> list[str]:
        table = deltalake.DeltaTable(str(self.path(name)), version=version)
        filters = [(PARTITIONED[name], "in", list(keys))] if keys is not None else None
        return sorted(table.file_uris(file_pruning_predicate=filters))

    @contextmanager
    def _committing(self, name: str) -> Iterator[None]:
        """Commits of our processes to one table come one after another: what is compared, holds."""
        with wait_for(self.root / f".{name}.lock"):
            yield

    def _as(self, words: str) -> dict[str, Any]:
        """How a commit is made and noted. The log is kept: old versions are read from it."""
        return {
            "commit_properties": deltalake.CommitProperties(
                custom_metadata={_RUN: self.run, _WORDS: words}
            ),
            "post_commithook_properties": deltalake.PostCommitHookProperties(
                cleanup_expired_logs=False
            ),
        }

    def _wrote(self, name: str, version: int) -> None:
        self._bases[name] = version
        self._note(self.versions_written, name, version)

    def _note(self, versions: dict[str, int], name: str, version: int) -> None:
        if versions.get(name) != version:
            versions[name] = version
            if self._on_use is not None:
                self._on_use(self)


def sole_writer(stage: Callable[Concatenate[Lake, P], R]) -> Callable[Concatenate[Lake, P], R]:
    """A stage that works on the document tables while no other does, nor a restore."""

    @functools.wraps(stage)
    def run(lake: Lake, *args: P.args, **kwargs: P.kwargs) -> R:
        with lake.alone(stage.__name__):
            return stage(lake, *args, **kwargs)

    return run


def writer_of_shards(
    stage: Callable[Concatenate[Lake, P], R],
) -> Callable[Concatenate[Lake, P], R]:
    """A stage that works on its `shards` of the document tables while no other does.

    Beside it another process may run the same stage on other shards: what is read of those is what is
    committed, and commits to one table come one after another.
    """
    signature = inspect.signature(stage)

    @functools.wraps(stage)
    def run(lake: Lake, *args: P.args, **kwargs: P.kwargs) -> R:
        shards = signature.bind(lake, *args, **kwargs).arguments["shards"]
        with lake.alone_on(shards, stage.__name__):
            return stage(lake, *args, **kwargs)

    return run


def _rows(
    table: deltalake.DeltaTable,
    schema: pa.Schema,
    filters: Sequence[tuple[str, str, list[str]]],
    partition: str | None,
) -> pa.Table:
    """Rows with the columns of `schema`; of other partitions than are asked for no file is looked at."""
    from pyarrow.parquet import filters_to_expression

    known = {field.name for field in table.schema().fields}
    stored = [column for column in schema.names if column in known]
    pruned = [term for term in filters if term[0] == partition]
    dataset = table.to_pyarrow_dataset(file_pruning_predicate=pruned or None)
    wanted = filters_to_expression(list(filters)) if filters else None
    rows = dataset.to_table(columns=stored, filter=wanted)
    for field in schema:
        if field.name not in known:  # written before the column was
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names).cast(schema)


def chosen_rows(table: pa.Table, uris: Collection[str], *, but: bool = False) -> pa.Table:
    """The rows of some documents, by URI, or all but these."""
    chosen = pc.is_in(table["uri"], pa.array(list(uris), pa.string()))
    return table.filter(pc.invert(chosen) if but else chosen)


def rows_to_table(name: str, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Build a table of the schema called `name` from mappings; tuples become lists."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMAS[name])


def _missing_columns(table: deltalake.DeltaTable, schema: pa.Schema) -> list[pa.Field]:
    known = {field.name for field in table.schema().fields}
    return [field for field in schema if field.name not in known]


def _commit(entry: Mapping[str, Any]) -> Commit:
    return Commit(
        version=entry["version"],
        time=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
        operation=entry.get("operation", ""),
        run=entry.get(_RUN, ""),
        words=entry.get(_WORDS, ""),
    )


def _conflict(name: str) -> Conflict:
    return Conflict(
        f"Another process has written {name} since this one read it.",
        mend="Its rows stand and nothing of this write does; do it again.",
    )


def _shown(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
