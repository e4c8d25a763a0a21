"""`tombstones`: what is known of a document that is gone: its URI, source, licence and access tags.

What was said of answers that were given from it outlives it, and the tags say whether that may teach.
No content is kept, nor a title or digest. Knows tables and rows, not why documents come and go.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.lake import Lake, rows_to_table

TABLE = "tombstones"
#: Why a document has a tombstone: its source lists it no more, its source is no more, it is listed
#: and cannot be read any more, its row is on the way to another shard, a restore took it away.
REMOVED, SOURCE_REMOVED, REFUSED = "removed", "source removed", "refused"
MOVED, RESTORED = "moved", "restored"
#: What a row of another table lends to a tombstone.
KEPT = ("uri", "source", "shard", "licence", "access")


@dataclass(slots=True)
class Burial:
    """Tombstones of documents that are about to go, committed together."""

    lake: Lake
    _pending: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: Iterable[Mapping[str, Any]], reason: str) -> None:
        """Note documents by rows that hold `KEPT`; nothing is written yet."""
        self._pending += [{**{name: row[name] for name in KEPT}, "reason": reason} for row in rows]

    def commit(self) -> None:
        """Write what was noted. A document that has a tombstone keeps the tags that are on it."""
        if not self._pending:
            return
        shards = sorted({row["shard"] for row in self._pending})
        stored = {
            (row["shard"], row["uri"]): row
            for row in self.lake.read(TABLE, where={"shard": shards}).to_pylist()
        }
        after = dict(stored)
        for row in self._pending:
            key = row["shard"], row["uri"]
            before = after.get(key) or {}
            tags = sorted({*(row["access"] or ()), *(before.get("access") or ())})
            licence = row["licence"] or before.get("licence")
            after[key] = {**row, "licence": licence, "access": tags or None}
        self._pending = []
        changed = sorted(
            {shard for shard, uri in after if after[shard, uri] != stored.get((shard, uri))}
        )
        if changed:
            rows = [after[key] for key in sorted(after) if key[0] in changed]
            self.lake.replace(TABLE, rows_to_table(TABLE, rows), keys=changed)


def buried(lake: Lake) -> set[str]:
    """URIs of the documents that have a tombstone."""
    return set(lake.read(TABLE, columns=["uri"])["uri"].to_pylist())


def take_out(lake: Lake, back: Collection[str]) -> None:
    """Drop the tombstones of documents that are there again."""
    if not back:
        return
    stored = lake.read(TABLE)
    is_back = pc.is_in(stored["uri"], pa.array(sorted(back), pa.string()))
    shards = sorted(set(stored.filter(is_back)["shard"].to_pylist()))
    if shards:
        rest = stored.filter(pc.invert(is_back))
        rest = rest.filter(pc.is_in(rest["shard"], pa.array(shards, pa.string())))
        lake.replace(TABLE, rest, keys=shards)
