"""Rows as documents: which columns hold what, and the URI, etag, bytes and tags that a row makes.

Knows neither files nor databases; a row that makes no document says why.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any, Literal, Protocol
from urllib.parse import unquote

import orjson
from pydantic import BaseModel, ConfigDict, Field

from headwater.documents.kinds.base import Access, ReadError, base_uri, quote
from headwater.documents.parsed import label
from headwater.errors import HeadwaterError
from headwater.records import SourceItem, digest_bytes, digest_of

#: How the text of a row is read.
TextFormat = Literal["plain", "markdown", "html"]
#: Ids that an error names.
NAMED = 5


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


class RowSource(Protocol):
    """What an entry says that makes documents of rows."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Columns: ...
    @property
    def text_format(self) -> TextFormat: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was found: `place` is for people, `fault` what keeps it from being read."""

    place: str
    values: dict[str, Any]
    fault: tuple[str, str] | None = None


def listed(source: RowSource, found: Iterable[tuple[Row, SourceItem]]) -> list[SourceItem]:
    """The items of all rows.

    Raises:
        HeadwaterError: an id is there twice.
    """
    items: list[SourceItem] = []
    places: dict[str, str] = {}
    twice: list[str] = []
    for row, item in found:
        if item.uri in places:
            if len(twice) < NAMED:
                twice.append(
                    f"{row.values.get(source.columns.id)!r} ({places[item.uri]}, {row.place})"
                )
            continue
        places[item.uri] = row.place
        items.append(item)
    if twice:
        raise is_twice(source, twice)
    return items


def merged(source: RowSource, parts: Mapping[str, Sequence[SourceItem]]) -> list[SourceItem]:
    """The items of all files, by the files' paths.

    Raises:
        HeadwaterError: two files hold one id.
    """
    if len(parts) == 1:
        return [item for part in parts.values() for item in part]
    items = [item for part in parts.values() for item in part]
    if len({item.uri for item in items}) == len(items):
        return items
    places: dict[str, str] = {}
    twice: list[str] = []
    for place, part in parts.items():
        for item in part:
            if item.uri not in places:
                places[item.uri] = place
            elif len(twice) < NAMED:
                id = unquote(item.uri.removeprefix(base_uri(source.name)))
                twice.append(f"{id!r} ({Path(places[item.uri]).name}, {Path(place).name})")
    raise is_twice(source, twice)


def is_twice(source: RowSource, twice: Sequence[str]) -> HeadwaterError:
    """The error of ids that are there twice; each names itself and its places."""
    return HeadwaterError(
        f"The source {source.name!r} holds ids more than once: {'; '.join(twice)}.",
        mend="Give each row an id of its own, or name another column with --id-column.",
    )


def contents(
    source: RowSource,
    rows: Iterable[Row],
    wanted: dict[str, SourceItem],
    max_bytes: int,
    etag_of: Callable[[Any, Row], str],
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of the items among `wanted` (by URI) that are found in rows; takes them out of it."""
    for row in rows:
        item = wanted.pop(uri_of(source, row), None)
        if item is None:
            continue
        content = content_of(source, row)
        if isinstance(content, ReadError):
            yield item, content
        elif isinstance(fitting := within(content, max_bytes), ReadError):
            yield item, fitting
        elif etag_of(source, row) != item.etag:
            yield item, ReadError("missing", f"{row.place} changed after it was listed")
        else:
            yield item, content
        if not wanted:
            return


def within(content: bytes, max_bytes: int) -> bytes | ReadError:
    """The bytes of a document, where they are not more than the limit."""
    if len(content) > max_bytes:
        return ReadError("too_large", f"{len(content):,} bytes; the limit is {max_bytes:,}")
    return content


def vanished(wanted: dict[str, SourceItem]) -> Iterator[tuple[SourceItem, ReadError]]:
    """What is said of the items that no row was found for."""
    for item in wanted.values():
        yield item, ReadError("missing", "the row vanished after it was listed")


def item_of(source: RowSource, row: Row, locator: str = "") -> SourceItem:
    """The item of a row that was read whole; the etag is the digest of its mapped columns."""
    content = content_of(source, row)
    if isinstance(content, ReadError):
        return item_with(source, row, 0, etag_of(source, row), content)
    return item_with(source, row, len(content), etag_of(source, row), None, locator=locator)


