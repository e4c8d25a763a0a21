"""Requests at work, one small file each, so that what a killed endpoint was doing is still told.

Knows files and who holds them, not what a request is. The files outlive the process; they are not
synced, as a power cut also takes away who waits for the answer.
"""

import json
import uuid
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from shutil import rmtree
from typing import Any

from headwater.serving.durable_log import DurableLogError


class InFlight:
    """The requests of one endpoint. Safe to use from several threads for different requests.

    Args:
        folder: holds one folder for each endpoint that lives or was killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine = folder / uuid.uuid4().hex
        self._mine.mkdir(parents=True)
        self._lock = (self._mine / "lock").open("w")
        flock(self._lock, LOCK_EX)  # the kernel lets go when this process dies

    def note(self, trace: str, **facts: Any) -> None:
        """What is known of a request so far; later facts replace earlier ones.

        Raises:
            DurableLogError: the disk refused it, so the request must not be answered.
        """
        try:
            with (self._mine / trace).open("a") as file:
                file.write(json.dumps(facts, default=str) + "\n")
        except OSError as error:
            raise DurableLogError(
                f"The notes in {self._folder} cannot be written: {error}.",
                mend="Free disk space or mend the folder's permissions.",
            ) from error

    def end(self, trace: str) -> None:
        """The request has its entry in the log."""
        (self._mine / trace).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is at work any more."""
        self._lock.close()
        rmtree(self._mine, ignore_errors=True)

    def left_behind(self) -> Iterator[dict[str, dict[str, Any]]]:
        """For each endpoint that was killed, what it was doing: facts by trace.

        The notes go once the caller takes the next one, so write the entries before.
        """
        for folder in sorted(self._folder.iterdir()):
            lock = folder / "lock"
            if folder == self._mine or not lock.exists():
                continue
            with lock.open("w") as file:
                try:
                    flock(file, LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    continue  # it lives
                yield {path.name: _facts(path) for path in folder.iterdir() if path != lock}
                rmtree(folder, ignore_errors=True)


def _facts(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for line in path.read_text("utf-8").splitlines(keepends=True):
        if line.endswith("\n"):  # else the kill has torn it
            facts |= json.loads(line)
    return facts
