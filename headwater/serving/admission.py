"""Who gets in: places at work and waiting, requests a minute, tokens a day.

Knows numbers and clocks, not keys' secrets or HTTP. A client is named by a string: a key's id, or
the user that a request names; "" is nobody in particular, and is bound by the places alone.
"""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from headwater.serving.openai_types import ApiError


class Gate:
    """Bounds requests at work and waiting, and tells those beyond it when to come back.

    Args:
        limit: places in all.
        share: part of them that one client may hold, at least one place.
    """

    def __init__(self, limit: int, share: float = 1.0) -> None:
        self._limit, self._seconds = limit, 1.0
        self._each = max(1, math.floor(limit * share))
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, client: str = "") -> None:
        """Take a place.

        Raises:
            ApiError: there is none (429 `queue_full`), or the client holds its share already (429
                `concurrency_limit_exceeded`).
        """
        with self._lock:
            inside = self._inside.total()
            # A place is free long before, but a newcomer would wait about as long again.
            wait = math.ceil(min(60.0, max(1.0, self._seconds / 2)))
            if inside >= self._limit:
                told = f"{inside} requests are waiting already. Retry after {wait} s."
                raise _too_many(told, "queue_full", wait)
            if client and self._inside[client] >= self._each:
                told = (
                    f"{self._inside[client]} of your requests are at work or waiting, and more"
                    f" are not taken at once. Retry after {wait} s."
                )
                raise _too_many(told, "concurrency_limit_exceeded", wait)
            self._inside[client] += 1

    def leave(self, seconds: float, client: str = "") -> None:
        """One less inside; `seconds` is how long it was, queue and all."""
        with self._lock:
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]
            self._seconds += 0.2 * (seconds - self._seconds)


class RequestRate:
    """Requests of each client in the last minute; exact, so no burst beyond the limit.

    Used from one thread. What it keeps is bounded by the limits it is asked about.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: dict[str, deque[float]] = {}

    def take(self, client: str, per_minute: int) -> None:
        """Count a request.

        Raises:
            ApiError: the minute has `per_minute` already (429 `rate_limit_exceeded`).
        """
        now = self._clock()
        taken = self._taken.setdefault(client, deque())
        while taken and taken[0] <= now - 60:
            taken.popleft()
        if len(taken) >= per_minute:
            wait = max(1, math.ceil(taken[len(taken) - per_minute] + 60 - now))
            told = f"This key has {per_minute} requests a minute. Retry after {wait} s."
            raise _too_many(told, "rate_limit_exceeded", wait)
        taken.append(now)


class DayTokens:
    """Tokens of each client on this UTC day, those being generated included.

    Args:
        used: what was counted today before, by client.
    """

    def __init__(
        self,
        used: Mapping[str, int] | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._day = clock().date().isoformat()
        self._used: Counter[str] = Counter(used or {})
        self._reserved: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reserve(self, client: str, per_day: int | None, tokens: int) -> None:
        """Set tokens aside for a request; `settle` gives them back.

        A request is taken while fewer than `per_day` are used or set aside, so the last one may go
        beyond it by its own size.

        Raises:
            ApiError: the day's tokens are used (429 `insufficient_quota`), or set aside for requests
                that are at work (429 `rate_limit_exceeded`).
        """
        with self._lock:
            now = self._clock()
            self._turn(now)
            if per_day is not None and self._used[client] >= per_day:
                midnight = datetime.combine(
                    now.date() + timedelta(days=1), datetime.min.time(), UTC
                )
                wait = math.ceil((midnight - now).total_seconds())
                told = (
                    f"This key has {per_day} tokens a day and has used them. They are renewed at"
                    f" midnight UTC, in {wait} s."
                )
                raise _too_many(told, "insufficient_quota", wait, kind="insufficient_quota")
            if per_day is not None and self._used[client] + self._reserved[client] >= per_day:
                told = (
                    "This key's requests at work may use up its tokens of today. Retry after 2 s."
                )
                raise _too_many(told, "rate_limit_exceeded", 2)
            self._reserved[client] += tokens

    def settle(self, client: str, reserved: int, *, day: str, tokens: int) -> None:
        """Give back what was set aside, and count what was used by a request of a day."""
        with self._lock:
            self._turn(self._clock())
            self._reserved[client] -= reserved
            if day == self._day:
                self._used[client] += tokens

    def used(self, client: str) -> int:
        """Tokens that a client has used today."""
        with self._lock:
            self._turn(self._clock())
            return self._used[client]

    def _turn(self, now: datetime) -> None:
        """Begin a new day with nothing used."""
        if (today := now.date().isoformat()) != self._day:
            self._day = today
            self._used.clear()


def _too_many(told: str, code: str, wait: int, *, kind: str = "rate_limit_error") -> ApiError:
    return ApiError(429, told, kind=kind, code=code, retry_after=wait)
