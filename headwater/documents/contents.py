"""What the lake's sharded tables hold, as digests: of each shard, and of a whole table.

Data files never change, so a digest is computed again where the names of the files are others than
last time. Knows no stage; the memory is a cache that can be deleted.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.documents.row_digests import (
    NONE,
    Digests,
    as_column,
    name_of,
    name_themselves,
    of_column,
    row_digests,
)
from headwater.files import read_json, write_atomic, write_json
from headwater.lake import Lake
from headwater.records import digest_bytes, digest_of

#: How rows are named; another one has all digests taken anew.
_NAMES = "names/2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Digest of a table, and of each shard of it that holds rows."""

    whole: str
    shards: dict[str, str]


def contents(
    lake: Lake,
    table: str,
    *,
    version: str,
    columns: Sequence[str],
    where_given: Sequence[str] = (),
    by_shard: bool = False,
    memory: str = "",
    known: Mapping[str, Digests] = MappingProxyType({}),
) -> Contents:
    """The digests of a table's rows as they stand; independent of their order.

    Rows are `digest_of(*columns)`, or the one digest that they have (`row_digests`), a shard is
    `digest_of(version, sorted rows)`. The whole is that of all rows, or, `by_shard`,
    `digest_of(version, sorted pairs of shard and digest)`.

    Args:
        where_given: columns that count in rows alone where they hold something.
        known: digests of rows, of shards that whoever calls has just written.
        memory: where the digests are remembered; by the table's name where nothing else is said.
    """
    path = lake.root / ".digests" / f"{memory or table}.json"
    made_of = digest_of(_NAMES, version, list(columns), list(where_given), by_shard)
    before: dict[str, Any] = read_json(path) or {}
    if before.get("made_of") != made_of:
        before = {"shards": {}}
    now = lake.snapshot(table)
    names = {shard: digest_of(now.files[shard]) for shard in now.files if now.sizes[shard]}
    shards = {
        shard: entry["digest"]
        for shard, entry in before["shards"].items()
        if names.get(shard) == entry["files"]
    }
    if "whole" in before and shards.keys() == names.keys() == before["shards"].keys():
        return Contents(whole=before["whole"], shards=shards)
    rows_of = None if by_shard else RowMemory(lake, table, columns, where_given)
    # The name of all rows takes all rows.
    todo = names.keys() - shards.keys() if by_shard else names.keys()
    found = {shard: known[shard] for shard in todo & known.keys()}
    if rows_of is not None:
        for shard in todo - found.keys():
            remembered = rows_of.of(shard, now.files[shard])
            if remembered is not None:
                found[shard] = remembered
    read = now.partitions(sorted(todo - found.keys()), [*columns, *where_given])
    of_shards = ((shard, row_digests(each, columns, where_given)) for shard, each in read)
    every = dict[str, Digests]()
    for shard, digests in chain(found.items(), of_shards):
        if shard not in shards:
            shards[shard] = name_of(version, digests)
        if rows_of is not None:
            every[shard] = digests
    if rows_of is None:
        whole = digest_of(version, sorted(shards.items()))
    else:
        rows = np.concatenate([NONE, *every.values()])
        whole = name_of(version, rows)
        rows_of.keep(rows, {shard: len(digests) for shard, digests in every.items()}, now.files)
    entries = {shard: {"files": names[shard], "digest": shards[shard]} for shard in shards}
    write_json(path, {"made_of": made_of, "whole": whole, "shards": entries})
    return Contents(whole=whole, shards=shards)


class RowMemory:
    """The digests of a table's rows, in the order of its data files, as they were kept last.

    A cache: what is not there is taken of the rows again. Nothing is kept of rows that name themselves,
    which is as quick to read.

    Args:
        columns: that name a row, and `where_given`: see `contents`.
    """

    def __init__(
        self, lake: Lake, table: str, columns: Sequence[str], where_given: Sequence[str]
    ) -> None:
        self._path = lake.root / ".digests" / f"{table}.rows.arrow"
        self._made_of = digest_of(_NAMES, list(columns), list(where_given))
        self._keeps = not name_themselves(columns)
        self._places: dict[str, tuple[str, int, int]] = {}
        self._digests = NONE
        if self._keeps:
            self._load()

    def of(self, shard: str, files: Sequence[str]) -> Digests | None:
        """The digests of the rows of a shard that has these data files."""
        key, start, end = self._places.get(shard, ("", 0, 0))
        return self._digests[start:end] if key == digest_of(files) else None

    def keep(
        self, digests: Digests, sizes: Mapping[str, int], files: Mapping[str, Sequence[str]]
    ) -> None:
        """Keep the digests of all shards, one after another, with the names of their data files."""
        if not self._keeps:
            return
        shards = {shard: [digest_of(files[shard]), size] for shard, size in sizes.items()}
        column = as_column(digests)
        told = {"made_of": self._made_of, "shards": shards, "digest": _digest(column)}
        schema = pa.schema([("digest", column.type)], metadata={_TOLD: json.dumps(told)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.table([column], schema=schema))
        write_atomic(self._path, sink.getvalue(), durable=False)

    def _load(self) -> None:
        try:
            with pa.ipc.open_file(pa.py_buffer(self._path.read_bytes())) as file:
                told, rows = json.loads(file.schema.metadata[_TOLD]), file.read_all()
            column = rows["digest"].combine_chunks()
            sizes = [size for _, size in told["shards"].values()]
            if told["made_of"] != self._made_of or sum(sizes) != len(column):
                return
            if told["digest"] != _digest(column):
                return
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged and is made again: %s", self._path, error)
            return
        self._digests, end = of_column(rows["digest"]), 0
        for shard, (key, size) in told["shards"].items():
            self._places[shard] = (key, end, end + size)
            end += size


def _digest(column: pa.Array) -> str:
    """Of what a column of digests holds: it is not forced to disk, and is believed for long."""
    return digest_bytes(of_column(pa.chunked_array([column])).tobytes())


_TOLD = b"headwater_rows"
log = logging.getLogger("headwater")
