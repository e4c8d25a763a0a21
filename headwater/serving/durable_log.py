"""A durable log: JSON lines, one file per day and process, synced before `append` returns.

Knows files and lines, not what a line means. A reader tells a line that a kill has torn from a
whole one, because only a whole one is JSON.
"""

import json
import logging
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater.serving.keys import scrub

log = logging.getLogger("headwater")

#: Days whose files a process keeps open: today's, and yesterday's for entries across midnight.
_OPEN_DAYS = 2


class DurableLogError(HeadwaterError):
    """An entry could not be made durable, so whoever waits for it must be told so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDay:
    """A day's rows, ordered by time and trace, and how many lines were torn by a kill."""

    rows: tuple[dict[str, Any], ...]
    torn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A line on its way to the disk, and who waits for it."""

    day: str
    line: bytes
    written: Future[None]


class DurableLog:
    """Appends entries; many that come at once share one fsync (group commit).

    Args:
        folder: holds one folder a day, and in it one file a process.
        what: the log's name in messages, for example "request log".
    """

    def __init__(self, folder: Path, what: str) -> None:
        self._folder, self._what = folder, what
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._lines: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._files: dict[str, int] = {}
        self._torn: set[str] = set()
        self._closed = False
        self._lock = threading.Lock()  # an entry is queued before the end mark, or refused
        name = what.replace(" ", "-")
        self._thread = threading.Thread(target=self._write_all, name=name, daemon=True)
        self._thread.start()

    def append_line(self, day: str, fields: Mapping[str, Any]) -> None:
        """Write one JSON object as a line; when this returns it survives a power cut.

        An API key in it is not written: somebody will paste one into a question.

        Args:
            day: UTC date, ISO 8601: the folder it goes to.

        Raises:
            DurableLogError: the disk refused it, or the log is closed.
        """
        line = json.dumps(dict(fields), ensure_ascii=False).encode("utf-8", "replace")
        waiting = _Waiting(day=day, line=scrub(line) + b"\n", written=Future())
        with self._lock:
            if self._closed:
                raise DurableLogError(f"The {self._what} is closed.", mend="Ask again in a moment.")
            self._lines.put(waiting)
        try:
            waiting.written.result()
        except OSError as error:
            raise DurableLogError(
                f"The {self._what} in {self._folder} cannot be written: {error}.",
                mend="Free disk space or mend the folder's permissions.",
            ) from error

    def close(self) -> None:
        """Write what is waiting and close the files."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._lines.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        ended = False
        while not ended:
            batch = [self._lines.get()]
            while not self._lines.empty():
                batch.append(self._lines.get())
            ended = None in batch
            waiting = [item for item in batch if item is not None]
            for day in sorted({item.day for item in waiting}):
                self._commit(day, [item for item in waiting if item.day == day])
        for descriptor in self._files.values():
            os.close(descriptor)

    def _commit(self, day: str, items: Sequence[_Waiting]) -> None:
        try:
            # Ends a line that a failed write may have left; readers skip empty lines.
            start = b"\n" if day in self._torn else b""
            self._torn.add(day)
            descriptor = self._open(day)
            data = start + b"".join(item.line for item in items)
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
            self._torn.discard(day)
        except OSError as error:
            log.error("%s: %s", self._what, error)
            for item in items:
                item.written.set_exception(error)
        else:
            for item in items:
                item.written.set_result(None)

    def _open(self, day: str) -> int:
        if day not in self._files:
            folder = self._folder / day
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._files[day] = os.open(folder / self._name, flags, 0o600)
            for parent in (folder, self._folder, self._folder.parent):
                _fsync_folder(parent)
            for old in sorted(self._files)[:-_OPEN_DAYS]:
                if old != day:
                    os.close(self._files.pop(old))
        return self._files[day]


class LogTail:
    """Follows a log's newest days: each call gives the lines that were added since the last.

    Knows every process's files. Not safe to use from several threads at once.

    Args:
        days: how many of the newest days are followed; None is all.
    """

    def __init__(self, folder: Path, days: int | None = 2) -> None:
        self._folder, self._days = folder, days
        self._read: dict[Path, int] = {}

    def new_lines(self) -> Iterator[tuple[Path, int, bytes]]:
        """Whole lines in order of day, file and place: the file, the line's offset, its bytes."""
        for day in logged_days(self._folder)[-(self._days or 0) :]:
            for path in sorted((self._folder / day).glob("*.jsonl")):
                start = self._read.get(path, 0)
                with path.open("rb") as file:
                    file.seek(start)
                    for line in file:
                        if not line.endswith(b"\n"):  # still being written, or torn for ever
                            break
                        yield path, start, line
                        start += len(line)
                        self._read[path] = start


def read_day(folder: Path, day: str, parse: Callable[[bytes], dict[str, Any] | None]) -> LoggedDay:
    """The day's entries of all processes.

    A line that a kill has torn is counted and left out: nobody was told that it is durable.

    Args:
        parse: a line as a row with a `time` and a `trace`, or None where it is not whole.
    """
    lines = [
        line
        for path in sorted((folder / day).glob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")
        if line
    ]
    rows = [row for line in lines if (row := parse(line)) is not None]
    rows.sort(key=lambda row: (row["time"], row["trace"]))
    return LoggedDay(rows=tuple(rows), torn=len(lines) - len(rows))


def logged_days(folder: Path) -> list[str]:
    """Days that have a log, oldest first."""
    return sorted(path.name for path in folder.glob("*-*-*") if path.is_dir())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
