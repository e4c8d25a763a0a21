"""Which versions of the lake's tables are kept, what they take on disk, and deleting the rest.

Kept are the newest version, those of the last days, and those that a release one may serve or go
back to was made from. The log of commits is kept whole: it is small, and old versions are read by it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from headwater.embeddings import embed
from headwater.lake import Commit, Lake
from headwater.prices import load_prices
from headwater.release import traffic
from headwater.settings import Settings
from headwater.versions import existing, forget_indexes, of_index, parse_time

RETENTION_VERSION = "retention/1"
#: Watt-hours that a terabyte on an SSD takes in an hour, from its makers' figures, by Cloud Carbon
#: Footprint (cloudcarbonfootprint.org, "Methodology", storage coefficients; 0.65 for a hard disk).
#: Without a data centre's overhead and replicas: the lake lies once on this machine's disk.
WATTS_PER_TB = 1.2
_TB, _HOURS_A_YEAR, _DAYS_A_YEAR = 1e12, 8766, 365.25
#: Releases are dated by whole seconds, so of that second all versions are kept.
_SECOND = timedelta(seconds=1)
#: Growth is that of the last days, of one at least.
_GROWTH_DAYS, _FEWEST_DAYS = 30.0, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRetention:
    """Bytes of one table: of the newest version, of older ones, and those that went (or would)."""

    table: str
    versions: int
    kept: int
    live_bytes: int
    history_bytes: int
    freed_bytes: int
    freed_files: int
    added_bytes: int  # by the commits of the last `_GROWTH_DAYS`


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What a look at all tables found and did.

    `grown_bytes` is what a year of commits like those of late would add if nothing were deleted,
    `kwh` and `kg_co2` what keeping the present bytes for a year takes.
    """

    days: int
    dry_run: bool
    tables: tuple[TableRetention, ...]
    grown_bytes: int
    kwh: float
    kg_co2: float

    @property
    def live_bytes(self) -> int:
        return sum(table.live_bytes for table in self.tables)

    @property
    def history_bytes(self) -> int:
        return sum(table.history_bytes for table in self.tables)

    @property
    def freed_bytes(self) -> int:
        return sum(table.freed_bytes for table in self.tables)

    def to_json(self) -> dict[str, Any]:
        totals = {
            name: getattr(self, name) for name in ("live_bytes", "history_bytes", "freed_bytes")
        }
        return {**asdict(self), **totals}


def retain(
    lake: Lake,
    settings: Settings,
    *,
    days: int,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Retention:
    """Delete the files that no kept version needs, and drop vectors that no chunk needs.

    Args:
        days: versions that were in force within the last so many days are kept.
        dry_run: say what would go, and delete nothing.

    Raises:
        Busy: a build or a restore is at work on the tables.
    """
    now = now or datetime.now(UTC)
    if not dry_run and embed.TABLE not in lake.holds():
        embed.drop_unneeded(lake)
    with lake.alone("lake_retention"):
        tables = [
            _retain(lake, settings, name, now - timedelta(days=days), now, dry_run=dry_run)
            for name in existing(lake)
        ]
        if not dry_run:
            forget_indexes(lake, traffic.indexes_in_use(settings))
    kept_bytes = sum(table.live_bytes + table.history_bytes for table in tables)
    kwh = kept_bytes / _TB * WATTS_PER_TB * _HOURS_A_YEAR / 1000
    return Retention(
        days=days,
        dry_run=dry_run,
        tables=tuple(tables),
        grown_bytes=round(sum(table.added_bytes for table in tables) * _years_over(lake, now)),
        kwh=kwh,
        kg_co2=load_prices(settings).emitted(kwh),
    )


def _retain(
    lake: Lake, settings: Settings, name: str, cutoff: datetime, now: datetime, *, dry_run: bool
) -> TableRetention:
    # Files that no version names are those of killed writers: no writer is at work now.
    history = lake.history(name)
    keep = _young(history, cutoff) | _released(lake, settings, name, history)
    sizes = _sizes(lake, name)
    gone = lake.vacuum(name, sorted(keep), dry_run=dry_run)
    freed = sum(sizes.get(path, 0) for path in gone)
    live = sum(lake.files(name).values())
    return TableRetention(
        table=name,
        versions=len(history),
        kept=len(keep),
        live_bytes=live,
        history_bytes=sum(sizes.values()) - freed - live,
        freed_bytes=freed,
        freed_files=len(gone),
        added_bytes=_added(lake, name, history, now - timedelta(days=_GROWTH_DAYS)),
    )


def _young(history: Sequence[Commit], cutoff: datetime) -> set[int]:
    """Versions that were in force at the cutoff or since; the newest always is."""
    young = {commit.version for commit in history if commit.time >= cutoff}
    at_cutoff = next((c.version for c in history if c.time < cutoff), None)
    return young | {history[0].version} | ({at_cutoff} if at_cutoff is not None else set())


def _released(lake: Lake, settings: Settings, name: str, history: Sequence[Commit]) -> set[int]:
    """Versions that releases in use were made from.

    Of documents those that were noted with the index; of other tables, and of indexes older than
    these notes, those in force when the release was made.
    """
    found = set()
    for release in traffic.releases_in_use(settings):
        noted = (of_index(lake, release.index) or {}).get(name)
        if noted is not None:
            found.add(noted)
        elif release.created:
            made = parse_time(release.created)
            found |= {c.version for c in history if made <= c.time < made + _SECOND}
            found |= {next((c.version for c in history if c.time < made), history[-1].version)}
    return found & {commit.version for commit in history}


def _sizes(lake: Lake, name: str) -> dict[str, int]:
    """Every data file of a table on disk, of whatever version or none."""
    folder = lake.path(name)
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*.parquet")
        if "_delta_log" not in path.parts
    }


def _added(lake: Lake, name: str, history: Sequence[Commit], since: datetime) -> int:
    """Bytes of new files in the commits since; a restore adds none."""
    added = 0
    for commit in history:
        if commit.time < since or commit.operation == "RESTORE":
            continue
        log = lake.path(name) / "_delta_log" / f"{commit.version:020d}.json"
        for line in log.read_text("utf-8").splitlines():
            added += json.loads(line).get("add", {}).get("size", 0)
    return added


def _years_over(lake: Lake, now: datetime) -> float:
    """By how much growth is to be multiplied to be that of a year."""
    first = min((lake.history(name)[-1].time for name in existing(lake)), default=now)
    days = min(max((now - first).total_seconds() / 86400, _FEWEST_DAYS), _GROWTH_DAYS)
    return _DAYS_A_YEAR / days
