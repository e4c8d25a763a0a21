"""Keeps a build from taking a source that lost its documents for one whose documents were deleted.

An unmounted folder, an emptied file and a lost prefix list as little as a source that somebody
cleared. Knows how many documents a source had and has; not which, and not why.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from headwater.documents.kinds.base import Entry
from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.lake import Lake

#: A source that had no more documents may lose any part of them, but not all.
FEW = 20
#: Seconds that a permission stands where no build has used it up.
STANDS = 24 * 3600.0
_TABLE = "raw_documents"


def check(lake: Lake, sources: Sequence[Entry], listed: Mapping[str, int]) -> None:
    """Refuse to go on where a source lists too few of the documents that the lake has of it.

    Args:
        listed: how many documents each source lists now.

    Raises:
        HeadwaterError: it lists none, or has lost more than its share, and nobody allowed that.
    """
    found = refusals(lake, sources, listed)
    if found:
        raise next(iter(found.values()))


def refusals(
    lake: Lake, sources: Sequence[Entry], listed: Mapping[str, int]
) -> dict[str, HeadwaterError]:
    """The sources that a build would refuse to read, and what it would say."""
    if _TABLE in lake.holds():
        return {}
    had, allowed = _held(lake), _allowed(lake)
    return {
        source.name: _refusal(source.name, had[source.name], now)
        for source in sources
        if _is_too_few(source, had[source.name], now := listed.get(source.name, 0))
        and now < allowed.get(source.name, now + 1)
    }


def allow(lake: Lake, source: Entry, now: int) -> int | None:
    """Let builds bring a source down to the documents that it lists now, and no further.

    The permission ends with the build that has done so, with one that finds the documents back,
    and after a day. Returns how many documents will go; None where no permission is needed.
    """
    had = _held(lake)[source.name]
    if not _is_too_few(source, had, now):
        return None
    entries = {**_entries(lake), source.name: {"documents": now, "until": time.time() + STANDS}}
    write_json(lake.root / "removals.json", entries)
    return had - now


def settle(lake: Lake, sources: Sequence[Entry], listed: Mapping[str, int]) -> None:
    """End the permissions that nothing needs any more; a run of some shards may leave it to others."""
    entries = _entries(lake)
    if not entries:
        return
    had = _held(lake)
    needed = {
        source.name
        for source in sources
        if _is_too_few(source, had[source.name], listed.get(source.name, 0))
    }
    write_json(
        lake.root / "removals.json", {name: entries[name] for name in entries if name in needed}
    )


def _is_too_few(source: Entry, had: int, now: int) -> bool:
    if now == 0:
        return had > 0
    return had > FEW and now < (1 - source.most_removed) * had


def _refusal(name: str, had: int, now: int) -> HeadwaterError:
    lists = "no document" if now == 0 else f"only {now:,} documents"
    return HeadwaterError(
        f"The source {name!r} lists {lists} where it had {had:,}; nothing is removed.",
        mend="Bring them back, where a disk is not mounted or a file was emptied by mistake. Where they"
        f" are meant to go: `headwater sources allow {name}`, then build again.",
    )


def _held(lake: Lake) -> Counter[str]:
    """How many documents the lake has of each source."""
    held: Counter[str] = Counter()
    version = lake.version(_TABLE)
    if version is not None:
        for batch in lake.batches(_TABLE, version, ["source"], None):
            for each in pc.value_counts(batch.column(0)).to_pylist():
                held[each["values"]] += each["counts"]
    return held


def _allowed(lake: Lake) -> dict[str, int]:
    """The fewest documents that each permitted source may be brought down to."""
    now = time.time()
    return {
        name: entry["documents"] for name, entry in _entries(lake).items() if entry["until"] > now
    }


def _entries(lake: Lake) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_json(lake.root / "removals.json") or {}
    return found
