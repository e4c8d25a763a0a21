"""`raw_documents`: the bytes of every document, read again only where its listing changed.

Knows nothing about formats. An item that cannot be read is quarantined under stage "raw". A document
that leaves the table has a tombstone.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents import removals
from headwater.documents.kinds.base import ReadError
from headwater.documents.sources import (
    Source,
    forget_items,
    is_read_in_one_pass,
    list_items,
    read_items,
)
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
from headwater.memory import uncollected
from headwater.progress import track
from headwater.records import Quarantined, SourceItem, digest_bytes, digest_of, shard_of
from headwater.snapshot import Snapshot
from headwater.tombstones import (
    KEPT,
    MOVED,
    REFUSED,
    REMOVED,
    SOURCE_REMOVED,
    Burial,
    buried,
    take_out,
)

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
#: Documents of a shard that are too many, and that are about right.
MANY, _FEW = 5_000, 2_900
#: Items by shard and source.
_Listing = dict[str, list[tuple[Source, list[SourceItem]]]]
log = logging.getLogger("headwater")


@dataclass(slots=True, kw_only=True)
class Foreseen:
    """What a build would do about a source, told from its listing alone.

    `bytes` are those of what is new or changed; what was turned away and would be again is unchanged.
    """

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    bytes: int = 0


def foresee(
    lake: Lake,
    listings: Sequence[tuple[Source, Sequence[SourceItem]]],
    n_shards: int,
    max_bytes: int,
) -> dict[str, Foreseen]:
    """What `update_raw` would do, by source; one that is no source any more is told by its rows.

    Raises:
        HeadwaterError: two sources claim one URI.
    """
    found = {source.name: Foreseen(unchanged=len(items)) for source, items in listings}
    listing = _by_shard(listings, n_shards)
    if lake.version("raw_documents") is None:
        works = {
            shard: _Work(changed={source.name: (source, items) for source, items in entries})
            for shard, entries in listing.items()
        }
        return _tally(found, works, set())
    before = lake.snapshot("raw_documents")
    shards = sorted({*listing, *held_shards(lake, "raw_documents")})
    works = _compare(lake, before, listing, shards, max_bytes)
    moving = _astray(works, n_shards) & {uri for shard in listing for uri in _uris(listing, shard)}
    for shard, work in works.items():
        gone = work.unlisted - moving
        for row in before.partition(shard, ["uri", "source"]).to_pylist() if gone else ():
            if row["uri"] in gone:
                found.setdefault(row["source"], Foreseen()).removed += 1
    return _tally(found, works, moving)


def _tally(
    found: dict[str, Foreseen], works: Mapping[str, "_Work"], moving: set[str]
) -> dict[str, Foreseen]:
    for work in works.values():
        for source, items in work.changed.values():
            of = found[source.name]
            changed = sum(item.uri in work.gone or item.uri in moving for item in items)
            of.changed += changed
            of.new += len(items) - changed
            of.unchanged -= len(items)
            of.bytes += sum(item.size for item in items)
    return found


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
    listing = _by_shard(((source, list_items(source)) for source in sources), n_shards)
    for source in sources:
        forget_items(source)  # what is done with here need be nowhere
    listed = Counter[str]()
    for entries in listing.values():
        listed.update({source.name: len(items) for source, items in entries})
    removals.check(lake, sources, listed)
    if listed.total() > MANY * n_shards:
        log.warning(
            "%s documents in %s shards: an edit writes its whole shard anew, and that is in memory;"
            " HEADWATER_SHARDS=%s would hold about %s each (nothing is embedded again)",
            *(listed.total(), n_shards, min(256, -(-listed.total() // _FEW)), _FEW),
        )
    # Shards beyond the number in force are left from a higher one: empty them.
    beyond = {shard for shard in held_shards(lake, "raw_documents") if int(shard, 16) >= n_shards}
    shards = sorted({*shards, *beyond})
    before = lake.snapshot("raw_documents")
    with uncollected():
        works = _compare(lake, before, listing, shards, max_bytes)

    # One order: the tombstones, the rows, the quarantine, and last the tombstones that are no longer
    # needed. Killed in between, a document may have both a row and a tombstone, which does no harm
    # and is put right by the next run; it never has neither, which would lose its tags.
    burial, names = Burial(lake), {source.name for source in sources}
    writer = ShardWriter(lake, OUTPUT, first=burial.commit)
    graves, back = buried(lake) | _astray(works, n_shards), set[str]()
    with Spool(lake, "raw_documents") as spool:
        refused = _read_in_one_pass(sources, works, spool, max_bytes)
        for shard in track(shards, what="reading documents"):
            work, rows = works[shard], list[dict[str, Any]]()
            if graves:
                refused_or_new = {row["uri"] for row in work.rejected} | {
                    item.uri for _, items in work.changed.values() for item in items
                }
                back |= (graves & _uris(listing, shard)) - refused_or_new
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
            gone, uris = work.gone, set(new["uri"].to_pylist())
            work.count.removed = len(gone - uris)
            work.count.quarantined = len(work.rejected)
            back |= graves & uris
            _bury(burial, before, shard, gone - uris, work, names=names, n_shards=n_shards)
            if len(new) or gone:
                writer.replace(shard, gone, new)
            # Only what is written below is needed from here on.
            work.gone, work.changed = set(), {}
            work.unlisted, work.dropped = set(), []
            listing.pop(shard, None)
    writer.flush()
    burial.commit()  # of documents that were in quarantine alone
    rejected = [row for work in works.values() for row in work.rejected]
    write_quarantine(lake, "raw", shards, rejected)
    take_out(lake, back)
    stats = stage_stats(writer, {shard: work.count for shard, work in works.items()})
    removals.settle(lake, sources, listed)
    return stats


@dataclass(slots=True)
class _Work:
    """What there is to do in a shard: the rows that do not stay, and items to read, by source."""

    count: ShardCounts = field(default_factory=ShardCounts)
    gone: set[str] = field(default_factory=set)
    changed: dict[str, tuple[Source, list[SourceItem]]] = field(default_factory=dict)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    #: Stored documents that nothing lists in this shard, and rows of quarantine of such.
    unlisted: set[str] = field(default_factory=set)
    dropped: list[dict[str, Any]] = field(default_factory=list)


def _compare(
    lake: Lake,
    before: Snapshot,
    listing: _Listing,
    shards: Sequence[str],
    max_bytes: int,
) -> dict[str, _Work]:
    """Compare the listing with the rows that are stored, a shard at a time."""
    in_quarantine = quarantined(lake, "raw", shards)
    works: dict[str, _Work] = {}
    refused: dict[str, list[dict[str, Any]]] = {}
    for entry in in_quarantine.values():
        refused.setdefault(entry["shard"], []).append(entry)
    for shard, table in before.partitions(shards, _LIGHT):
        work = works[shard] = _Work()
        stored = _light_rows(table)
        kept = 0
        for source, items in listing.get(shard, ()):
            work.count.seen += len(items)
            licence, changed = source.licence, list[SourceItem]()
            for item in items:
                # As `_light_row` has them; all are in this shard.
                row = stored.get(item.uri)
                if row is not None and row == (
                    source.name,
                    item.etag,
                    item.media_type,
                    item.licence or licence,
                    item.access or None,
                ):
                    kept += 1
                    del stored[item.uri]
                elif (turned := _turned(item, source, shard, in_quarantine, max_bytes)) is not None:
                    work.count.reused += 1
                    work.rejected.append(turned)
                else:
                    work.count.processed += 1
                    changed.append(item)
            if changed:
                work.changed[source.name] = (source, changed)
        work.count.reused += kept
        work.gone = set(stored)
        if stored or shard in refused:
            listed = _uris(listing, shard)
            work.unlisted = work.gone - listed
            work.dropped = [each for each in refused.get(shard, ()) if each["uri"] not in listed]
    return works


def _light_rows(table: pa.Table) -> dict[str, tuple[Any, ...]]:
    """What decides whether stored rows still stand, by URI; the shard is that of all of them."""
    access = table["access"]
    tags: Iterable[Any] = repeat(None, len(access))
    if access.null_count < len(access):
        tags = (each if each is None else tuple(each) for each in access.to_pylist())
    columns = (table[name].to_pylist() for name in ("source", "etag", "media_type", "licence"))
    rows = zip(*columns, tags, strict=True)
    return dict(zip(table["uri"].to_pylist(), rows, strict=True))


def _turned(
    item: SourceItem,
    source: Source,
    shard: str,
    in_quarantine: Mapping[str, dict[str, Any]],
    max_bytes: int,
) -> dict[str, Any] | None:
    """The row of quarantine of an item that would be refused again."""
    turned = in_quarantine.get(item.uri)
    if turned is None or turned["reason"] in _PASSING:
        return None
    row = _light_row(item, source, shard)
    if turned["input_digest"] != _refusal(row, max_bytes):
        return None
    # Rows older than these columns get them.
    return turned | {name: row[name] for name in ("licence", "access")}


def _astray(works: dict[str, _Work], n_shards: int) -> set[str]:
    """Documents whose rows are in another shard than theirs, since the number of shards was another."""
    return {
        uri
        for shard, work in works.items()
        for uri in work.unlisted
        if shard_of(uri, n_shards) != shard
    }


def _bury(
    burial: Burial,
    before: Snapshot,
    shard: str,
    gone: set[str],
    work: _Work,
    *,
    names: set[str],
    n_shards: int,
) -> None:
    """Note the documents that leave a shard, and those that leave its quarantine.

    A document is its URI: one that is renamed is gone, and another one has come.

    Args:
        gone: documents whose rows go.
        names: of the sources that there are.
    """

    def reason(row: dict[str, Any]) -> str:
        if row["uri"] not in work.unlisted:
            return REFUSED
        if shard_of(row["uri"], n_shards) != shard:
            return MOVED
        return REMOVED if row["source"] in names else SOURCE_REMOVED

    if gone:
        rows = before.partition(shard, KEPT)
        rows = rows.filter(pc.is_in(rows["uri"], pa.array(sorted(gone), pa.string())))
        for row in rows.to_pylist():
            burial.add([row], reason(row))
    for row in work.dropped:
        # What moves between shards is in quarantine again.
        if row["uri"] not in work.gone and shard_of(row["uri"], n_shards) == shard:
            burial.add([row], REMOVED if row["source"] in names else SOURCE_REMOVED)


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


def _by_shard(listings: Iterable[tuple[Source, Sequence[SourceItem]]], n_shards: int) -> _Listing:
    """Items of all sources by shard; a URI belongs to one source."""
    listing: _Listing = {}
    for source, items in listings:
        found: dict[str, list[SourceItem]] = {}
        for item in items:
            found.setdefault(shard_of(item.uri, n_shards), []).append(item)
        for shard, entries in found.items():
            listing.setdefault(shard, []).append((source, entries))
    for shard, held in listing.items():
        if len(_uris(listing, shard)) < sum(len(some) for _, some in held):
            raise _held_twice(held)
    return listing


def _held_twice(entries: Sequence[tuple[Source, Sequence[SourceItem]]]) -> HeadwaterError:
    owners: dict[str, str] = {}
    for source, items in entries:
        for item in items:
            if item.uri in owners:
                return HeadwaterError(
                    f"The sources {owners[item.uri]!r} and {source.name!r} both hold {item.uri}.",
                    mend="Remove one of them, or give it another base_uri.",
                )
            owners[item.uri] = source.name
    raise AssertionError("no URI is there twice")


def _uris(listing: _Listing, shard: str) -> set[str]:
    return {item.uri for _, items in listing.get(shard, ()) for item in items}


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
        licence=row["licence"],
        access=row["access"],
    )
    return asdict(refused)
