"""The requests of today and yesterday by trace, read back from the durable log as it grows.

Knows the request log. An answer is final only once it is in the log, so whoever was given a trace
finds it here. Places in files are kept in memory, not the texts.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater.serving.durable_log import LogTail
from headwater.serving.request_log import log_folder, request_row
from headwater.settings import Settings

#: Traces whose place is known, the newest; about 200 bytes each.
_MOST = 200_000


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line stands, and whether it is an answer that was given whole."""

    path: Path
    offset: int
    size: int
    answered: bool


class RecentTraces:
    """The newest requests of an installation. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._tail = LogTail(log_folder(settings))
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, trace: str) -> dict[str, Any] | None:
        """The row of a request of today or yesterday, or None."""
        with self._lock:
            if trace not in self._places:
                self._catch_up()
            place = self._places.get(trace)
        return _read(place) if place is not None and _is_recent(place) else None

    def answered(self, limit: int, *, without: Collection[str] = ()) -> list[dict[str, Any]]:
        """The latest rows with an answer that was given whole, the newest first.

        Args:
            limit: at most so many rows.
            without: traces that are left out.
        """
        with self._lock:
            self._catch_up()
            places: list[_Place] = []
            for trace, place in reversed(self._places.items()):
                if len(places) == limit or not _is_recent(place):
                    break
                if place.answered and trace not in without:
                    places.append(place)
        return [_read(place) for place in places]

    def _catch_up(self) -> None:
        for path, offset, line in self._tail.new_lines():
            row = request_row(line)
            if row is not None:
                seen = row["status"] == "ok" and row["arm"] != "shadow"
                answered = seen and not row["refused"]
                self._places[row["trace"]] = _Place(path, offset, len(line), answered)
        while len(self._places) > _MOST:
            self._places.popitem(last=False)


def _is_recent(place: _Place) -> bool:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    return place.path.parent.name >= yesterday


def _read(place: _Place) -> dict[str, Any]:
    with place.path.open("rb") as file:
        file.seek(place.offset)
        row = request_row(file.read(place.size))
    assert row is not None  # it was whole when its place was noted, and a log only grows
    return row
