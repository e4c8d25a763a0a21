"""One version of a table of the lake, read some partitions at a time, and ahead of whoever is at work.

Knows data files and their rows; how versions come to be is the lake's.
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import deltalake
import pyarrow as pa

from headwater.data_files import read_partition_file
from headwater.tables import PARTITIONED, SCHEMAS

R = TypeVar("R")
#: Partitions that are read ahead, each by a thread.
READERS = 2


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

    def of_files(
        self, key: str, files: Iterable[str], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of some data files of one partition."""
        schema, column = schema_of(self.name, columns), PARTITIONED.get(self.name)
        found = (
            read_partition_file(self._folder / unquote(path), schema, column, key) for path in files
        )
        return pa.concat_tables([schema.empty_table(), *found])

    def earlier(self, key: str, files: Iterable[str], columns: Sequence[str]) -> pa.Table | None:
        """The rows of one partition as these data files of another version have them.

        None where one of them is there no more: what no version needs is vacuumed.
        """
        try:
            return self.of_files(key, files, columns)
        except FileNotFoundError:
            return None

    def partitions(
        self, keys: Iterable[str], columns: Sequence[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """The rows of each of these partitions in turn, in the order of `keys`.

        The next ones are read while the caller is at work on one.
        """
        return read_ahead(lambda key: self.partition(key, columns), keys)


def read_ahead(
    read: Callable[[str], R], keys: Iterable[str]
) -> Generator[tuple[str, R], None, None]:
    """What is read of each partition in turn; the next ones while the caller is at work on one.

    Args:
        read: called by `READERS` threads, as many partitions ahead.
    """
    threads = ThreadPoolExecutor(READERS, "reading")
    ahead: deque[tuple[str, Future[R]]] = deque()
    try:
        for key in keys:
            ahead.append((key, threads.submit(read, key)))
            if len(ahead) > READERS:
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
