"""Data files of the lake's tables: Parquet, one or more a partition, written once and never changed.

Knows files and Arrow tables, not versions: a file counts once a commit names it. The tables' own
engine writes and reads the same files, and takes several times as long for a shard.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction


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
    # Bounds of texts and digests skip nothing, and nearly no value is there twice in a file.
    pq.write_table(
        stored,
        path,
        compression=_compression(stored.schema),
        use_dictionary=False,
        write_statistics=False,
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


def _compression(schema: pa.Schema) -> dict[str, str]:
    """The codec of each column of a file: a quick one, since an edit writes a shard anew, and none for a
    model's vectors, which hardly get smaller and are read and written twice as fast without.
    """
    leaves = (leaf for field in schema for leaf in _leaves(field.name, field.type))
    return {path: "none" if pa.types.is_floating(kind) else "lz4" for path, kind in leaves}


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Columns of a Parquet file, by their paths, that hold values of a type."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def read_partition_file(path: Path, schema: pa.Schema, column: str | None, key: str) -> pa.Table:
    """Rows of one data file, as `schema` has them: without a data set of all the table's files, which
    takes ten times as long for a shard.

    Args:
        column: that the table is partitioned by, with the value `key` in these rows.
    """
    # By this thread alone: whoever reads several files has threads of its own.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        stored = set(file.schema_arrow.names)
        count = file.metadata.num_rows
        rows = file.read([name for name in schema.names if name in stored], use_threads=False)

    def values(field: pa.Field) -> pa.Array | pa.ChunkedArray:
        if field.name == column:
            return pa.repeat(pa.scalar(key, field.type), count)
        if field.name in stored:
            return rows[field.name].cast(field.type)
        return pa.nulls(count, field.type)  # written before the column was

    return pa.table([values(field) for field in schema], schema=schema)
