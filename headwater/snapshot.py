"""One version of a table of the lake, read some partitions at a time, and ahead of whoever is at work.

Knows data files and their rows; how versions come to be is the lake's.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import deltalake
import pyarrow as pa
import pyarrow.compute as pc

from headwater.data_files import RowNumbers, read_around, read_partition_file
from headwater.fresh import FRESH
from headwater.tables import LARGE, PARTITIONED, SCHEMAS

K = TypeVar("K")
R = TypeVar("R")
#: Partitions that are read ahead, each by a thread: of whole rows two were no quicker, and held more.
#: What is made of them while the caller waits, two threads make in less time.
READERS, MAKERS = 1, 2


class Snapshot:
    """One version of a table, read some partitions at a time; empty where there is no table.

    Attributes:
        files: names of each partition's data files, in order; "" is that of a table without
            partitions. A data file never changes, so equal names are equal rows.
        sizes: rows of each partition.
    """

    def __init__(self, name: str, table: deltalake.DeltaTable | None, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self.files: dict[str, list[str]] = {}
        self.sizes: Counter[str] = Counter()
        if table is None:
            return
        actions = table.get_add_actions()
        paths = actions.column("path").to_pylist()
        if not paths:
            return
        rows = actions.column("num_records").to_pylist()
        keys = [""] * len(paths)
        if name in PARTITIONED:
            values = pa.chunked_array(actions.column("partition")).to_pylist()
            keys = [value[PARTITIONED[name]] for value in values]
        for path, key, count in sorted(zip(paths, keys, rows, strict=True)):
            self.files.setdefault(key, []).append(path)
            self.sizes[key] += int(count)

    def partition(self, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one partition; only these columns, where some are named."""
        return self.of_files(key, self.files.get(key, ()), columns)

    def replaced(self, key: str) -> pa.Table:
        """The rows of one partition for whoever writes it anew: what the system holds of the large columns
        of its files is let go. Others may be compared with what comes.
        """
        return self.of_files(key, self.files.get(key, ()), let_go=LARGE)

    def of_files(
        self,
        key: str,
        files: Iterable[str],
        columns: Sequence[str] | None = None,
        *,
        let_go: Collection[str] = (),
    ) -> pa.Table:
        """The rows of some data files of one partition."""
        schema, column = schema_of(self.name, columns), PARTITIONED.get(self.name)
        found = [
            read_partition_file(self._folder / unquote(path), schema, column, key, let_go=let_go)
            for path in files
        ]
        return found[0] if len(found) == 1 else pa.concat_tables([schema.empty_table(), *found])

    def around(
        self, key: str, file: str, rows: RowNumbers, columns: Sequence[str]
    ) -> tuple[RowNumbers, pa.Table]:
        """Some rows of a data file, by their numbers, and what is read with them (`read_around`)."""
        path = self._folder / unquote(file)
        schema = schema_of(self.name, columns)
        return read_around(path, schema, PARTITIONED.get(self.name), key, rows)

    def earlier(
        self, key: str, files: Iterable[str], columns: Sequence[str], *, last: bool = False
    ) -> pa.Table | None:
        """The rows of one partition as these data files of another version have them.

        None where one of them is there no more: what no version needs is vacuumed.

        Args:
            last: whether nobody is to read them after this; then the system need not hold them.
        """
        try:
            return self.of_files(key, files, columns, let_go=columns if last else ())
        except FileNotFoundError:
            return None

    def partitions(
        self, keys: Iterable[str], columns: Sequence[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """The rows of each of these partitions in turn, in the order of `keys`.

        The next ones are read while the caller is at work on one.
        """
        return read_ahead(lambda key: self.partition(key, columns), keys)

    def chosen(
        self, key: str, column: str, values: Collection[str], columns: Sequence[str]
    ) -> pa.Table:
        """The rows of a partition with these values in a column, in order.

        Args:
            column: names rows, or all rows of a document; of others, some rows with each value.
        """
        if not values:
            return schema_of(self.name, columns).empty_table()
        found = self.fresh(key, column, values, columns)
        if found is None:
            rows = self.partition(key, list(dict.fromkeys([*columns, column])))
            mine = pc.is_in(rows[column], value_set=pa.array(list(values), pa.string()))
            found = rows.filter(mine).select(list(columns))
        return found

    def fresh(
        self, key: str, column: str, values: Collection[str], columns: Sequence[str]
    ) -> pa.Table | None:
        """As `chosen`, from memory; None where this process did not write all of them a moment ago."""
        names = self.files.get(key, ())
        if len(names) != 1:
            return None
        return FRESH.chosen(file_name(names[0]), column, values, columns)

    def touched(self, key: str, files: Sequence[str]) -> set[str] | None:
        """URIs of the documents of a partition that may have other rows than when it had these files.

        None where this process did not write what came since a moment ago.
        """
        found, now = set[str](), self.files.get(key, [])
        while now != list(files):
            step = FRESH.step(file_name(now[0])) if len(now) == 1 else None
            if step is None:
                return None
            found |= step.touched()
            now = step.base
        return found

    def partly(
        self, keys: Iterable[str], columns: Sequence[str], more: Sequence[str]
    ) -> Iterator[tuple[str, "Partly"]]:
        """As `partitions`, of rows of which more is needed for some that are yet to be told."""
        return read_ahead(lambda key: Partly(self, key, columns, more), keys)


class Partly:
    """A partition of which some columns are needed of all rows, and more of some documents.

    Attributes:
        rows: the columns that are needed of all.
    """

    def __init__(
        self, snapshot: Snapshot, key: str, columns: Sequence[str], more: Sequence[str]
    ) -> None:
        self._snapshot, self._key, self._all = snapshot, key, [*columns, *more]
        files = snapshot.files.get(key, ())
        # What a stage asks of a file that has just been written is most often what was new in it. Where it
        # is more, the file is read again when that is known.
        fresh = len(files) == 1 and FRESH.step(file_name(files[0])) is not None
        self._whole = None if fresh else snapshot.partition(key, self._all)
        self.rows = (
            snapshot.partition(key, columns)
            if self._whole is None
            else self._whole.select(list(columns))
        )

    def of(self, uris: Collection[str]) -> pa.Table:
        """All columns of some documents; what was read of others is let go, and read again if need be."""
        whole, self._whole = self._whole, None
        if whole is None:
            return self._snapshot.chosen(self._key, "uri", uris, self._all)
        mine = pc.is_in(whole["uri"], value_set=pa.array(list(uris), pa.string()))
        return whole if pc.all(mine).as_py() else whole.filter(mine)


def file_name(path: str) -> str:
    """The name of a data file, as a version of its table has its path: of no other file."""
    return unquote(path).rpartition("/")[2]


def read_ahead(
    read: Callable[[K], R], keys: Iterable[K], *, readers: int = READERS
) -> Generator[tuple[K, R], None, None]:
    """What is read of each partition in turn, or made; the next ones while the caller is at work on one.

    Args:
        read: called by `readers` threads, as many partitions ahead.
    """
    threads = ThreadPoolExecutor(readers, "reading")
    ahead: deque[tuple[K, Future[R]]] = deque()
    try:
        for key in keys:
            ahead.append((key, threads.submit(read, key)))
            if len(ahead) > readers:
                first, rows = ahead.popleft()
                yield first, rows.result()
        while ahead:
            first, rows = ahead.popleft()
            yield first, rows.result()
    finally:
        # Nobody is waited for: what is given up after an error is closed by the collector, which may be
        # at work in the middle of a thread's start, with a lock that a thread's end takes.
        threads.shutdown(wait=False, cancel_futures=True)


def schema_of(name: str, columns: Sequence[str] | None) -> pa.Schema:
    """The columns of a table, or some of them."""
    schema = SCHEMAS[name]
    return schema if columns is None else pa.schema([schema.field(each) for each in columns])
