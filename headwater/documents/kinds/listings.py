"""Listings on disk: what a table or an archive held when it was read last, for the next process.

A listing stands for as long as the files that it was made of are untouched. Small ones are made anew.
Knows items, not where they come from. What it keeps is a cache below HEADWATER_HOME.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.files import write_atomic
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: Change it when a kind makes other items of the same files: other URIs, etags, sizes or tags.
LISTING_VERSION = "listing/1"
#: Items below which making a listing is not worth keeping it.
FEWEST = 2_000
_text = pa.string()
_SCHEMA = pa.schema(
    [
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
_MADE_OF = b"made_of"
log = logging.getLogger("headwater")


def kept(name: str, made_of: object) -> list[SourceItem] | None:
    """The listing of a source, where one was kept that was made of the same."""
    path = _path(name)
    try:
        with pq.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(_MADE_OF) != _key(made_of):
                return None
            return [_item(row) for batch in file.iter_batches() for row in batch.to_pylist()]
    except FileNotFoundError:
        return None
    except pa.ArrowException as error:
        log.warning("%s is damaged and is made again: %s", path.name, error)
        return None


def keep(name: str, made_of: object, items: Sequence[SourceItem]) -> None:
    """Keep a listing for the next process, where it is large."""
    if len(items) < FEWEST:
        return
    columns = {each: [getattr(item, each) for item in items] for each in _SCHEMA.names}
    try:
        rows = pa.table(columns, schema=_SCHEMA.with_metadata({_MADE_OF: _key(made_of)}))
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


def _key(made_of: object) -> bytes:
    return digest_of(LISTING_VERSION, made_of).encode()
