"""Rows put aside on disk by shard, to be taken a shard at a time.

For what comes in another order than it is written in. Knows a schema, not what the rows are. What a
killed process leaves is swept by the next one at work in the same lake.
"""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from headwater.lake import Lake, rows_to_table
from headwater.tables import SCHEMAS

_PREFIX = ".spool-"
#: Bytes of rows that are in memory before they are written.
BUFFER_BYTES = 8 * 2**20


class Spool:
    """A folder of its own below a lake, for the holder of the lake's lock; a context manager."""

    def __init__(self, lake: Lake, table: str) -> None:
        self._root, self._table = lake.root, table
        self._folder = Path()
        self._rows: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._bytes = 0
        self._open: dict[str, tuple[pa.OSFile, pa.ipc.RecordBatchStreamWriter]] = {}

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True)
        for left in self._root.glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._folder = Path(tempfile.mkdtemp(dir=self._root, prefix=_PREFIX))
        return self

    def __exit__(self, *_: object) -> None:
        for shard in list(self._open):
            self._close(shard)
        shutil.rmtree(self._folder, ignore_errors=True)

    def put(self, shard: str, row: Mapping[str, Any], size: int) -> None:
        """Put a row of about `size` bytes aside."""
        self._rows[shard].append(row)
        self._bytes += size
        if self._bytes >= BUFFER_BYTES:
            self._write()

    def take(self, shard: str) -> pa.Table:
        """The rows of a shard, in the order in which they came; nothing more may be put."""
        rows = self._rows.pop(shard, [])
        if shard not in self._open:  # what fits into memory has been nowhere else
            return rows_to_table(self._table, rows)
        self._write_of(shard, rows)
        self._close(shard)
        path = self._folder / shard
        with pa.OSFile(str(path), "rb") as file:
            table = pa.ipc.open_stream(file).read_all()
        path.unlink()
        return table

    def _write(self) -> None:
        for shard, rows in self._rows.items():
            self._write_of(shard, rows)
        self._rows.clear()
        self._bytes = 0

    def _write_of(self, shard: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if shard not in self._open:
            file = pa.OSFile(str(self._folder / shard), "wb")
            self._open[shard] = (file, pa.ipc.new_stream(file, SCHEMAS[self._table]))
        self._open[shard][1].write_table(rows_to_table(self._table, rows))

    def _close(self, shard: str) -> None:
        file, writer = self._open.pop(shard)
        writer.close()
        file.close()
