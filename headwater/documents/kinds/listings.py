"""Listings on disk: what a table or an archive held when it was read last, for the next process.

A part of a listing, such as that of one file, stands for as long as what it was made of is untouched.
Small listings are made anew.
Knows items, not where they come from. What it keeps is a cache below HEADWATER_HOME.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.files import write_atomic
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: Change it when a kind makes other items of the same files: other URIs, etags, sizes or tags.
LISTING_VERSION = "listing/2"
#: Items below which making a listing is not worth keeping it.
FEWEST = 2_000
_text = pa.string()
#: The digest of what an item's part was made of.
_PART = "part"
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
    ]
)
log = logging.getLogger("headwater")


def kept(name: str, wanted: Mapping[str, object]) -> dict[str, list[SourceItem]]:
    """Those of some parts of a source's listing that were kept and are made of the same.

    Args:
        wanted: what each of them is made of.
    """
    path = _path(name)
    labels = {_key(facts): label for label, facts in wanted.items()}
    found: dict[str, list[SourceItem]] = {}
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_SCHEMA):
                return {}  # of an earlier version
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    label = labels.get(row.pop(_PART))
                    if label is not None:
                        found.setdefault(label, []).append(_item(row))
    except FileNotFoundError:
        return {}
    except pa.ArrowException as error:
        log.warning("%s is damaged and is made again: %s", path.name, error)
        return {}
    return found


def keep(name: str, parts: Mapping[str, tuple[object, Sequence[SourceItem]]]) -> None:
    """Keep a listing for the next process, where it is large: its parts, and what they are made of."""
    items = [item for _, part in parts.values() for item in part]
    if len(items) < FEWEST:
        return
    columns: dict[str, Any] = {
        each: [getattr(item, each) for item in items] for each in _SCHEMA.names if each != _PART
    }
    keys = [_key(facts) for facts, _ in parts.values()]
    sizes = [len(part) for _, part in parts.values()]
    places = [place for place, size in enumerate(sizes) for _ in range(size)]
    try:
        part = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(keys, _text))
        rows = pa.table({_PART: part, **columns}, schema=_SCHEMA)
    except UnicodeEncodeError:
        return  # a file's name is no text, and a column of text cannot hold it
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    write_atomic(_path(name), sink.getvalue().to_pybytes(), mode=0o600)


def _item(row: dict[str, Any]) -> SourceItem:
    fault = row["fault"] and tuple(row["fault"])
    return SourceItem(**{**row, "access": tuple(row["access"]), "fault": fault})


def _path(name: str) -> Path:
    return Settings().cache / "listings" / f"{name}.parquet"


def _key(made_of: object) -> str:
    return digest_of(LISTING_VERSION, made_of)
