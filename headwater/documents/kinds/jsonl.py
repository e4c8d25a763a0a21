"""Files of JSON Lines: their rows, and what their listing saves where most lines stay as they were.

A line that was listed before has the item that it had, and a row is read at its place. Knows one file
at a time, and the columns of its source.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from headwater.documents.kinds.base import LINE, Part, ReadError
from headwater.documents.kinds.rows import (
    NAMED,
    Row,
    RowSource,
    check_columns,
    content_of,
    etag_of,
    is_twice,
    item_of,
    uri_of,
    within,
)
from headwater.records import SourceItem, digest_of

#: Objects whose keys an error can offer as columns.
_SAMPLED = 100
#: Brackets in a line below which no reader finds it nested too deep.
_FLAT = 100
_UNKNOWN = bytes(LINE)
#: Bytes that are read at a time: many lines, and of a row that is far from the next one not much more.
_BUFFER = 2**16


#: The number of a line, where it begins, its bytes, and whether they are all of it.
_Line = tuple[int, int, bytes, bool]


def rows(source: RowSource, file: Path, longest: int) -> Iterator[Row]:
    """An object a line. One may lack any column; an error where all of them lack one.

    Args:
        longest: bytes of a line; one that is longer is a fault of its row.
    """
    reader = _Reader(source, file, longest)
    for line in _lines(file, longest):
        yield reader.row(line)
    reader.check()


def listed(
    source: RowSource, file: Path, longest: int, was: Part | None
) -> tuple[list[SourceItem], bytes]:
    """The items of a file, each with its place, and the digests of their lines.

    Args:
        was: the file's part of an earlier listing. Its items stand where their lines are still there,
            with the places that they had.

    Raises:
        HeadwaterError: an id is there twice, or all rows lack a column.
    """
    known, stood = _known(was), False
    reader, here = _Reader(source, file, longest), mark(file)
    items: list[SourceItem] = []
    digests: list[bytes] = []
    numbers: dict[str, int] = {}
    twice: list[str] = []
    for line in _lines(file, longest):
        number, start, data, _ = line
        digest = hashlib.sha256(data).digest()[:LINE]
        item = known.get(digest)
        if item is None:
            item = item_of(source, reader.row(line), f"{here}:{start}:{len(data)}")
        else:
            stood = True
        if numbers.setdefault(item.uri, number) != number:
            if len(twice) < NAMED:
                id = reader.row(line).values.get(source.columns.id)
                twice.append(f"{id!r} ({reader.place(numbers[item.uri])}, {reader.place(number)})")
            continue
        items.append(item)
        # A fault names the line by its number, and so does the URI of a row without an id.
        digests.append(_UNKNOWN if item.fault else digest)
    if twice:
        raise is_twice(source, twice)
    if stood:
        reader.look_for_columns()
    reader.check()
    return items, b"".join(digests)


def by_file(items: Iterable[SourceItem]) -> dict[str, list[SourceItem]]:
    """Items by the marks of the files that they have places in."""
    found: dict[str, list[SourceItem]] = {}
    for item in items:
        if item.locator:
            found.setdefault(item.locator.partition(":")[0], []).append(item)
    return found


def placed(
    source: RowSource, file: Path, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of those items of a file that are at their places still.

    What is elsewhere, or is not what was listed, is left for whoever reads all rows.
    """
    reader = _Reader(source, file, 0)
    with file.open("rb", buffering=_BUFFER) as opened:
        for start, length, item in sorted(map(_place, items), key=itemgetter(0)):
            opened.seek(start)
            row = reader.row((0, start, opened.read(length), True))
            if uri_of(source, row) != item.uri or etag_of(source, row) != item.etag:
                continue
            content = content_of(source, row)
            if isinstance(content, bytes):
                yield item, within(content, max_bytes)


def _place(item: SourceItem) -> tuple[int, int, SourceItem]:
    _, start, length = item.locator.split(":")
    return int(start), int(length), item


class _Reader:
    """Makes rows of the lines of a file, and notes which columns they have."""

    def __init__(self, source: RowSource, file: Path, longest: int) -> None:
        self._source, self._file, self._longest = source, file, longest
        self._names = source.columns.named()
        self._seen: dict[str, None] = {}
        self._objects = 0

    def place(self, number: int) -> str:
        """A line, as a person finds it."""
        return f"{self._file.name} line {number}"

    def row(self, line: _Line) -> Row:
        """The row that a line makes, if only one with a fault."""
        place, names = self.place(line[0]), self._names
        if not line[3]:
            detail = f"{place} is longer than {self._longest:,} bytes"
            return Row(place, {}, ("too_large", detail))
        value, fault = _object(line[2], names)
        if fault:
            return Row(place, {}, ("bad_row", f"{place} {fault}"))
        self._objects += 1
        if self._objects <= _SAMPLED:
            self._seen |= dict.fromkeys(value)
        if len(self._seen) < len(names) or not all(name in self._seen for name in names):
            self._seen |= {name: None for name in names if name in value}
        return Row(place, {name: value.get(name) for name in names})

    def look_for_columns(self) -> None:
        """Read the file until all columns are found, where the rows so far, a few of it, lack some."""
        if all(name in self._seen for name in self._names):
            return
        self._seen, self._objects = {}, 0
        for line in _lines(self._file, self._longest):
            self.row(line)
            if all(name in self._seen for name in self._names):
                return

    def check(self) -> None:
        """Raise an error where all of the rows lack a column."""
        if self._objects:
            check_columns(self._source, str(self._file), self._seen)


def _lines(file: Path, longest: int) -> Iterator[_Line]:
    """The lines of a file that are not blank."""
    with file.open("rb", buffering=_BUFFER) as lines:
        number = start = 0
        while data := lines.readline(longest + 1):
            number, length = number + 1, len(data)
            if length > longest:
                yield number, start, data, False
                while data and not data.endswith(b"\n"):
                    data = lines.readline(longest)
                    length += len(data)
            elif not data.isspace():
                yield number, start, data, True
            start += length


def _known(was: Part | None) -> dict[bytes, SourceItem]:
    """Items by the digests of their lines."""
    if was is None:
        return {}
    starts = range(0, len(was.lines), LINE)
    digests = (was.lines[start : start + LINE] for start in starts)
    known = dict(zip(digests, was.items, strict=True))
    known.pop(_UNKNOWN, None)
    return known


def mark(file: Path) -> str:
    """Names a file in the place of a row."""
    return digest_of(str(file))[:8]


def _object(line: bytes, names: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The object that a line holds, or what is wrong with it."""
    value = _plain(line, names)
    if value is not None:
        return value, ""
    try:
        value = json.loads(line)
    except RecursionError:
        return {}, "is nested too deep"
    except ValueError:
        return {}, "is no JSON"
    return (value, "") if isinstance(value, dict) else ({}, "is no object")


def _plain(line: bytes, names: Sequence[str]) -> dict[str, Any] | None:
    """The object of a line, where a quicker reader finds what the one that counts would find.

    It knows neither NaN nor lone surrogates, makes a float of a large number, and nests deeper.
    """
    if line.count(b"[") + line.count(b"{") > _FLAT:
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if isinstance(value, dict) and all(_is_plain(value.get(name)) for name in names):
        return value
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(each is None or isinstance(each, str | int) for each in value)
    return value is None or isinstance(value, str | int)
