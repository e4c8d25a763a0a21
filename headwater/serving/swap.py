"""Which loaded releases answer: swapped in one step, an old one freed after its last use.

Knows the pointer and traffic of the release stage and a runtime's life, not requests. A release that cannot
be loaded leaves the one in force, and is tried again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headwater.errors import HeadwaterError
from headwater.files import signature
from headwater.release import traffic
from headwater.release.traffic import Arm, Spread, Traffic
from headwater.serving.runtime import Runtime
from headwater.settings import Settings

log = logging.getLogger("headwater")

#: Seconds between two looks at the files of pointer and traffic.
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
    """The releases in force: the champion, and what runs beside it.

    Args:
        settings: where the pointer and the traffic lie.
        load: loads a release by id; gets a runtime in force, to share what is equal.
        swapped: told the champion's id after each swap.
        failed: told the arm, the release and the error after each load that failed.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[str, Runtime | None], Runtime],
        *,
        swapped: Callable[[str], None] = lambda _: None,
        failed: Callable[[Arm, str, HeadwaterError], None] = lambda *_: None,
    ) -> None:
        self._settings, self._load = settings, load
        self._swapped, self._failed = swapped, failed
        self._slots: dict[Arm, _Slot] = {}
        self._traffic = Traffic(champion=None)
        self._spread = Spread()
        self._uses = threading.Condition()  # guards slots, traffic, spread and the slots' counts
        self._refreshing = threading.Lock()  # one load at a time
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self.error: HeadwaterError | None = None

    @property
    def release(self) -> str | None:
        """Id of the champion that is loaded."""
        return self.loaded("champion")

    def loaded(self, arm: Arm) -> str | None:
        """Id of the release that is loaded as an arm."""
        slot = self._slots.get(arm)
        return slot.runtime.id if slot else None

    @property
    def traffic(self) -> Traffic:
        """The division of requests that is in force here."""
        return self._traffic

    @contextmanager
    def lease(self) -> Iterator[Runtime]:
        """The champion, which stays usable within the block whatever is swapped.

        Raises:
            NotReadyError: there is none.
        """
        with self.lease_for(None, "champion") as (_, runtime):
            yield runtime

    @contextmanager
    def lease_for(self, key: str | None, arm: Arm | None = None) -> Iterator[tuple[Arm, Runtime]]:
        """The arm of a user or session and its runtime, usable within the block.

        Args:
            key: of the user or session; None for a request that names neither.
            arm: this one, whatever the key; where it is not loaded (any more), the champion.

        Raises:
            NotReadyError: no release is loaded.
        """
        with self._uses:
            chosen = arm or (
                self._spread.arm(self._traffic) if key is None else self._traffic.arm(key)
            )
            if chosen not in self._slots:
                chosen = "champion"
            slot = self._slots.get(chosen)
            if slot is None:
                raise NotReadyError(
                    "No release is loaded.",
                    mend=self.error.what if self.error else "Run `headwater build`.",
                )
            slot.users += 1
        try:
            yield chosen, slot.runtime
        finally:
            self._leave(slot)

    def refresh(self) -> str | None:
        """Load what the pointer and the traffic name, if others are in force.

        Returns:
            The champion's id.

        Raises:
            HeadwaterError: the champion cannot be loaded; the one in force goes on answering.
        """
        with self._refreshing:
            wanted = self._read_traffic()
            if wanted.champion is None:
                self.error = None
                return self.release
            slots: dict[Arm, _Slot] = {}
            try:
                slots["champion"] = self._slot(wanted.champion)
            except Exception as error:
                self.error = as_headwater(error)
                self._failed("champion", wanted.champion, self.error)
                raise self.error from error
            beside: tuple[tuple[Arm, str | None], ...] = (
                ("canary", wanted.canary),
                ("shadow", wanted.shadow),
            )
            for arm, release in beside:
                if release is not None:
                    try:
                        slots[arm] = self._slot(release, share=slots["champion"].runtime)
                    except Exception as error:  # noqa: BLE001 - the champion serves on
                        self._failed(arm, release, as_headwater(error))
            self.error = None
            self._put_in_force(slots, wanted)
            return wanted.champion

    def _read_traffic(self) -> Traffic:
        try:
            return traffic.read(self._settings)
        except Exception as error:
            self.error = as_headwater(error)
            raise self.error from error

    def _slot(self, release: str, share: Runtime | None = None) -> _Slot:
        """The slot that has the release already, or a new one."""
        for slot in self._slots.values():
            if slot.runtime.id == release:
                return slot
        champion = self._slots.get("champion")
        return _Slot(self._load(release, share or (champion.runtime if champion else None)))

    def _put_in_force(self, slots: dict[Arm, _Slot], wanted: Traffic) -> None:
        """Swap in one step, then free what nobody uses any more."""
        before = self._slots
        with self._uses:
            self._slots, self._traffic = slots, wanted
        kept = {id(slot) for slot in slots.values()}
        for slot in {id(slot): slot for slot in before.values() if id(slot) not in kept}.values():
            self._retire(slot)
        old = before.get("champion")
        if old is None or old.runtime.id != slots["champion"].runtime.id:
            self._swapped(slots["champion"].runtime.id)

    def start(self) -> None:
        """Watch the pointer in a thread; the first load begins at once."""
        self._watcher = threading.Thread(target=self._watch, name="release-watch", daemon=True)
        self._watcher.start()

    def close(self, timeout: float = 30.0) -> None:
        """Stop watching, and free the runtimes when their last request has ended."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(timeout)
        with self._uses:
            slots, self._slots = self._slots, {}
            ended = self._uses.wait_for(
                lambda: all(slot.users == 0 for slot in slots.values()), timeout
            )
        if not ended:
            log.warning("endpoint: some requests did not end in time")
        for slot in {id(slot): slot for slot in slots.values()}.values():
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
        """Changes whenever the pointer or the traffic does."""
        return [
            signature(self._settings.releases / name) for name in ("current.json", "traffic.json")
        ]

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


def as_headwater(error: Exception) -> HeadwaterError:
    """What a user reads of a failed load; of an unforeseen error the log keeps the trace."""
    if isinstance(error, HeadwaterError):
        return error
    log.error("endpoint: the release cannot be loaded", exc_info=error)
    return HeadwaterError(
        f"The release cannot be loaded: {type(error).__name__}: {error}.",
        mend="See the endpoint's log.",
    )
