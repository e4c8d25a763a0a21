"""Tables as sources: JSONL, CSV and Parquet files and SQLite databases, a document a row.

A row is read as its file holds it, a batch at a time. Rows that make no document are listed with
their fault, so that they end in quarantine; an id that is there twice is an error.
"""

import csv
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from glob import glob
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from headwater.documents.kinds import jsonl
from headwater.documents.kinds.base import Entry, Part, ReadError, Remembered, status_of
from headwater.documents.kinds.rows import (
    Columns,
    Row,
    TextFormat,
    check_columns,
    contents,
    etag_of,
    item_of,
    listed,
    merged,
    vanished,
)
from headwater.errors import HeadwaterError
from headwater.memory import uncollected
from headwater.records import SourceItem

#: Suffixes of tables, and how they are read.
FORMATS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet",
    ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite",
}  # fmt: skip
Format = Literal["jsonl", "csv", "parquet", "sqlite"]
#: Rows of a Parquet file that are in memory at a time.
BATCH = 256
#: A line of JSONL that is longer is a fault of its row.
MAX_LINE_BYTES = 64 * 2**20
#: Where the rows that are wanted are less than this part of the files, they are read at their places.
_SPARSE = 4
_remembered = Remembered()


class TableSource(Entry):
    """Rows of a file, of the files that a pattern matches, or of a table of a SQLite database."""

    kind: Literal["table"] = "table"
    path: Path = Field(description="A file, or a pattern (`data/*.jsonl`).")
    format: Format | None = Field(default=None, description="None: by the suffix.")
    columns: Columns = Columns()
    table: str | None = Field(default=None, description="Of a SQLite database.", min_length=1)
    text_format: TextFormat = "plain"

    @field_validator("table")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("a table's name holds no zero byte")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "TableSource":
        if self.format is None and self.path.suffix.lower() not in FORMATS:
            raise ValueError(f"the format of {self.path.name} must be named: {', '.join(FORMATS)}")
        if (self.form == "sqlite") != (self.table is not None):
            raise ValueError("`table` names the table of a SQLite database, and of nothing else")
        return self

    @property
    def form(self) -> str:
        """How its files are read."""
        return self.format or FORMATS[self.path.suffix.lower()]


def list_rows(source: TableSource) -> list[SourceItem]:
    """An item for each row; the etag is the digest of its mapped columns. Files are read that changed.

    Raises:
        HeadwaterError: no file is there, a column is missing, or an id is there twice.
    """
    entry = source.model_dump_json()
    made_of: dict[str, object] = {}
    for file in _files(source):
        logs = [file.with_name(f"{file.name}-wal")] if source.form == "sqlite" else []
        made_of[str(file)] = (entry, status_of([file, *logs]))
    rules = entry if source.form == "jsonl" else ""

    def make(file: str, was: Part | None) -> tuple[list[SourceItem], bytes]:
        return _list(source, Path(file), was)

    return _remembered.listing(
        source.name,
        made_of,
        lambda: merged(source, _remembered.parts(source.name, made_of, make, rules)),
    )


def forget(source: TableSource) -> None:
    """Hold the listing in memory no more; the next one is made from what is on the disk."""
    _remembered.forget(source.name)


