"""The durable log of feedback: what people said of an answer, or of two answers side by side.

Knows what an entry holds, not HTTP. What it returns are rows of the lake's `feedback` table.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headwater.records import digest_of
from headwater.serving import durable_log
from headwater.serving.durable_log import DurableLog, LoggedDay
from headwater.settings import Settings
from headwater.tables import SCHEMAS

Thumb = Literal["up", "down"]
#: Which of two answers is better: the logged one, its rival, neither, or nobody can tell.
Preferred = Literal["answer", "rival", "equal", "skip"]
_FIELDS = tuple(SCHEMAS["feedback"].names)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEntry:
    """What somebody said of the answer of a trace; the fields of the lake's `feedback` table.

    Either of the answer alone (`thumb`, `correction`, `tags`), or beside a second answer to the
    same question (`rival`, the release that gave it, and which is `preferred`). `release` is the
    one that answered the trace; `user` is empty where nobody said who they are.
    """

    time: datetime
    trace: str
    release: str
    user: str = ""
    thumb: Thumb | None = None
    correction: str | None = None
    tags: tuple[str, ...] = ()
    rival: str | None = None
    rival_release: str | None = None
    preferred: Preferred | None = None

    @property
    def id(self) -> str:
        """Digest of who said what of which trace: the same said twice has the same id."""
        fields = asdict(self)
        del fields["time"]
        return digest_of("feedback/1", {**fields, "tags": sorted(self.tags)})[:32]

    @property
    def day(self) -> str:
        """Date it was said on in UTC, ISO 8601."""
        return self.time.astimezone(UTC).date().isoformat()


class FeedbackLog(DurableLog):
    """The durable log of feedback.

    Args:
        folder: see `log_folder`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "feedback log")

    def append(self, entry: FeedbackEntry) -> None:
        """Write one entry; when this returns it survives a power cut.

        Raises:
            DurableLogError: the disk refused it, or the log is closed.
        """
        fields = {"day": entry.day, "id": entry.id, **asdict(entry)}
        self.append_line(entry.day, {**fields, "time": entry.time.isoformat()})


def log_folder(settings: Settings) -> Path:
    """Where the feedback log lies: one folder a day."""
    return settings.serving / "feedback"


def read_feedback(settings: Settings, day: str) -> LoggedDay:
    """The day's entries of all processes, as rows of the lake's `feedback` table."""
    return durable_log.read_day(log_folder(settings), day, feedback_row)


def feedback_row(line: bytes) -> dict[str, Any] | None:
    """One line of the log as a row of `feedback`, or None where it is not whole."""
    try:
        fields = json.loads(line)
        row = {name: fields[name] for name in _FIELDS}
        return row | {"time": datetime.fromisoformat(row["time"])}
    except (ValueError, KeyError, TypeError):
        return None
