"""Data files of the lake's tables: Parquet, one or more a partition, written once and never changed.

Knows files and Arrow tables, not versions: a file counts once a commit names it. The tables' own
engine writes and reads the same files, and takes several times as long for a shard.
"""

import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

#: Bytes from which it is looked at whether a column gets smaller, and of what is looked at.
_LARGE, _SAMPLE = 2**16, 2**14
#: Rows of a row group where a table has vectors, of which some are read: a model's take a kilobyte or
#: two each. To read them all takes a sixth longer so.
_GROUP = 128

_LZ4 = pa.Codec("lz4_raw")

RowNumbers = npt.NDArray[np.int64]


def write_partition_file(folder: Path, column: str, key: str, rows: pa.Table) -> AddAction:
    """Write the rows of a partition as a data file; returns what a commit says of it.

    Args:
        folder: of the table.
        column: that the table is partitioned by; its value is in the file's path, not in the file.
    """
    # Names in the order of their making, so that a partition's newest file is its last.
    name = f"{column}={quote(key, safe='')}/part-{time.time_ns():016x}-{uuid4().hex}.parquet"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = rows.drop_columns([column])
    codecs = _compression(stored)
    # Bounds of texts and digests skip nothing, and nearly no value is there twice in a file.
    pq.write_table(
        stored,
        path,
        compression=codecs,
        use_dictionary=False,
        write_statistics=False,
        row_group_size=_GROUP if _has_vectors(stored.schema) else None,
    )
    status = path.stat()
    return AddAction(
        path=name,
        size=status.st_size,
        partition_values={column: key},
        modification_time=status.st_mtime_ns // 1_000_000,
        data_change=True,
        stats=json.dumps({"numRecords": rows.num_rows}),
    )


def _compression(rows: pa.Table) -> dict[str, str]:
    """The codec of each column of a file: a quick one, or none where it saves less than half, as of prose,
    of digests and of a model's vectors: an edit writes a shard anew, and most of that would be spent on
    making it somewhat smaller.
    """
    codecs = {}
    for field in rows.schema:
        for path, kind in _leaves(field.name, field.type):
            codecs[path] = "none" if pa.types.is_floating(kind) else "lz4"
        if _is_text(field.type) and not _halves(rows[field.name]):
            codecs[field.name] = "none"
    return codecs


def _is_text(kind: pa.DataType) -> bool:
    checks = (pa.types.is_string, pa.types.is_large_string)
    return any(check(kind) for check in (*checks, pa.types.is_binary, pa.types.is_large_binary))


def _halves(column: pa.ChunkedArray) -> bool:
    """Whether what is in the middle of a column gets half as large; a small one is compressed untried."""
    if not column.num_chunks:
        return True
    _, _, values = max(column.chunks, key=len).buffers()
    if values is None or values.size < _LARGE:
        return True
    sample = values.slice(values.size // 2, _SAMPLE)
    return 2 * len(_LZ4.compress(sample)) <= len(sample)


def _has_vectors(schema: pa.Schema) -> bool:
    return any(
        pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type)
        for field in schema
    )


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Columns of a Parquet file, by their paths, that hold values of a type."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def read_partition_file(
    path: Path,
    schema: pa.Schema,
    column: str | None,
    key: str,
    *,
    let_go: Collection[str] = (),
) -> pa.Table:
    """Rows of one data file, as `schema` has them: without a data set of all the table's files, which
    takes ten times as long for a shard.

    Args:
        column: that the table is partitioned by, with the value `key` in these rows.
        let_go: columns that nobody is to read from this file soon (`_let_go`).
    """
    with _opened(path) as (file, data):
        rows = file.read(schema.names, use_threads=False)  # those that it has
        if let_go:
            _let_go(data, file.metadata, let_go)
    return _as_asked(rows, schema, column, key)


def _let_go(data: pa.OSFile, metadata: pq.FileMetaData, columns: Collection[str]) -> None:
    """Have the system drop these columns of a file from its cache, where they are on disk.

    What is written next takes their memory. Fresh memory costs several times as much where a host has to
    find it first: a virtual machine hands back to its host what has been free for some seconds.
    """
    if not hasattr(os, "posix_fadvise"):
        return  # macOS
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            part = group.column(place)
            if part.path_in_schema in columns:
                start, size = part.data_page_offset, part.total_compressed_size
                os.posix_fadvise(data.fileno(), start, size, os.POSIX_FADV_DONTNEED)


def read_around(
    path: Path, schema: pa.Schema, column: str | None, key: str, wanted: RowNumbers
) -> tuple[RowNumbers, pa.Table]:
    """Some rows of a data file, as `read_partition_file` gives them, and those that are read with them.

    Args:
        wanted: numbers of rows, at least one.

    Returns:
        The numbers of the rows that were read, in order, and the rows.
    """
    with _opened(path) as (file, _):
        of_group = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        ends = np.cumsum(of_group)
        groups = np.unique(np.searchsorted(ends, wanted, side="right"))
        rows = file.read_row_groups(groups.tolist(), schema.names, use_threads=False)
    numbers = [np.arange(ends[group] - of_group[group], ends[group]) for group in groups]
    return np.concatenate(numbers), _as_asked(rows, schema, column, key)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pq.ParquetFile, pa.OSFile]]:
    """To be read by this thread alone: whoever reads several files has threads of its own."""
    with pa.OSFile(str(path)) as data, pq.ParquetFile(data, pre_buffer=False) as file:
        yield file, data


def _as_asked(rows: pa.Table, schema: pa.Schema, column: str | None, key: str) -> pa.Table:
    """Rows of a partition with the columns that are asked for."""

    def values(field: pa.Field) -> pa.Array | pa.ChunkedArray:
        if field.name == column:
            return pa.repeat(pa.scalar(key, field.type), len(rows))
        if field.name in rows.column_names:
            found = rows[field.name]
            return found if found.type == field.type else found.cast(field.type)
        return pa.nulls(len(rows), field.type)  # written before the column was

    return pa.table([values(field) for field in schema], schema=schema)
