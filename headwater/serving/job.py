"""One chat request on its way from the event loop through a worker and back.

Knows threads and the loop, not how an answer is made or logged.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from headwater.release.traffic import Arm
from headwater.serving.answer import Decoding, Response, Turn
from headwater.serving.key_ring import ANYBODY, Caller
from headwater.serving.spans import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of an answer that is durable in the log."""

    response: Response


class Job:
    """One chat request on its way; made and read in the event loop, filled by a worker.

    Attributes:
        trace: names the request.
        spans: its trace, of the same id.
        user: names the user or session, who stays with one arm; None where nobody is named.
        key: the user, or the trace where there is none.
        caller: who pays for it.
        client: whose share of the places it takes; "" for nobody's.
        until: its deadline, a moment of `time.perf_counter`.
        release, arm: what answers, known with the first event.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        decoding: Decoding,
        *,
        spans: Trace,
        streamed: bool,
        user: str | None = None,
        caller: Caller = ANYBODY,
        seconds: float,
    ) -> None:
        self.spans, self.trace, self.started = spans, spans.id, spans.started
        self.turns, self.decoding, self.streamed = turns, decoding, streamed
        self.user, self.key = user, user or self.trace
        self.caller, self.client = caller, client_of(caller, user)
        self.arm: Arm = "champion"
        self.time = datetime.now(UTC)
        self.until = self.started + seconds
        self.release = ""
        self.cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[str | Finished | Exception] = asyncio.Queue()
        self._alarm: asyncio.TimerHandle | None = None

    async def next(self) -> str | Finished:
        """The next piece, or the end.

        Raises:
            ApiError: the request failed.
        """
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def end(self) -> Finished:
        """The end, without the pieces. Raises as `next` does."""
        while not isinstance(event := await self.next(), Finished):
            pass
        return event

    def cancel(self) -> None:
        """The client went away: stop at the next token. Harmless after the end."""
        self.cancelled.set()

    def at_deadline(self, call: Callable[[], None]) -> None:
        """Have the event loop call this when the deadline passes, unless the job has ended."""
        left = max(0.0, self.until - time.perf_counter())
        self._alarm = self._loop.call_later(left, call)

    def ended(self) -> None:
        """Called by the worker: the deadline matters no more."""
        if self._alarm is not None:
            with suppress(RuntimeError):  # the loop has ended, and its alarms with it
                self._loop.call_soon_threadsafe(self._alarm.cancel)

    def post(self, event: str | Finished | Exception) -> None:
        """Called by the worker."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop has ended, so nobody reads any more
            self.cancelled.set()

    @property
    def seconds(self) -> float:
        """Since arrival."""
        return time.perf_counter() - self.started


class Twin:
    """A request as the shadow's log entry names it: a trace of its own, with the same question."""

    def __init__(self, job: Job, spans: Trace, release: str) -> None:
        self.spans, self.trace, self.started = spans, spans.id, spans.started
        self.time, self.turns, self.streamed = job.time, job.turns, False
        self.release, self.arm, self.key = release, "shadow", job.key
        self.caller = ANYBODY  # nobody asked, so nobody pays

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


def client_of(caller: Caller, user: str | None) -> str:
    """Whose share of the places a request takes: the key's, else that of the user it names."""
    if caller.is_local:
        return ""
    return f"key {caller.key}" if caller.key else f"user {user}" if user else ""
