"""The lake: Delta tables on disk, one a name, sharded ones partitioned by `shard`.

Knows tables, not stages. Every write is one Delta commit: it is there whole, or not at all.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
from deltalake.exceptions import TableNotFoundError

_text, _int, _bytes = pa.string(), pa.int64(), pa.large_binary()
#: Access tags in order; null where there are none, as in rows older than the column.
_TAGS = pa.list_(_text)
_HEADINGS = pa.list_(pa.struct([("start", _int), ("level", _int), ("text", _text)]))
_SPANS = pa.list_(
    pa.struct(
        [
            ("id", _text),
            ("parent", _text),
            ("name", _text),
            ("start_ms", pa.float64()),
            ("ms", pa.float64()),
            ("error", _text),
            ("links", pa.list_(_text)),
            ("attributes", _text),
        ]
    )
)

#: Schema of every table, so that an empty table is as typed as a full one.
SCHEMAS: dict[str, pa.Schema] = {
    "raw_documents": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("etag", _text),
            ("media_type", _text),
            ("size", _int),
            ("licence", _text),
            ("content", _bytes),
            ("digest", _text),
            ("access", _TAGS),
        ]
    ),
    "clean_documents": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("title", _text),
            ("language", _text),
            ("text", pa.large_string()),
            ("headings", _HEADINGS),
            ("licence", _text),
            ("input_digest", _text),
            ("digest", _text),
            ("access", _TAGS),
            ("quality_flags", pa.list_(_text)),
            ("folded_digest", _text),
            ("signature", _bytes),
        ]
    ),
    "quarantine": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("stage", _text),
            ("reason", _text),
            ("detail", _text),
            ("input_digest", _text),
        ]
    ),
    "duplicates": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("cluster", _text),
            ("survivor", _text),
            ("similarity", pa.float64()),
            ("kind", _text),
        ]
    ),
    "document_shards": pa.schema(
        [
            ("id", _text),
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("ordinal", _int),
            ("start", _int),
            ("end", _int),
            ("title", _text),
            ("heading", _text),
            ("text", _text),
            ("tokens", _int),
            ("embed_digest", _text),
            ("digest", _text),
            ("input_digest", _text),
            ("licence", _text),
            ("access", _TAGS),
        ]
    ),
    "chunk_embeddings": pa.schema(
        [
            ("shard", _text),
            ("embed_digest", _text),
            ("model", _text),
            ("vector", pa.list_(pa.float32())),
        ]
    ),
    "golden_set": pa.schema(
        [
            ("id", _text),
            ("question", _text),
            ("reference", _text),
            ("uris", pa.list_(_text)),
            ("category", _text),
            ("provisional", pa.bool_()),
        ]
    ),
    "sft_dataset": pa.schema(
        [
            ("id", _text),
            ("kind", _text),
            ("question", _text),
            ("answer", _text),
            ("chunk_id", _text),
            ("uri", _text),
            ("context", pa.list_(_text)),
            ("split", _text),
            ("trace", _text),
        ]
    ),
    "preference_pairs": pa.schema(
        [
            ("id", _text),
            ("question", _text),
            ("context", pa.list_(_text)),
            ("chosen", _text),
            ("rejected", _text),
            ("traces", pa.list_(_text)),
            ("source", _text),
        ]
    ),
    "requests": pa.schema(
        [
            ("day", _text),
            ("trace", _text),
            ("time", pa.timestamp("us", tz="UTC")),
            ("release", _text),
            ("arm", _text),
            ("session", _text),
            ("key", _text),
            ("question", _text),
            ("answer", _text),
            ("status", _text),
            ("streamed", pa.bool_()),
            ("refused", pa.bool_()),
            ("ungrounded", pa.float64()),
            ("guard", pa.list_(_text)),
            ("uris", pa.list_(_text)),
            ("scores", pa.list_(pa.float64())),
            ("chunk_ids", pa.list_(_text)),
            ("prompt_tokens", _int),
            ("completion_tokens", _int),
            ("retrieve_ms", pa.float64()),
            ("generate_ms", pa.float64()),
            ("total_ms", pa.float64()),
            ("energy_wh", pa.float64()),
            ("cost", pa.float64()),
            ("spans", _SPANS),
        ]
    ),
    "feedback": pa.schema(
        [
            ("day", _text),
            ("id", _text),
            ("time", pa.timestamp("us", tz="UTC")),
            ("trace", _text),
            ("release", _text),
            ("user", _text),
            ("thumb", _text),
            ("correction", _text),
            ("tags", pa.list_(_text)),
            ("rival", _text),
            ("rival_release", _text),
            ("preferred", _text),
        ]
    ),
}
#: Tables whose rows are bucketed, and the column that does it.
PARTITIONED = {
    "raw_documents": "shard", "clean_documents": "shard", "quarantine": "shard",
    "document_shards": "shard", "chunk_embeddings": "shard", "requests": "day",
    "feedback": "day",
}  # fmt: skip


class Lake:
    """Typed access to the tables below one folder (or, later, one bucket)."""

    def __init__(self, root: Path) -> None:
        self.root = root

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
                self._write(name, SCHEMAS[name].empty_table(), mode="append", predicate=None)
            else:
                _add_new_columns(table, SCHEMAS[name])

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
        schema = SCHEMAS[name]
        if columns is not None:
            schema = pa.schema([schema.field(column) for column in columns])
        table = self._open(name, version)
        if table is None or (where is not None and any(not v for v in where.values())):
            return schema.empty_table()
        filters = [(column, "in", list(values)) for column, values in (where or {}).items()]
        known = {field.name for field in table.schema().fields}
        stored = [column for column in schema.names if column in known]
        rows = table.to_pyarrow_table(columns=stored, filters=filters or None)
        for field in schema:
            if field.name not in known:  # written before the column was
                rows = rows.append_column(field, pa.nulls(len(rows), field.type))
        return rows.select(schema.names).cast(schema)

    def replace(self, name: str, rows: pa.Table, *, keys: Sequence[str]) -> int:
        """Replace whole partitions (`keys` of the partition column) in one commit.

        Rows must belong to those partitions. Returns the new version.
        """
        column = PARTITIONED[name]
        predicate = " OR ".join(f"{column} = {_quote(key)}" for key in keys)
        return self._write(name, rows, mode="overwrite", predicate=predicate or None)

    def overwrite(self, name: str, rows: pa.Table) -> int:
        """Replace all rows of a table in one commit. Returns the new version."""
        return self._write(name, rows, mode="overwrite", predicate=None)

    def _write(self, name: str, rows: pa.Table, *, mode: str, predicate: str | None) -> int:
        path = self.path(name)
        path.mkdir(parents=True, exist_ok=True)
        partition = PARTITIONED.get(name)
        options: dict[str, Any] = {"mode": "append"}
        table = self._open(name)
        if table is not None:
            _add_new_columns(table, SCHEMAS[name])
        if mode == "overwrite" and table is not None:
            options = {"mode": "overwrite", "predicate": predicate}
        deltalake.write_deltalake(
            str(path),
            rows.cast(SCHEMAS[name]),
            partition_by=[partition] if partition else None,
            name=name,
            **options,
        )
        return deltalake.DeltaTable(str(path)).version()


def rows_to_table(name: str, rows: Iterable[Mapping[str, object]]) -> pa.Table:
    """Build a table of the schema called `name` from mappings; tuples become lists."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMAS[name])


def _add_new_columns(table: deltalake.DeltaTable, schema: pa.Schema) -> None:
    """Give a table that an earlier version of Headwater wrote the columns it lacks, null."""
    known = {field.name for field in table.schema().fields}
    missing = [field for field in schema if field.name not in known]
    if missing:
        table.alter.add_columns(deltalake.Schema.from_arrow(pa.schema(missing)).fields)


def _quote(value: str) -> str:
    return json.dumps(value).replace("'", "''").replace('"', "'")
