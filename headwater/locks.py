"""One at a time: a lock file that names its holder and is freed by the kernel when that dies.

Knows processes, not what they do. On a volume that several machines share, a lock holds among them where
its file system passes `flock` on to the server, as NFS (since version 4) and CephFS do.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from pathlib import Path
from socket import gethostname
from typing import IO

from headwater.errors import HeadwaterError


class Busy(HeadwaterError):
    """Another process is at work on what one wanted to change."""


@contextmanager
def wait_for(path: Path) -> Iterator[None]:
    """Hold a lock that others hold for moments; waits for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        flock(file, LOCK_EX)
        yield


class Parts:
    """A lock on a whole that has parts: one holder has all of it, or several have a part each.

    A taker holds `gate` for a moment, so that whoever comes second finds the name of the first, and
    who looks for a name is not taken for a holder.

    Args:
        whole: its lock file; the parts' lie in a folder of this name.
    """

    def __init__(self, whole: Path) -> None:
        self._whole, self._folder = whole, whole.with_suffix(".locks")
        self._gate = whole.with_suffix(".gate")

    @contextmanager
    def all(self, *, who: str, run: str = "") -> Iterator[None]:
        """Hold the whole, which others may do for minutes; does not wait.

        Args:
            who: what a person who comes second reads that this process does.
            run: of Dagster, where it is one.

        Raises:
            Busy: another holds it or a part; says who, since when and in which process.
        """
        with ExitStack() as held:
            with wait_for(self._gate):
                file = held.enter_context(_opened(self._whole))
                if not _took(file, LOCK_EX):
                    # A name in the file may be a dead holder's where others have parts now.
                    in_parts = _took(file, LOCK_SH)
                    raise _busy(who, self._holder_of_a_part() if in_parts else _name_in(file))
                held.enter_context(_named(file, who, run))
            yield

    @contextmanager
    def some(self, parts: Iterable[str], *, who: str, run: str = "") -> Iterator[None]:
        """Hold these parts beside holders of others; does not wait, and has all of them or none.

        Raises:
            Busy: another holds one of them, or the whole; says who, and which.
        """
        with ExitStack() as held:
            with wait_for(self._gate):
                whole = held.enter_context(_opened(self._whole))
                if not _took(whole, LOCK_SH):
                    raise _busy(who, _name_in(whole))
                for part in sorted({*parts}):
                    file = held.enter_context(_opened(self._folder / part))
                    if not _took(file, LOCK_EX):
                        raise _busy(who, _name_in(file), f"shard {part} of ")
                    held.enter_context(_named(file, who, run))
            yield

    def _holder_of_a_part(self) -> str:
        """One of those that hold parts; in the gate, where no part can be taken."""
        for path in sorted(self._folder.glob("*")):
            with _opened(path) as file:
                if not _took(file, LOCK_EX):
                    return _name_in(file)
                flock(file, LOCK_UN)
        return ""


def _opened(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


def _took(file: IO[str], how: int) -> bool:
    try:
        flock(file, how | LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _named(file: IO[str], who: str, run: str) -> Iterator[None]:
    """Have a lock name its holder as long as it is held."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    named = {"who": who, "run": run, "pid": os.getpid(), "host": gethostname(), "since": since}
    _write(file, json.dumps(named))
    try:
        yield
    finally:
        _write(file, "")


def _busy(who: str, holder: str, what: str = "") -> Busy:
    return Busy(
        f"{who} cannot begin: {holder or 'another process'} is at work on {what}the same tables.",
        mend="Nothing was changed. Do it again when that has ended.",
    )


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _name_in(file: IO[str]) -> str:
    """The holder in words; "" where it wrote none."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except json.JSONDecodeError:
        return ""
    run = f"run {holder['run'][:8]}, " if holder["run"] else ""
    host = holder.get("host", gethostname())
    where = "" if host == gethostname() else f" on {host}"
    return f"{holder['who']} ({run}process {holder['pid']}{where}, since {holder['since']})"