def read_rows(
    source: TableSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items, in any order: a few rows of JSONL at their places, others in one pass."""
    wanted = {item.uri: item for item in items}
    if wanted:
        files = _files(source)
        if source.form == "jsonl" and _are_few(wanted.values(), files):
            yield from _placed(source, files, wanted, max_bytes)
    if wanted:
        yield from contents(source, _rows(source, files), wanted, max_bytes, etag_of)
    yield from vanished(wanted)


def _are_few(items: Collection[SourceItem], files: Iterable[Path]) -> bool:
    try:
        size = sum(file.stat().st_size for file in files)
    except FileNotFoundError:
        return False  # reading all of them will say so
    return _SPARSE * sum(item.size for item in items) < size


def _placed(
    source: TableSource, files: Sequence[Path], wanted: dict[str, SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """As `read_rows`, those that are at their places; takes them out of `wanted`."""
    items = jsonl.by_file(wanted.values())
    for file in files:
        try:
            for item, content in jsonl.placed(
                source, file, items.pop(jsonl.mark(file), ()), max_bytes
            ):
                del wanted[item.uri]
                yield item, content
        except OSError as error:
            raise _unreadable(source, file, str(error)) from error


def _list(
    source: TableSource, file: Path, was: Part | None = None
) -> tuple[list[SourceItem], bytes]:
    """The items of a file, and the digests of their lines where it is one of lines."""
    if source.form != "jsonl":
        return listed(source, ((row, item_of(source, row)) for row in _rows(source, [file]))), b""
    try:
        with uncollected():
            return jsonl.listed(source, file, MAX_LINE_BYTES, was)
    except OSError as error:
        raise _unreadable(source, file, str(error)) from error


def _files(source: TableSource) -> list[Path]:
    """The files, in order of their names."""
    if source.path.is_file():
        return [source.path]
    # `Path.glob` takes no pattern that begins at the root.
    found = map(Path, glob(str(source.path)))  # noqa: PTH207
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise HeadwaterError(
            f"The source {source.name!r} is not there: {source.path}.",
            mend=f"Restore the file, or run `headwater sources remove {source.name}`.",
        )
    return files


def _rows(source: TableSource, files: Sequence[Path]) -> Iterator[Row]:
    """All rows of all files. A file that cannot be read is an error: it would look empty."""
    reader = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet, "sqlite": _sqlite}[source.form]
    for file in files:
        try:
            yield from reader(source, file)
        except (OSError, sqlite3.Error) as error:
            raise _unreadable(source, file, str(error)) from error


def _unreadable(source: TableSource, file: Path, why: str) -> HeadwaterError:
    return HeadwaterError(
        f"The source {source.name!r} cannot read {file}: {why}.",
        mend="Mend the file, or correct the source's entry in sources.yaml.",
    )


def _jsonl(source: TableSource, file: Path) -> Iterator[Row]:
    return jsonl.rows(source, file, MAX_LINE_BYTES)


def _csv(source: TableSource, file: Path) -> Iterator[Row]:
    names = source.columns.named()
    previous = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines)
            header = next(reader, [])
            check_columns(source, str(file), header)
            at = {name: header.index(name) for name in names}
            for cells in reader:
                place = f"{file.name} line {reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    detail = f"{place} has {len(cells)} cells; the header has {len(header)}"
                    yield Row(place, {}, ("bad_row", detail))
                else:
                    # An empty cell says nothing: CSV has no other sign for it.
                    yield Row(place, {name: cells[at[name]] or None for name in names})
    except csv.Error as error:
        raise _unreadable(source, file, str(error)) from error
    finally:
        csv.field_size_limit(previous)


def _parquet(source: TableSource, file: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, number = source.columns.named(), 0
    try:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            check_columns(source, str(file), parquet.schema_arrow.names)
            for batch in parquet.iter_batches(batch_size=BATCH, columns=names, use_threads=False):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{file.name} row {number}", values)
    except pa.ArrowException as error:
        raise _unreadable(source, file, str(error).split("\n")[0]) from error


def _sqlite(source: TableSource, file: Path) -> Iterator[Row]:
    """Rows of a table or view in the order of the database, which is opened for reading only."""
    names = source.columns.named()
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
        database.text_factory = lambda data: data.decode("utf-8", "replace")
        # Nothing that a view or a column of the file says may write or load anything.
        database.execute("PRAGMA query_only = 1")
        database.execute("PRAGMA trusted_schema = 0")
        found = [
            row[1] for row in database.execute("SELECT * FROM pragma_table_info(?)", [source.table])
        ]
        if not found:
            raise HeadwaterError(
                f"{file} has no table {source.table!r} (source {source.name!r}).",
                mend=f"Name one of these with --table: {', '.join(_tables(database)) or 'none'}.",
            )
        check_columns(source, str(file), found)
        listed = ", ".join(_quoted(name) for name in names)
        cursor = database.execute(f"SELECT {listed} FROM {_quoted(source.table or '')}")
        for number, values in enumerate(cursor, 1):
            yield Row(f"{file.name} row {number}", dict(zip(names, values, strict=True)))


def _tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
    return sorted(str(row[0]) for row in found)


def _quoted(name: str) -> str:
    """A name of SQL: checked to be there, and quoted whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
