"""Which loaded release answers: swapped in one assignment, the old one freed after its last use.

Knows the pointer of the release stage and the runtime's life, not requests. A release that cannot
be loaded leaves the one in force, and is tried again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headwater.errors import HeadwaterError
from headwater.release import pointer
from headwater.serving.runtime import Runtime
from headwater.settings import Settings

log = logging.getLogger("headwater")

#: Seconds between two looks at the pointer's file.
POLL_SECONDS = 0.5
#: Seconds until a release that could not be loaded is tried again.
RETRY_SECONDS = 10.0


class NotReadyError(HeadwaterError):
    """No release is loaded."""


@dataclass(slots=True)
class _Slot:
    """A runtime with the number of requests that use it."""

    runtime: Runtime
    users: int = 0
    retired: bool = False


class Deployment:
    """The release in force.

    Args:
        settings: where the pointer lies.
        load: loads a release by id; gets the runtime in force, to share what is equal.
        swapped: told the id after each swap.
        failed: told the error after each load that failed.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[str, Runtime | None], Runtime],
        *,
        swapped: Callable[[str], None] = lambda _: None,
        failed: Callable[[HeadwaterError], None] = lambda _: None,
    ) -> None:
        self._settings, self._load = settings, load
        self._swapped, self._failed = swapped, failed
        self._slot: _Slot | None = None
        self._uses = threading.Condition()  # guards slots and their counts
        self._refreshing = threading.Lock()  # one load at a time
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self.error: HeadwaterError | None = None

    @property
    def release(self) -> str | None:
        """Id of the release that answers new requests."""
        slot = self._slot
        return slot.runtime.id if slot else None

    @contextmanager
    def lease(self) -> Iterator[Runtime]:
        """The runtime in force, which stays usable within the block whatever is swapped.

        Raises:
            NotReadyError: there is none.
        """
        with self._uses:
            slot = self._slot
            if slot is None:
                raise NotReadyError(
                    "No release is loaded.",
                    mend=self.error.what if self.error else "Run `headwater build`.",
                )
            slot.users += 1
        try:
            yield slot.runtime
        finally:
            self._leave(slot)

    def refresh(self) -> str | None:
        """Load the release that the pointer names, if another is in force; returns the id.

        Raises:
            HeadwaterError: it cannot be loaded; the one in force goes on answering.
        """
        with self._refreshing:
            before = self._slot
            try:
                wanted = pointer.current(self._settings)
                if wanted is None or wanted == self.release:
                    self.error = None
                    return self.release
                runtime = self._load(wanted, before.runtime if before else None)
            except Exception as error:
                self.error = _as_headwater(error)
                self._failed(self.error)
                raise self.error from error
            with self._uses:
                self._slot = _Slot(runtime)
            self.error = None
            if before is not None:
                self._retire(before)
            self._swapped(wanted)
            return wanted

    def start(self) -> None:
        """Watch the pointer in a thread; the first load begins at once."""
        self._watcher = threading.Thread(target=self._watch, name="release-watch", daemon=True)
        self._watcher.start()

    def close(self, timeout: float = 30.0) -> None:
        """Stop watching, and free the runtime when its last request has ended."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(timeout)
        with self._uses:
            slot, self._slot = self._slot, None
            if slot is None:
                return
            if not self._uses.wait_for(lambda: slot.users == 0, timeout):
                log.warning("endpoint: %d requests did not end in time", slot.users)
        self._retire(slot)

    def _watch(self) -> None:
        seen: object = None
        tried = float("-inf")
        while not self._stopping.is_set():
            now = self._signature()
            again = self.error is not None and time.monotonic() - tried > RETRY_SECONDS
            if now != seen or again:
                seen, tried = now, time.monotonic()
                try:
                    self.refresh()
                except HeadwaterError as error:
                    log.error("endpoint: %s", error)
            self._stopping.wait(POLL_SECONDS)

    def _signature(self) -> object:
        try:
            stat = (self._settings.releases / "current.json").stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _leave(self, slot: _Slot) -> None:
        with self._uses:
            slot.users -= 1
            last = slot.retired and slot.users == 0
            self._uses.notify_all()
        if last:
            slot.runtime.close()

    def _retire(self, slot: _Slot) -> None:
        with self._uses:
            slot.retired = True
            unused = slot.users == 0
        if unused:
            slot.runtime.close()


def _as_headwater(error: Exception) -> HeadwaterError:
    """What a user reads of a failed load; of an unforeseen error the log keeps the trace."""
    if isinstance(error, HeadwaterError):
        return error
    log.error("endpoint: the release cannot be loaded", exc_info=error)
    return HeadwaterError(
        f"The release cannot be loaded: {type(error).__name__}: {error}.",
        mend="See the endpoint's log.",
    )
