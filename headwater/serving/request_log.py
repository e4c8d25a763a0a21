"""The durable log of requests: JSON lines, one file per day and process, synced before an answer.

Knows files and lines, not HTTP or models. What it returns are rows of the lake's `requests` table.
"""

import json
import logging
import os
import queue
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headwater.errors import HeadwaterError
from headwater.lake import SCHEMAS
from headwater.settings import Settings

log = logging.getLogger("headwater")

Status = Literal["ok", "aborted", "error"]
#: Days whose files a process keeps open: today's, and yesterday's for requests across midnight.
_OPEN_DAYS = 2
_FIELDS = tuple(SCHEMAS["requests"].names)
#: What a line lacks that was written before there were these fields.
_LATER = {"arm": "champion", "session": "", "ungrounded": None}


class RequestLogError(HeadwaterError):
    """An entry could not be made durable, so its answer must not be called final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEntry:
    """One request and what answered it; the fields of the lake's `requests` table.

    `time` (UTC) is the request's arrival, and `day` its date. `arm` is "champion", "canary" or
    "shadow" (nobody saw the answer); `session` a digest of who asked; `ungrounded` the part of the
    answer's words that stand in none of its passages, None without an answer. `status` is "ok", "aborted" (the
    client went away; `answer` holds what had been generated) or "error".
    """

    trace: str
    time: datetime
    release: str
    arm: str
    session: str
    question: str
    answer: str
    status: Status
    streamed: bool
    refused: bool
    ungrounded: float | None
    uris: tuple[str, ...]
    scores: tuple[float, ...]
    chunk_ids: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    retrieve_ms: float
    generate_ms: float
    total_ms: float

    @property
    def day(self) -> str:
        """Date of arrival in UTC, ISO 8601."""
        return self.time.astimezone(UTC).date().isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDay:
    """A day's rows, ordered by time and trace, and how many lines were torn by a kill."""

    rows: tuple[dict[str, Any], ...]
    torn: int


def log_folder(settings: Settings) -> Path:
    """Where the request log lies: one folder a day."""
    return settings.serving / "requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A line on its way to the disk, and who waits for it."""

    day: str
    line: bytes
    written: Future[None]


class RequestLog:
    """Appends entries; many that come at once share one fsync (group commit).

    Args:
        folder: holds one folder a day, and in it one file a process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._lines: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._files: dict[str, int] = {}
        self._torn: set[str] = set()
        self._closed = False
        self._lock = threading.Lock()  # an entry is queued before the end mark, or refused
        self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
        self._thread.start()

    def append(self, entry: RequestEntry) -> None:
        """Write one entry; when this returns it survives a power cut.

        Raises:
            RequestLogError: the disk refused it, or the log is closed.
        """
        waiting = _Waiting(day=entry.day, line=_line(entry), written=Future())
        with self._lock:
            if self._closed:
                raise RequestLogError("The request log is closed.", mend="Ask again in a moment.")
            self._lines.put(waiting)
        try:
            waiting.written.result()
        except OSError as error:
            raise RequestLogError(
                f"The request log in {self._folder} cannot be written: {error}.",
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
            log.error("request log: %s", error)
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


def read_requests(settings: Settings, day: str) -> RequestDay:
    """The day's entries of all processes, as rows of the lake's `requests` table.

    A line that a kill has torn is counted and left out: its answer was never final.
    """
    rows: list[dict[str, Any]] = []
    torn = 0
    for path in sorted((log_folder(settings) / day).glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            if not line:
                continue
            row = _row(line)
            if row is None:
                torn += 1
            else:
                rows.append(row)
    rows.sort(key=lambda row: (row["time"], row["trace"]))
    return RequestDay(rows=tuple(rows), torn=torn)


def logged_days(settings: Settings) -> list[str]:
    """Days that have a log, oldest first."""
    return sorted(path.name for path in log_folder(settings).glob("*-*-*") if path.is_dir())


def _line(entry: RequestEntry) -> bytes:
    fields = {"day": entry.day, **asdict(entry), "time": entry.time.isoformat()}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _row(line: bytes) -> dict[str, Any] | None:
    """One line as a row, or None where it is not whole."""
    try:
        fields = _LATER | json.loads(line)
        row = {name: fields[name] for name in _FIELDS}
        return row | {"time": datetime.fromisoformat(row["time"])}
    except (ValueError, KeyError, TypeError):
        return None


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
