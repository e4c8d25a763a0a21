"""The durable log of requests: JSON lines, one file per day and process, synced before an answer.

Knows what an entry holds, not HTTP or models, nor how a log is kept. What it returns are rows of
the lake's `requests` table.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headwater.records import digest_of
from headwater.serving import durable_log
from headwater.serving.durable_log import DurableLog, LoggedDay
from headwater.serving.spans import SpanRecord
from headwater.settings import Settings
from headwater.tables import SCHEMAS

Status = Literal["ok", "aborted", "deadline", "error"]
_FIELDS = tuple(SCHEMAS["requests"].names)
#: What a line lacks that was written before there were these fields.
_LATER: dict[str, Any] = {
    "arm": "champion", "session": "", "key": "", "ungrounded": None, "guard": [],
    "energy_wh": None, "cost": None, "spans": [],
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEntry:
    """One request and what answered it; the fields of the lake's `requests` table.

    `time` (UTC) is the request's arrival, and `day` its date. `arm` is "champion", "canary" or
    "shadow" (nobody saw the answer); `session` a digest of who asked; `key` the id of
    the API key, "" without one; `ungrounded` the part of the
    answer's words that stand in none of its passages, None without an answer; `guard` what the
    guards did, as "rule action count". `status` is "ok", "aborted" (the client went away, and
    `answer` holds what had been generated; or the endpoint was killed), "deadline" (it passed;
    `answer` holds what the client got of it, if anything) or "error". `spans` are those of the trace
    when this was written: the request itself and `log` were not over then.
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
    guard: tuple[str, ...]
    uris: tuple[str, ...]
    scores: tuple[float, ...]
    chunk_ids: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    retrieve_ms: float
    generate_ms: float
    total_ms: float
    key: str = ""
    energy_wh: float | None = None
    cost: float | None = None
    spans: tuple[SpanRecord, ...] = ()

    @property
    def day(self) -> str:
        """Date of arrival in UTC, ISO 8601."""
        return self.time.astimezone(UTC).date().isoformat()


def cut_entry(
    trace: str,
    *,
    time: str,
    session: str,
    key: str,
    streamed: bool,
    release: str = "",
    arm: str = "champion",
) -> RequestEntry:
    """The entry of a request that an endpoint was killed with; nobody knows how far it came."""
    return RequestEntry(
        trace=trace, time=datetime.fromisoformat(time), release=release, arm=arm, session=session,
        key=key, question="", answer="", status="aborted", streamed=streamed, refused=False,
        ungrounded=None, guard=(), uris=(), scores=(), chunk_ids=(), prompt_tokens=0,
        completion_tokens=0, retrieve_ms=0.0, generate_ms=0.0, total_ms=0.0,
    )  # fmt: skip


def session_of(key: str) -> str:
    """What the log keeps of a user or session: a digest."""
    return digest_of("session", key)[:16]


#: Names our own questions to the endpoint, which are nobody's traffic.
VERIFIER = "headwater-verification"


def log_folder(settings: Settings) -> Path:
    """Where the request log lies: one folder a day."""
    return settings.serving / "requests"


class RequestLog(DurableLog):
    """The requests' durable log.

    Args:
        folder: see `log_folder`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "request log")

    def append(self, entry: RequestEntry) -> None:
        """Write one entry; when this returns it survives a power cut.

        Raises:
            DurableLogError: the disk refused it, so its answer must not be called final; or the
                log is closed.
        """
        fields = {"day": entry.day, **asdict(entry), "time": entry.time.isoformat()}
        self.append_line(entry.day, fields)


def read_requests(settings: Settings, day: str) -> LoggedDay:
    """The day's entries of all processes, as rows of the lake's `requests` table."""
    return durable_log.read_day(log_folder(settings), day, request_row)


def tokens_by_key(settings: Settings, day: str) -> dict[str, int]:
    """Tokens of prompts and answers that were logged on a day, by the id of their API key."""
    used: dict[str, int] = {}
    for path in sorted((log_folder(settings) / day).glob("*.jsonl")):
        with path.open("rb") as file:  # a day may be large: line by line
            for line in file:
                row = request_row(line)
                if row is not None and row["key"]:
                    tokens = row["prompt_tokens"] + row["completion_tokens"]
                    used[row["key"]] = used.get(row["key"], 0) + tokens
    return used


def logged_days(settings: Settings) -> list[str]:
    """Days that have a log, oldest first."""
    return durable_log.logged_days(log_folder(settings))


def request_row(line: bytes) -> dict[str, Any] | None:
    """One line of the log as a row of `requests`, or None where it is not whole."""
    try:
        fields = _LATER | json.loads(line)
        row = {name: fields[name] for name in _FIELDS}
        return row | {"time": datetime.fromisoformat(row["time"])}
    except (ValueError, KeyError, TypeError):
        return None
