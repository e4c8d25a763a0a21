"""Tables as sources: JSONL, CSV and Parquet files and SQLite databases, a document a row.

A row is read as its file holds it, a batch at a time. Rows that make no document are listed with
their fault, so that they end in quarantine; an id that is there twice is an error.
"""

import csv
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headwater.documents.kinds.base import (
    Access,
    Entry,
    ReadError,
    Remembered,
    base_uri,
    quote,
    status_of,
)
from headwater.documents.parsed import label
from headwater.errors import HeadwaterError
from headwater.records import SourceItem, digest_of

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
#: Ids that an error names.
_NAMED = 5
#: Objects of JSONL whose keys an error can offer as columns.
_SAMPLED = 100
_remembered = Remembered()


class Columns(BaseModel):
    """Which columns of a table hold what; only id and text must be there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = "id"
    text: str = "text"
    title: str | None = None
    licence: str | None = None
    access: str | None = Field(
        default=None, description="A tag, tags by commas, or a list; besides those of the source."
    )

    def named(self) -> list[str]:
        """The columns to read, each once."""
        return list(_named(self))


@lru_cache(maxsize=64)
def _named(columns: Columns) -> tuple[str, ...]:
    """Asked for each row of a table."""
    return tuple(dict.fromkeys(name for name in columns.model_dump().values() if name))


class TableSource(Entry):
    """Rows of a file, of the files that a pattern matches, or of a table of a SQLite database."""

    kind: Literal["table"] = "table"
    path: Path = Field(description="A file, or a pattern (`data/*.jsonl`).")
    format: Format | None = Field(default=None, description="None: by the suffix.")
    columns: Columns = Columns()
    table: str | None = Field(default=None, description="Of a SQLite database.", min_length=1)
    text_format: Literal["plain", "markdown", "html"] = "plain"

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


@dataclass(frozen=True, slots=True)
class _Row:
    """One row as it was found: `place` is for people, `fault` what keeps it from being read."""

    place: str
    values: dict[str, Any]
    fault: tuple[str, str] | None = None


def list_rows(source: TableSource) -> list[SourceItem]:
    """An item for each row; the etag is the digest of its mapped columns.

    Raises:
        HeadwaterError: no file is there, a column is missing, or an id is there twice.
    """
    files = _files(source)
    logs = [file.with_name(f"{file.name}-wal") for file in files if source.form == "sqlite"]
    made_of = (source.model_dump_json(), status_of([*files, *logs]))
    return _remembered.listing(source.name, made_of, lambda: _list(source, files))


def read_rows(
    source: TableSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items, in one pass over the files, in any order."""
    wanted = {item.uri: item for item in items}
    for row in _rows(source, _files(source)):
        if not wanted:
            return
        uri = _uri(source, row)
        item = wanted.get(uri)
        if item is None:
            continue
        del wanted[uri]
        content = _content(source, row)
        if isinstance(content, ReadError):
            yield item, content
        elif len(content) > max_bytes:
            yield (
                item,
                ReadError("too_large", f"{len(content):,} bytes; the limit is {max_bytes:,}"),
            )
        elif _etag(source, row) != item.etag:
            yield item, ReadError("missing", f"{row.place} changed after it was listed")
        else:
            yield item, content
    for item in wanted.values():
        yield item, ReadError("missing", "the row vanished after it was listed")


def _list(source: TableSource, files: Sequence[Path]) -> list[SourceItem]:
    items: list[SourceItem] = []
    places: dict[str, str] = {}
    twice: list[str] = []
    for row in _rows(source, files):
        item = _item(source, row)
        if item.uri in places:
            if len(twice) < _NAMED:
                twice.append(
                    f"{row.values.get(source.columns.id)!r} ({places[item.uri]}, {row.place})"
                )
            continue
        places[item.uri] = row.place
        items.append(item)
    if twice:
        raise HeadwaterError(
            f"The source {source.name!r} holds ids more than once: {'; '.join(twice)}.",
            mend="Give each row an id of its own, or name another column with --id-column.",
        )
    return items


def _item(source: TableSource, row: _Row) -> SourceItem:
    content = _content(source, row)
    tags = _tags(source, row)
    fault = (content.reason, content.detail) if isinstance(content, ReadError) else None
    licence = row.values.get(source.columns.licence) if source.columns.licence else None
    return SourceItem(
        uri=_uri(source, row),
        source=source.name,
        size=0 if isinstance(content, ReadError) else len(content),
        etag=_etag(source, row),
        media_type=f"text/{source.text_format}",
        licence=str(licence) if licence else None,
        access=() if isinstance(tags, ReadError) else tags,
        fault=fault,
    )


def _uri(source: TableSource, row: _Row) -> str:
    id = _id(source, row)
    base = base_uri(source.name)
    if id is None:
        return f"{base}?row={quote(row.place.encode('utf-8', 'surrogatepass'))}"
    return base + quote(id.encode("utf-8", "surrogatepass"))


def _id(source: TableSource, row: _Row) -> str | None:
    """The id as text; whole numbers are ids, nothing and other values are not."""
    value = row.values.get(source.columns.id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def _etag(source: TableSource, row: _Row) -> str:
    values = [row.values.get(name) for name in source.columns.named()]
    return digest_of(source.text_format, [v if _is_json(v) else str(v) for v in values], row.fault)


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(each) for each in value)
    return value is None or isinstance(value, str | int | float | bool)


