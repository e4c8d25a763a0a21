"""`raw_documents`: the bytes of every document, read again only where its listing changed.

Knows nothing about formats. An item that cannot be read is quarantined under stage "raw".
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from headwater.documents.kinds.base import ReadError
from headwater.documents.sources import Source, list_items, read_items
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
from headwater.lake import Lake, sole_writer
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
    that no source lists any more are removed. A table that is held stays as it is.

    Raises:
        HeadwaterError: a source is not there, or two sources claim one URI.
    """
    if "raw_documents" in lake.holds():
        return as_it_stands(lake, OUTPUT, shards)
    listing = _listing(sources, n_shards)
    # Shards beyond the number in force are left from a higher one: empty them.
    beyond = {shard for shard in held_shards(lake, "raw_documents") if int(shard, 16) >= n_shards}
    shards = sorted({*shards, *beyond})
    stored = {
        row["uri"]: row
        for row in lake.read("raw_documents", columns=_LIGHT, where={"shard": shards}).to_pylist()
    }
    in_quarantine = quarantined(lake, "raw", shards)
    stored_in: dict[str, set[str]] = {shard: set() for shard in shards}
    for row in stored.values():
        stored_in[row["shard"]].add(row["uri"])

    writer = ShardWriter(lake, "raw_documents")
    rejected: list[dict[str, Any]] = []
    counts = {shard: ShardCounts() for shard in shards}
    for shard in track(shards, what="reading documents"):
        count, keep, rows = counts[shard], set[str](), list[dict[str, Any]]()
        changed: dict[str, tuple[Source, list[SourceItem]]] = {}
        expected: dict[str, dict[str, Any]] = {}
        for item, source in listing.get(shard, ()):
            count.seen += 1
            row = expected[item.uri] = _light_row(item, source, shard)
            before = in_quarantine.get(item.uri)
            if before is not None and before["reason"] in _PASSING:
                before = None
            if stored.get(item.uri) == row:
                count.reused += 1
                keep.add(item.uri)
            elif before is not None and before["input_digest"] == _refusal(row, max_bytes):
                count.reused += 1
                rejected.append(before)
            else:
                count.processed += 1
                changed.setdefault(source.name, (source, []))[1].append(item)
        for source, items in changed.values():
            for item, content in read_items(source, items, max_bytes):
                row = expected[item.uri]
                if isinstance(content, ReadError):
                    rejected.append(_refused(row, content, _refusal(row, max_bytes)))
                else:
                    body = {"size": len(content), "content": content}
                    rows.append({**row, **body, "digest": digest_bytes(content)})
        gone = stored_in[shard] - keep
        count.removed = len(gone - {row["uri"] for row in rows})
        count.quarantined = sum(row["shard"] == shard for row in rejected)
        if rows or gone:
            writer.replace(shard, keep, rows)
    write_quarantine(lake, "raw", shards, rejected)
    return stage_stats(writer, OUTPUT, counts)


def _listing(
    sources: Sequence[Source], n_shards: int
) -> dict[str, list[tuple[SourceItem, Source]]]:
    """Items of all sources by shard; a URI belongs to one source."""
    owners: dict[str, str] = {}
    listing: dict[str, list[tuple[SourceItem, Source]]] = {}
    for source in sources:
        for item in list_items(source):
            if item.uri in owners:
                raise HeadwaterError(
                    f"The sources {owners[item.uri]!r} and {source.name!r} both hold {item.uri}.",
                    mend="Remove one of them, or give it another base_uri.",
                )
            owners[item.uri] = source.name
            listing.setdefault(shard_of(item.uri, n_shards), []).append((item, source))
    return listing


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
