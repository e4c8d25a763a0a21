"""What the lake's sharded tables hold, as digests: of each shard, and of a whole table.

Data files never change, so a digest is computed again where the names of the files are others than
last time. Knows no stage; the memory is a cache that can be deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from headwater.documents.row_digests import NONE, Digests, name_of, row_digests
from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.records import digest_of

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
    # The name of all rows takes all rows.
    todo = names.keys() - shards.keys() if by_shard else names.keys()
    found = [NONE]
    read = now.partitions(sorted(todo - known.keys()), [*columns, *where_given])
    of_shards = ((shard, row_digests(rows, columns, where_given)) for shard, rows in read)
    told = ((shard, known[shard]) for shard in todo & known.keys())
    for shard, digests in chain(told, of_shards):
        shards[shard] = name_of(version, digests)
        if not by_shard:
            found.append(digests)
    if by_shard:
        whole = digest_of(version, sorted(shards.items()))
    else:
        whole = name_of(version, np.concatenate(found))
    entries = {shard: {"files": names[shard], "digest": shards[shard]} for shard in shards}
    write_json(path, {"made_of": made_of, "whole": whole, "shards": entries})
    return Contents(whole=whole, shards=shards)
