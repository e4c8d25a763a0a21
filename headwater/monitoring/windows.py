"""Which requests are compared with which: an adapter's first ones, then window after window.

Knows requests and releases, not how windows are compared. A reference belongs to one adapter: it is
the first requests that the adapter answered, so a retraining starts a new one by itself.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pyarrow.compute as pc

from headwater.lake import Lake
from headwater.release import pointer
from headwater.release.manifest import load, manifest_path
from headwater.serving.request_log import VERIFIER, session_of
from headwater.settings import Settings

_COLUMNS = [
    "day", "trace", "time", "release", "arm", "session", "status", "question", "answer", "refused", "uris",
    "scores", "chunk_ids",
]  # fmt: skip
#: Our own questions say nothing of what users ask.
_VERIFIER = session_of(VERIFIER)
#: Days over which traffic is counted.
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last request that was taken: what sorts after it was not."""

    time: str  # ISO 8601, UTC
    trace: str


class Requests:
    """The answered requests of one adapter, oldest first, read from the lake day by day.

    Only requests that were answered (status `ok`) by a release that is still known count. A
    request that reaches the lake after later ones were taken is passed over.
    """

    def __init__(self, lake: Lake, settings: Settings) -> None:
        self._lake = lake
        self._adapter_of = functools.cache(lambda release: _adapter(settings, release))
        days = pc.unique(lake.read("requests", columns=["day"]).column("day")).to_pylist()
        self._days: list[str] = sorted(days)
        self.adapter = self._serving(settings)

    def after(self, cursor: Cursor | None) -> Iterator[dict[str, Any]]:
        """Requests of the adapter that is watched, past the cursor."""
        for day in self._days:
            if cursor is not None and day < cursor.time[:10]:
                continue
            for row in self._answered(day):
                if row["adapter"] == self.adapter and (
                    cursor is None or _key(row) > _key_of(cursor)
                ):
                    yield row

    def questions(self, traces: Mapping[str, float]) -> dict[str, str]:
        """Questions of some requests, by trace.

        Args:
            traces: with their times, seconds since 1970.
        """
        days = {datetime.fromtimestamp(time, UTC).date().isoformat() for time in traces.values()}
        rows = self._lake.read(
            "requests",
            columns=["trace", "question"],
            where={"day": sorted(days), "trace": sorted(traces)},
        )
        return {row["trace"]: row["question"] for row in rows.to_pylist()}

    def a_day(self) -> float:
        """Requests a day, whoever answered them, over the last week there were any."""
        if not self._days:
            return 0.0
        last = datetime.fromisoformat(self._days[-1])
        begin = max(last - timedelta(days=_WEEK - 1), datetime.fromisoformat(self._days[0]))
        days = [day for day in self._days if day >= begin.date().isoformat()]
        rows = self._lake.read("requests", columns=["day"], where={"day": days}).num_rows
        return rows / ((last - begin).days + 1)

    def _serving(self, settings: Settings) -> str | None:
        """The adapter in production; the one that answered last where nothing was promoted.

        Not whatever answered last in any case: a canary answers beside the release in production.
        """
        current = pointer.current(settings)
        if current is not None and (adapter := self._adapter_of(current)) is not None:
            return adapter
        newest = (row for day in reversed(self._days) for row in reversed(self._answered(day)))
        return next((row["adapter"] for row in newest), None)

    def _answered(self, day: str) -> list[dict[str, Any]]:
        rows = self._lake.read("requests", columns=_COLUMNS, where={"day": [day]}).to_pylist()
        answered = [
            {**row, "adapter": adapter}
            for row in rows
            # A shadow's answer was shown to nobody, and its question was answered by the champion.
            if row["status"] == "ok"
            and row["arm"] != "shadow"
            and row["session"] != _VERIFIER
            and (adapter := self._adapter_of(row["release"])) is not None
        ]
        return sorted(answered, key=_key)


def in_windows(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Whole windows of `size` requests; the remainder is left for another time."""
    while len(window := list(islice(rows, size))) == size:
        yield window


def cursor_at(row: Mapping[str, Any]) -> Cursor:
    """The cursor that has just passed a request."""
    return Cursor(*_key(row))


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["time"].astimezone(UTC).isoformat(timespec="microseconds"), row["trace"]


def _key_of(cursor: Cursor) -> tuple[str, str]:
    return cursor.time, cursor.trace


def _adapter(settings: Settings, release: str) -> str | None:
    """What answered for a release: its adapter, or the bare base; None for an unknown release."""
    if not manifest_path(settings, release).exists():
        return None
    known = load(settings, release)
    return known.adapter.id if known.adapter else known.base_model.digest
