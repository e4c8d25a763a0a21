"""The alert inbox: a durable file of what a person must look at, one open alert for each cause.

Knows files, not who raises an alert or who is told. The file is JSON lines, appended and synced:
`raised` holds the alert, `resolved` its id and the time. The state is the replay of the lines.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Literal

from headwater.records import digest_of

log = logging.getLogger("headwater")

Kind = Literal["run_failure", "check_failure", "drift", "stale_asset"]
Status = Literal["open", "resolved"]
#: What to do about each kind, relative to the repository.
RUNBOOKS: dict[Kind, str] = {
    "run_failure": "docs/runbooks/run_failure.md",
    "check_failure": "docs/runbooks/check_failure.md",
    "drift": "docs/runbooks/drift.md",
    "stale_asset": "docs/runbooks/stale_asset.md",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that went wrong and is somebody's to mend.

    `subject` is what it happened to (a job, an asset), `cause` what failed there (a step, a check);
    with `kind` they identify the alert while it is open. Times are ISO 8601, UTC.
    """

    id: str
    kind: Kind
    subject: str
    cause: str
    detail: str
    owner: str
    runbook: str
    time: str
    run: str = ""  # Dagster run that showed it first
    status: Status = "open"
    resolved: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What two alerts about the same thing have in common."""
        return self.kind, self.subject, self.cause


class AlertInbox:
    """The alerts of one folder. Safe for several processes and threads: writers take a lock."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "alerts.jsonl"

    def raise_(self, alert: Alert) -> Alert:
        """Record an alert, unless one with its key is open; returns the one that is open."""
        with self._locked() as known:
            for other in known.values():
                if other.status == "open" and other.key == alert.key:
                    return other
            self._append({"event": "raised", "alert": asdict(alert)})
        log.warning(
            "alert: %s of %s: %s (%s)", alert.kind, alert.subject, alert.cause, alert.runbook
        )
        return alert

    def resolve(self, *, kind: Kind, subject: str, cause: str) -> Alert | None:
        """Close the open alert about this, if there is one; returns it closed."""
        with self._locked() as known:
            for alert in known.values():
                if alert.status == "open" and alert.key == (kind, subject, cause):
                    closed = replace(alert, status="resolved", resolved=_now())
                    self._append({"event": "resolved", "id": alert.id, "time": closed.resolved})
                    return closed
        return None

    def list(self, status: Status | None = None) -> list[Alert]:
        """Alerts, newest first; of one status, or all."""
        alerts = [a for a in self._read().values() if status is None or a.status == status]
        return sorted(alerts, key=lambda alert: (alert.time, alert.id), reverse=True)

    def _read(self) -> dict[str, Alert]:
        """Replay the file; a line that a kill has torn was never acknowledged and is skipped."""
        alerts: dict[str, Alert] = {}
        lines = self.file.read_bytes().splitlines() if self.file.exists() else []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event["event"] == "raised":
                alert = Alert(**event["alert"])
                alerts[alert.id] = alert
            else:
                alert = alerts[event["id"]]
                alerts[alert.id] = replace(alert, status="resolved", resolved=event["time"])
        return alerts

    def _append(self, event: dict[str, object]) -> None:
        line = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.file, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # ends what a kill has torn
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Alert]]:
        """Hold the inbox's one lock; the kernel frees it when the process dies."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_suffix(".lock").open("w") as lock:
            flock(lock, LOCK_EX)
            yield self._read()


def raise_alert(
    inbox: AlertInbox,
    *,
    kind: Kind,
    subject: str,
    cause: str,
    detail: str,
    owner: str,
    run: str = "",
) -> Alert:
    """Raise an alert now, with the runbook of its kind; an open one of the same cause stands."""
    time = _now()
    alert = Alert(
        id=digest_of(kind, subject, cause, time)[:16],
        kind=kind,
        subject=subject,
        cause=cause,
        detail=detail,
        owner=owner,
        runbook=RUNBOOKS[kind],
        time=time,
        run=run,
    )
    return inbox.raise_(alert)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
