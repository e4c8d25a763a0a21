"""The durable log of verdicts on documents: whether an outlying one belongs in the corpus.

Knows what a verdict holds, not HTTP, and not what is asked next. The last verdict on a text counts,
whoever gave it: so any can be taken back by a later one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from headwater.documents.rated_out import RatedOut, name_of
from headwater.records import digest_of
from headwater.serving.durable_log import DurableLog, LogTail
from headwater.settings import Settings

#: It belongs in the corpus; it does not; what was said before is taken back.
Verdict = Literal["keep", "leave_out", "withdraw"]
_VERDICTS = ("keep", "leave_out", "withdraw")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictEntry:
    """What somebody said of a document's text.

    `id` and `digest` name the text as it was shown (`datasets.outliers`), `title` is its document's.
    `user` is empty where nobody said who they are; `key` is the id of the API key that was shown.
    """

    time: datetime
    id: str
    uri: str
    digest: str
    title: str
    verdict: Verdict
    user: str = ""
    key: str = ""

    @property
    def day(self) -> str:
        """Date it was said on in UTC, ISO 8601."""
        return self.time.astimezone(UTC).date().isoformat()

    @property
    def by(self) -> str:
        """Who said it, as far as that is known."""
        key = f"key {self.key}" if self.key else ""
        return ", ".join(filter(None, (" ".join(self.user.split()), key))) or "somebody"


class VerdictLog(DurableLog):
    """The durable log of verdicts.

    Args:
        folder: see `log_folder`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "verdict log")

    def append(self, entry: VerdictEntry) -> None:
        """Write one entry; when this returns it survives a power cut.

        Raises:
            DurableLogError: the disk refused it, or the log is closed.
        """
        self.append_line(entry.day, {**asdict(entry), "time": entry.time.isoformat()})


class Verdicts:
    """The last verdict on each text, as the log has it. Not safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._tail = LogTail(log_folder(settings), days=None)
        self._last: dict[str, VerdictEntry] = {}

    def read(self) -> Mapping[str, VerdictEntry]:
        """By the text's id; those that were taken back are not among them."""
        for _, _, line in self._tail.new_lines():
            entry = verdict_of(line)
            if entry is not None:
                before = self._last.get(entry.id)
                if before is None or _order(entry) >= _order(before):
                    self._last[entry.id] = entry
        return {name: each for name, each in self._last.items() if each.verdict != "withdraw"}


def log_folder(settings: Settings) -> Path:
    """Where the log of verdicts lies: one folder a day."""
    return settings.serving / "verdicts"


def left_out(settings: Settings) -> list[RatedOut]:
    """Documents that are to be left out, as `clean_documents` takes them."""
    return [
        RatedOut(
            uri=each.uri,
            digest=each.digest,
            detail=f"left out on {each.day} by {each.by}; taken back on the page /outliers,"
            f" verdict {each.id}",
        )
        for each in Verdicts(settings).read().values()
        if each.verdict == "leave_out"
    ]


def verdicts_digest(entries: Iterable[RatedOut]) -> str:
    """Names what is left out; the same for nothing, whatever was said before."""
    return name_of(entries) or digest_of("rated out/1", [])


def verdict_of(line: bytes) -> VerdictEntry | None:
    """One line of the log, or None where it is not whole."""
    try:
        fields = json.loads(line)
        entry = VerdictEntry(**{**fields, "time": datetime.fromisoformat(fields["time"])})
    except (ValueError, KeyError, TypeError):
        return None
    return entry if entry.verdict in _VERDICTS else None


def _order(entry: VerdictEntry) -> tuple[datetime, str]:
    return entry.time, entry.verdict