def _content(source: TableSource, row: _Row) -> bytes | ReadError:
    """The document that a row makes, or what is wrong with it."""
    if row.fault is not None:
        return ReadError(*row.fault)
    if _id(source, row) is None:
        return ReadError("no_id", f"{row.place} has no {source.columns.id!r}")
    text = row.values.get(source.columns.text)
    if text is None:
        return ReadError("no_text", f"{row.place} has no {source.columns.text!r}")
    if not isinstance(text, str):
        kind = type(text).__name__
        return ReadError("bad_row", f"{source.columns.text!r} of {row.place} is no text but {kind}")
    tags = _tags(source, row)
    if isinstance(tags, ReadError):
        return tags
    return _titled(source, row, text).encode("utf-8", "replace")


def _titled(source: TableSource, row: _Row, text: str) -> str:
    """The text below its title, in the way of its format."""
    value = row.values.get(source.columns.title) if source.columns.title else None
    title = label(str(value)) if value is not None else ""
    if not title:
        return text
    match source.text_format:
        case "markdown":
            return f"# {title}\n\n{text}"
        case "html":
            from html import escape

            return f"<title>{escape(title)}</title>\n{text}"
        case _:
            return f"{title}\n{'=' * max(len(title), 3)}\n\n{text}"


def _tags(source: TableSource, row: _Row) -> tuple[str, ...] | ReadError:
    """Tags of the row. One that cannot be read is a fault: it might have been `restricted`."""
    from pydantic import TypeAdapter, ValidationError

    value = row.values.get(source.columns.access) if source.columns.access else None
    if value is None:
        return ()
    listed = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    named = [tag for tag in listed if tag != ""] if isinstance(listed, list) else listed
    try:
        tags: tuple[str, ...] = TypeAdapter(Access).validate_python(named)
    except ValidationError:
        detail = f"{source.columns.access!r} of {row.place} holds no tags: {str(value)[:80]}"
        return ReadError("bad_access", detail)
    return tags


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


def _rows(source: TableSource, files: Sequence[Path]) -> Iterator[_Row]:
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


def _check_columns(source: TableSource, file: Path, found: Iterable[str]) -> None:
    columns = list(found)
    missing = [name for name in source.columns.named() if name not in columns]
    if missing:
        raise HeadwaterError(
            f"{file} has no column {missing[0]!r} (source {source.name!r}).",
            mend=f"Name one of these: {', '.join(columns)[:500] or 'it has none'}.",
        )


def _jsonl(source: TableSource, file: Path) -> Iterator[_Row]:
    """An object a line. One may lack any column; an error where all of them lack one."""
    names = source.columns.named()
    seen: dict[str, None] = {}
    objects = 0
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"{file.name} line {number}"
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = lines.readline(MAX_LINE_BYTES)
                detail = f"{place} is longer than {MAX_LINE_BYTES:,} bytes"
                yield _Row(place, {}, ("too_large", detail))
            elif line.strip():
                value, fault = _object(line)
                if fault:
                    yield _Row(place, {}, ("bad_row", f"{place} {fault}"))
                    continue
                objects += 1
                if objects <= _SAMPLED:
                    seen |= dict.fromkeys(value)
                yield _Row(place, {name: value.get(name) for name in names})
                seen |= {name: None for name in names if name in value}
    if objects:
        _check_columns(source, file, seen)


def _object(line: bytes) -> tuple[dict[str, Any], str]:
    """The object that a line holds, or what is wrong with it."""
    try:
        value = json.loads(line)
    except RecursionError:
        return {}, "is nested too deep"
    except ValueError:
        return {}, "is no JSON"
    return (value, "") if isinstance(value, dict) else ({}, "is no object")


def _csv(source: TableSource, file: Path) -> Iterator[_Row]:
    names = source.columns.named()
    previous = csv.field_size_limit(MAX_LINE_BYTES)
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines)
            header = next(reader, [])
            _check_columns(source, file, header)
            at = {name: header.index(name) for name in names}
            for cells in reader:
                place = f"{file.name} line {reader.line_num}"
                if not cells:
                    continue
                if len(cells) != len(header):
                    detail = f"{place} has {len(cells)} cells; the header has {len(header)}"
                    yield _Row(place, {}, ("bad_row", detail))
                else:
                    # An empty cell says nothing: CSV has no other sign for it.
                    yield _Row(place, {name: cells[at[name]] or None for name in names})
    except csv.Error as error:
        raise _unreadable(source, file, str(error)) from error
    finally:
        csv.field_size_limit(previous)


def _parquet(source: TableSource, file: Path) -> Iterator[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, number = source.columns.named(), 0
    try:
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            _check_columns(source, file, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(batch_size=BATCH, columns=names, use_threads=False):
                for values in batch.to_pylist():
                    number += 1
                    yield _Row(f"{file.name} row {number}", values)
    except pa.ArrowException as error:
        raise _unreadable(source, file, str(error).split("\n")[0]) from error


def _sqlite(source: TableSource, file: Path) -> Iterator[_Row]:
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
        _check_columns(source, file, found)
        listed = ", ".join(_quoted(name) for name in names)
        cursor = database.execute(f"SELECT {listed} FROM {_quoted(source.table or '')}")
        for number, values in enumerate(cursor, 1):
            yield _Row(f"{file.name} row {number}", dict(zip(names, values, strict=True)))


def _tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
    return sorted(str(row[0]) for row in found)


def _quoted(name: str) -> str:
    """A name of SQL: checked to be there, and quoted whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
