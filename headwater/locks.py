"""One at a time: a lock file that names its holder and is freed by the kernel when that dies.

Knows processes, not what they do.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
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


@contextmanager
def alone(path: Path, *, who: str, run: str = "") -> Iterator[None]:
    """Hold a lock that others may hold for minutes; does not wait.

    Args:
        who: what a person who comes second reads that this process does.
        run: of Dagster, where it is one.

    Raises:
        Busy: another holds it; says who, since when and in which process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"{who} cannot begin: {_holder(file)} is at work on the same tables.",
                mend="Nothing was changed. Do it again when that has ended.",
            ) from None
        since = datetime.now(UTC).isoformat(timespec="seconds")
        _write(file, json.dumps({"who": who, "run": run, "pid": os.getpid(), "since": since}))
        try:
            yield
        finally:
            _write(file, "")


def _write(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _holder(file: IO[str]) -> str:
    """The holder in words; it has not written its name yet in its first moment."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except json.JSONDecodeError:
        return "another process"
    run = f"run {holder['run'][:8]}, " if holder["run"] else ""
    return f"{holder['who']} ({run}process {holder['pid']}, since {holder['since']})"
