"""Listings on disk: what a table or an archive held when it was read last, for the next process.

A part of a listing, such as that of one file, stands for as long as what it was made of is untouched;
of a file of lines, the items of those stand that are still in it.
Small listings are made anew.
Knows items, not where they come from. What it keeps is a cache below HEADWATER_HOME.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headwater.documents.kinds.base import LINE, Part
from headwater.files import write_atomic
from headwater.memory import uncollected
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: Change it when a kind makes other items of the same files: other URIs, etags, sizes or tags.
LISTING_VERSION = "listing/3"
#: Rows that are read and written at a time.
_ROWS = 2**14
#: Items below which making a listing is not worth keeping it.
FEWEST = 2_000
_text = pa.string()
#: The digest of what an item's part was made of; behind it, where there are lines, that of the part's
#: label and rules.
_PART = "part"
#: The digest of the line that an item was made of.
_LINE = "line"
_SCHEMA = pa.schema(
    [
        (_PART, pa.dictionary(pa.int32(), _text)),
        ("uri", _text),
        ("source", _text),
        ("size", pa.int64()),
        ("etag", _text),
        ("media_type", _text),
        ("licence", _text),
        ("access", pa.list_(_text)),
        ("locator", _text),
        ("fault", pa.list_(_text)),
        (_LINE, pa.binary(LINE)),
    ]
)
#: Columns in which many rows hold the same.
_SHARED = [_PART, "source", "media_type", "licence"]
_DIGEST = 64  # characters of one
log = logging.getLogger("headwater")


def kept(
    name: str, wanted: Mapping[str, object], rules: str
) -> tuple[dict[str, Part], dict[str, Part]]:
    """Of some parts of a source's listing those that were kept and are made of the same; and those
    that are made of something else by now, where `rules` are given and were the same.

    Args:
        wanted: what each of them is made of.
    """
    path = _path(name)
    labels = {_key(facts): label for label, facts in wanted.items()}
    changed = {_lines_key(label, rules): label for label in wanted} if rules else {}
    items: dict[str, list[SourceItem]] = {}
    lines: dict[str, list[bytes]] = {}
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if not file.schema_arrow.equals(_SCHEMA):
                return {}, {}  # of an earlier version
            for each in file.iter_batches(_ROWS, use_threads=False):
                batch = each
                keys = batch.column(_PART).dictionary.to_pylist()
                known = [
                    place
                    for place, key in enumerate(keys)
                    if key[:_DIGEST] in labels or key[_DIGEST:] in changed
                ]
                places = batch.column(_PART).indices
                if len(known) < len(keys):
                    batch = batch.filter(pc.is_in(places, pa.array(known, places.type)))
                    places = batch.column(_PART).indices
                digests = _bytes(batch.column(_LINE))
                with uncollected():
                    found = list(_items(batch))
                for place, start, end in _runs(places.to_numpy()):
                    items.setdefault(keys[place], []).extend(found[start:end])
                    lines.setdefault(keys[place], []).append(digests[LINE * start : LINE * end])
    except FileNotFoundError:
        return {}, {}
    except pa.ArrowException as error:
        log.warning("%s is damaged and is made again: %s", path.name, error)
        return {}, {}
    same: dict[str, Part] = {}
    older: dict[str, Part] = {}
    for key, found in items.items():
        ours = rules if key[_DIGEST:] else ""
        part = Part(None, found, ours, b"".join(lines[key]) if ours else b"")
        label = labels.get(key[:_DIGEST])
        if label is not None:
            same[label] = replace(part, facts=wanted[label])
        else:
            older[changed[key[_DIGEST:]]] = part
    return same, older


def is_kept(parts: Mapping[str, Part]) -> bool:
    """Whether a listing is so large that `keep` keeps it."""
    return sum(len(part.items) for part in parts.values()) >= FEWEST


def keep(name: str, parts: Mapping[str, Part]) -> None:
    """Keep a listing for the next process, where it is large: its parts, and what they are made of."""
    if not is_kept(parts):
        return
    keys = [
        _key(part.facts) + (_lines_key(label, part.rules) if part.rules else "")
        for label, part in parts.items()
    ]
    items = [item for part in parts.values() for item in part.items]
    sizes = [len(part.items) for part in parts.values()]
    places = np.repeat(np.arange(len(keys), dtype=np.int32), sizes)
    lines = pa.concat_arrays([_lines(part) for part in parts.values()])
    sink = pa.BufferOutputStream()
    try:
        with pq.ParquetWriter(
            sink, _SCHEMA, use_dictionary=_SHARED, write_statistics=False
        ) as file:
            for start in range(0, len(items), _ROWS):
                some = slice(start, start + _ROWS)
                with uncollected():
                    table = _table(items[some], keys, places[some], lines[some])
                file.write_table(table)
    except UnicodeEncodeError:
        return  # a file's name is no text, and a column of text cannot hold it
    write_atomic(_path(name), sink.getvalue().to_pybytes(), mode=0o600)


def _table(
    items: Sequence[SourceItem], keys: Sequence[str], places: np.ndarray, lines: pa.Array
) -> pa.Table:
    columns = zip(SourceItem._fields, zip(*items, strict=True), strict=True)
    values = {name: pa.array(values, _SCHEMA.field(name).type) for name, values in columns}
    part = pa.DictionaryArray.from_arrays(pa.array(places), pa.array(keys, _text))
    return pa.table({_PART: part, **values, _LINE: lines}, schema=_SCHEMA)


def _lines(part: Part) -> pa.Array:
    if not part.lines:
        return pa.nulls(len(part.items), pa.binary(LINE))
    data = [None, pa.py_buffer(part.lines)]
    return pa.Array.from_buffers(pa.binary(LINE), len(part.items), data)


def _bytes(column: pa.Array) -> bytes:
    """The digests of lines, end to end, those that are not there as zeros."""
    whole = pa.concat_arrays([column.fill_null(bytes(LINE))])
    data: bytes = whole.buffers()[1].to_pybytes()
    return data[LINE * whole.offset : LINE * (whole.offset + len(whole))]


def _runs(places: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Rows in a row that are of one part: the part, the first row, and the row behind the last."""
    ends = [*(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
    for start, end in pairwise([0, *ends] if len(places) else []):
        yield int(places[start]), start, end


def _items(batch: pa.RecordBatch) -> Iterator[SourceItem]:
    """The items of rows; what many of them hold is in memory once."""
    values = zip(*(_values(batch.column(name), name) for name in SourceItem._fields), strict=True)
    return map(SourceItem._make, values)


def _values(column: pa.Array, name: str) -> Iterable[Any]:
    if name in _SHARED:
        encoded = column.dictionary_encode()
        shared = [*encoded.dictionary.to_pylist(), None]
        return [shared[place] for place in encoded.indices.fill_null(-1).to_pylist()]
    if not pa.types.is_list(column.type):
        return column.to_pylist()
    if column.null_count == len(column):
        return repeat(None, len(column))
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    tuples = (None if each is None else tuple(each) for each in column.to_pylist())
    return [each and seen.setdefault(each, each) for each in tuples]


def _path(name: str) -> Path:
    return Settings().cache / "listings" / f"{name}.parquet"


def _key(made_of: object) -> str:
    return digest_of(LISTING_VERSION, made_of)


def _lines_key(label: str, rules: str) -> str:
    return digest_of(LISTING_VERSION, "lines", label, rules)