def item_with(
    source: RowSource,
    row: Row,
    size: int,
    etag: str,
    fault: ReadError | None,
    *,
    locator: str = "",
) -> SourceItem:
    """The item of a row, with the licence and the tags that it has itself."""
    tags = tags_of(source, row)
    licence = row.values.get(source.columns.licence) if source.columns.licence else None
    return SourceItem(
        uri=uri_of(source, row),
        source=source.name,
        size=size,
        etag=etag,
        media_type=intern(f"text/{source.text_format}"),
        # The same few in all rows: one of each is in memory.
        licence=intern(str(licence)) if licence else None,
        access=() if isinstance(tags, ReadError) else tags,
        locator=locator,
        fault=(fault.reason, fault.detail) if fault else None,
    )


def uri_of(source: RowSource, row: Row) -> str:
    """The URI of a row: made of its id, or of its place where it has none."""
    id = id_of(source, row)
    base = base_uri(source.name)
    if id is None:
        return f"{base}?row={quote(row.place.encode('utf-8', 'surrogatepass'))}"
    return base + quote(id.encode("utf-8", "surrogatepass"))


def id_of(source: RowSource, row: Row) -> str | None:
    """The id as text; whole numbers are ids, nothing and other values are not."""
    value = row.values.get(source.columns.id)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def etag_of(source: RowSource, row: Row) -> str:
    """Changes where a mapped column does."""
    values = [row.values.get(name) for name in source.columns.named()]
    if row.fault is None and all(value is None or type(value) is str for value in values):
        try:
            # As `digest_of` encodes them, in a fraction of its time.
            return digest_bytes(orjson.dumps([source.text_format, values, None]))
        except orjson.JSONEncodeError:
            pass  # a lone surrogate
    return digest_of(source.text_format, [v if _is_json(v) else str(v) for v in values], row.fault)


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_json(each) for each in value)
    return value is None or isinstance(value, str | int | float | bool)


def fault_of(source: RowSource, row: Row) -> ReadError | None:
    """What is wrong with a row whatever its text is; None where nothing is."""
    if row.fault is not None:
        return ReadError(*row.fault)
    if id_of(source, row) is None:
        return ReadError("no_id", f"{row.place} has no {source.columns.id!r}")
    tags = tags_of(source, row)
    return tags if isinstance(tags, ReadError) else None


def content_of(source: RowSource, row: Row) -> bytes | ReadError:
    """The document that a row makes, or what is wrong with it."""
    if row.fault is not None:
        return ReadError(*row.fault)
    if id_of(source, row) is None:
        return ReadError("no_id", f"{row.place} has no {source.columns.id!r}")
    text = row.values.get(source.columns.text)
    if text is None:
        return ReadError("no_text", f"{row.place} has no {source.columns.text!r}")
    if not isinstance(text, str):
        kind = type(text).__name__
        return ReadError("bad_row", f"{source.columns.text!r} of {row.place} is no text but {kind}")
    tags = tags_of(source, row)
    if isinstance(tags, ReadError):
        return tags
    return _titled(source, row, text).encode("utf-8", "replace")


def _titled(source: RowSource, row: Row, text: str) -> str:
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


def tags_of(source: RowSource, row: Row) -> tuple[str, ...] | ReadError:
    """Tags of the row. One that cannot be read is a fault: it might have been `restricted`."""
    value = row.values.get(source.columns.access) if source.columns.access else None
    if value is None:
        return ()
    from pydantic import TypeAdapter, ValidationError

    listed = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    named = [tag for tag in listed if tag != ""] if isinstance(listed, list) else listed
    try:
        tags: tuple[str, ...] = TypeAdapter(Access).validate_python(named)
    except ValidationError:
        detail = f"{source.columns.access!r} of {row.place} holds no tags: {str(value)[:80]}"
        return ReadError("bad_access", detail)
    return tags


def check_columns(
    source: RowSource, where: str, found: Iterable[str], needed: Iterable[str] | None = None
) -> None:
    """Raise an error that names the columns there are where one that is needed is missing.

    Args:
        needed: those that are mapped, where nothing else is said.
    """
    columns = list(found)
    wanted = source.columns.named() if needed is None else needed
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise HeadwaterError(
            f"{where} has no column {missing[0]!r} (source {source.name!r}).",
            mend=f"Name one of these: {', '.join(columns)[:500] or 'it has none'}.",
        )
