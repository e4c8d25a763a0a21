"""`raw_documents`: the bytes of every document, read again only where its listing changed.

Knows nothing about formats. An item that cannot be read is quarantined under stage "raw".
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from headwater.documents import removals
from headwater.documents.kinds.base import ReadError
from headwater.documents.sources import Source, is_read_in_one_pass, list_items, read_items
from headwater.documents.spool import Spool
from headwater.documents.stage import (
    Output,
    ShardCounts,
    ShardWriter,
    StageStats,
    as_it_stands,
    held_shards,
    quarantined,
    stage_stats,
    write_quarantine,
)
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table, sole_writer
from headwater.progress import track
from headwater.records import Quarantined, SourceItem, digest_bytes, digest_of, shard_of

STAGE_VERSION = "raw/1"
#: Columns that name the content; the etag does not, it may differ on another machine.
OUTPUT = Output(
    table="raw_documents",
    stages=("raw",),
    version=STAGE_VERSION,
    columns=("uri", "source", "media_type", "licence", "digest"),
    where_given=("access",),
)
_LIGHT = ["uri", "source", "shard", "etag", "media_type", "licence", "access"]
#: Refusals of items that were gone when they were read: they may be back with the same etag.
_PASSING = {"missing"}
log = logging.getLogger("headwater")


@sole_writer
def update_raw(
    lake: Lake, sources: Sequence[Source], shards: Sequence[str], n_shards: int, max_bytes: int
) -> StageStats:
    """Bring `raw_documents` up to the sources, in these shards.

    An item whose etag, media type, licence and tags are those of its row is not read. Documents
    that no source lists any more are removed. A table that is held stays as it is. In memory are
    the listing and the rows of a shard; a source that is read in one pass goes through the disk.

    Raises:
        HeadwaterError: a source is not there, two sources claim one URI, or a source lost more
            documents than may go at once.
    """
    if "raw_documents" in lake.holds():
        return as_it_stands(lake, OUTPUT, shards)
    listing = _listing(sources, n_shards)
    listed = Counter(source.name for entries in listing.values() for _, source in entries)
    removals.check(lake, sources, listed)
    # Shards beyond the number in force are left from a higher one: empty them.
    beyond = {shard for shard in held_shards(lake, "raw_documents") if int(shard, 16) >= n_shards}
    shards = sorted({*shards, *beyond})
    works = _compare(lake, listing, shards, max_bytes)

    writer = ShardWriter(lake, "raw_documents")
    with Spool(lake, "raw_documents") as spool:
        refused = _read_in_one_pass(sources, works, spool, max_bytes)
        for shard in track(shards, what="reading documents"):
            work, rows = works[shard], list[dict[str, Any]]()
            for source, items in work.changed.values():
                if is_read_in_one_pass(source):
                    continue
                for item, content in read_items(source, items, max_bytes):
                    row = _light_row(item, source, shard)
                    if isinstance(content, ReadError):
                        work.rejected.append(_refused(row, content, _refusal(row, max_bytes)))
                    else:
                        rows.append(_whole_row(row, content))
            work.rejected += refused.pop(shard, [])
            new = pa.concat_tables([spool.take(shard), rows_to_table("raw_documents", rows)])
            gone = work.stored - work.keep
            work.count.removed = len(gone.difference(new["uri"].to_pylist()))
            work.count.quarantined = len(work.rejected)
            if len(new) or gone:
                writer.replace(shard, work.keep, new)
            # Only what is written below is needed from here on.
            work.keep, work.stored, work.changed = set(), set(), {}
            listing.pop(shard, None)
    rejected = [row for work in works.values() for row in work.rejected]
    write_quarantine(lake, "raw", shards, rejected)
    stats = stage_stats(writer, OUTPUT, {shard: work.count for shard, work in works.items()})
    removals.settle(lake, sources, listed)
    return stats


@dataclass(slots=True)
class _Work:
    """What there is to do in a shard: the rows that stay, and items to read, by source."""

    count: ShardCounts = field(default_factory=ShardCounts)
    stored: set[str] = field(default_factory=set)
    keep: set[str] = field(default_factory=set)
    changed: dict[str, tuple[Source, list[SourceItem]]] = field(default_factory=dict)
    rejected: list[dict[str, Any]] = field(default_factory=list)


def _compare(
    lake: Lake,
    listing: dict[str, list[tuple[SourceItem, Source]]],
    shards: Sequence[str],
    max_bytes: int,
) -> dict[str, _Work]:
    """Compare the listing with the rows that are stored, a shard at a time."""
    in_quarantine = quarantined(lake, "raw", shards)
    works: dict[str, _Work] = {}
    for shard, table in lake.snapshot("raw_documents").partitions(shards, _LIGHT):
        work = works[shard] = _Work()
        stored = {row["uri"]: row for row in table.to_pylist()}
        for item, source in listing.get(shard, ()):
            work.count.seen += 1
            row = _light_row(item, source, shard)
            before = in_quarantine.get(item.uri)
            if before is not None and before["reason"] in _PASSING:
                before = None
            if stored.get(item.uri) == row:
                work.count.reused += 1
                work.keep.add(item.uri)
            elif before is not None and before["input_digest"] == _refusal(row, max_bytes):
                work.count.reused += 1
                work.rejected.append(before)
            else:
                work.count.processed += 1
                work.changed.setdefault(source.name, (source, []))[1].append(item)
        # The listing's own strings, where it has them: one in memory is enough.
        work.stored = work.keep | (stored.keys() - work.keep)
    return works


def _read_in_one_pass(
    sources: Sequence[Source], works: dict[str, _Work], spool: Spool, max_bytes: int
) -> dict[str, list[dict[str, Any]]]:
    """Put the changed documents of such sources aside; returns the refused ones by shard."""
    refused: dict[str, list[dict[str, Any]]] = {}
    for source in sources:
        if not is_read_in_one_pass(source):
            continue
        shard_of_item: dict[str, str] = {}
        items: list[SourceItem] = []
        for shard, work in works.items():
            for item in work.changed.get(source.name, (source, []))[1]:
                shard_of_item[item.uri] = shard
                items.append(item)
        if not items:
            continue
        found = read_items(source, items, max_bytes)
        for item, content in track(found, what=f"reading {source.name}", total=len(items)):
            shard = shard_of_item[item.uri]
            row = _light_row(item, source, shard)
            if isinstance(content, ReadError):
                refusal = _refused(row, content, _refusal(row, max_bytes))
                refused.setdefault(shard, []).append(refusal)
            else:
                spool.put(shard, _whole_row(row, content), len(content))
    return refused


def _listing(
    sources: Sequence[Source], n_shards: int
) -> dict[str, list[tuple[SourceItem, Source]]]:
    """Items of all sources by shard; a URI belongs to one source."""
    listing: dict[str, list[tuple[SourceItem, Source]]] = {}
    for source in sources:
        for item in list_items(source):
            listing.setdefault(shard_of(item.uri, n_shards), []).append((item, source))
    for entries in listing.values():
        owners: dict[str, str] = {}
        for item, source in entries:
            if item.uri in owners:
                raise HeadwaterError(
                    f"The sources {owners[item.uri]!r} and {source.name!r} both hold {item.uri}.",
                    mend="Remove one of them, or give it another base_uri.",
                )
            owners[item.uri] = source.name
    return listing


def _whole_row(row: dict[str, Any], content: bytes) -> dict[str, Any]:
    return {**row, "size": len(content), "content": content, "digest": digest_bytes(content)}


def _light_row(item: SourceItem, source: Source, shard: str) -> dict[str, Any]:
    """What decides whether a stored row still stands."""
    return {
        "uri": item.uri,
        "source": source.name,
        "shard": shard,
        "etag": item.etag,
        "media_type": item.media_type,
        "licence": item.licence or source.licence,
        "access": list(item.access) or None,
    }


def _refusal(row: dict[str, Any], max_bytes: int) -> str:
    """What decides whether a refusal still stands; tags belong to it where there are some."""
    facts = {name: value for name, value in row.items() if value is not None}
    return digest_of(STAGE_VERSION, facts, max_bytes)


def _refused(row: dict[str, Any], error: ReadError, refusal: str) -> dict[str, Any]:
    log.warning("quarantined %s: %s (%s)", row["uri"], error.reason, error.detail)
    refused = Quarantined(
        uri=row["uri"],
        source=row["source"],
        shard=row["shard"],
        stage="raw",
        reason=error.reason,
        detail=error.detail,
        input_digest=refusal,
    )
    return asdict(refused)
