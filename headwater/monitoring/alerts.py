"""The alert inbox: what a person must look at, one open alert for each cause, durable.

Knows causes and their history, not who finds them or who is told. A cause is a kind, a subject and
what failed there; whoever finds one says so with a `Finding`, and says when the subject is well.
A finding carries the id of the event it comes from, which is noted in the transaction of its
effect, and both have the event's time: the same story told twice (a sensor's tick that was killed
and is repeated) has one effect.
Every notice for the outside is written in that transaction too; `outbox.py` sends them.
"""

import getpass
import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from headwater.errors import HeadwaterError
from headwater.monitoring.alert_file import AlertFile
from headwater.records import digest_of
from headwater.settings import Settings

log = logging.getLogger("headwater")

Kind = Literal[
    "run_failure",
    "check_failure",
    "stale_asset",
    "drift",
    "slo_burn",
    "stuck_run",
    "sensor_error",
]
State = Literal["open", "resolved"]
Severity = Literal["warning", "critical"]


def iso(timestamp: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC; such texts sort by time."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="microseconds")


def _now() -> str:
    return iso(datetime.now(UTC).timestamp())


#: What to do about each kind, relative to the repository.
RUNBOOKS: dict[Kind, str] = {kind: f"docs/runbooks/{kind}.md" for kind in get_args(Kind)}
#: Resolved alerts and noted events older than this are forgotten.
KEPT = timedelta(days=90)
#: A subject that stays well is noted this often, so that `last_well` is no older.
NOTED_EVERY = timedelta(minutes=10)
#: Bounds of what one alert keeps, so that a message and a page stay readable.
EXAMPLES, DETAIL_CHARS = 10, 2000

_JSON = ("changed", "examples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not well, as the one who found it sees it.

    Attributes:
        subject: what it happened to: a step, an asset, the endpoint, a sensor.
        cause: what failed there; with kind and subject it makes the cause.
        event: names the occurrence (a run, an evaluation); the same event counts once.
        time: when it happened, ISO 8601, UTC.
        examples: what failed, a few of it; values are text that people may have written.
        facts: what is the case now (release, commit, data versions), to be compared with what was
            when the subject last was well.
        place: where it shows in the Dagster UI (a run, an asset's checks), below the UI's address.
    """

    kind: Kind
    subject: str
    cause: str
    event: str
    detail: str
    owner: str
    severity: Severity = "critical"
    time: str = field(default_factory=_now)
    examples: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    run: str = ""

    @property
    def fingerprint(self) -> str:
        """What all occurrences of this cause have in common."""
        return digest_of(self.kind, self.subject, self.cause)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One episode of one cause, from its first occurrence until its subject is well again.

    Attributes:
        changed: facts that differ from when the subject last was well: what, before, after.
        last_well: when that was, or empty where it never was seen well.
        link: the alert's own page in the Dagster UI; `place` is where it happened, or empty.
        count: occurrences so far.
        acknowledged: who said to look after it and when, or empty.

    Times are ISO 8601, UTC.
    """

    id: str
    fingerprint: str
    kind: Kind
    subject: str
    cause: str
    severity: Severity
    owner: str
    detail: str
    changed: tuple[Mapping[str, str], ...]
    last_well: str
    examples: tuple[Mapping[str, Any], ...]
    link: str
    place: str
    runbook: str
    run: str
    first_seen: str
    last_seen: str
    count: int
    state: State
    resolved: str
    acknowledged: str

    @property
    def title(self) -> str:
        """One line that says what and where."""
        return f"{self.kind.replace('_', ' ')}: {self.subject}: {self.cause}"


class AlertInbox:
    """The alerts of one folder. Safe for several processes and threads, and for kill -9.

    Args:
        folder: holds the inbox's files.
        ui: address of the Dagster UI, for links to an alert's own page there.
    """

    def __init__(self, folder: Path, ui: str = "") -> None:
        self.file = AlertFile(folder)
        self._ui = ui.rstrip("/")

    def failed(self, finding: Finding) -> Alert | None:
        """Note an occurrence: opens an alert, or counts on the one that is open for its cause.

        Returns:
            The alert, or None where the event had its effect before and its alert is resolved.
        """
        with self.file.transaction() as db:
            open_id = _scalar(
                db,
                "SELECT id FROM alerts WHERE fingerprint = ? AND state = 'open'",
                finding.fingerprint,
            )
            is_new = _note_event(db, finding.event, finding.time)
            if open_id is not None:
                _count(db, open_id, finding, more=int(is_new))
            elif is_new:
                open_id = self._open(db, finding)
            else:
                return None
            alert = read_alert(db, open_id)
        if alert.count == 1 and is_new:
            log.warning("alert %s: %s (%s)", alert.id, alert.title, alert.runbook)
        return alert

    def well(
        self,
        kind: Kind,
        subject: str,
        *,
        facts: Mapping[str, str] | None = None,
        time: str = "",
        cause: str | None = None,
    ) -> list[Alert]:
        """Note that a subject is well, and what is the case; closes its open alerts of this kind.

        Args:
            time: when it was seen to be, ISO 8601; default is now. What failed later stays open.
            cause: only this one has gone.

        Returns:
            The alerts that it closed.
        """
        time = time or _now()
        known = json.dumps(dict(facts or {}), sort_keys=True)
        where = "kind = ? AND subject = ? AND state = 'open' AND last_seen <= ?"
        chosen: tuple[str, ...] = (kind, subject, time)
        if cause is not None:
            where, chosen = f"{where} AND cause = ?", (*chosen, cause)
        with self.file.reading() as db:
            before = _well(db, kind, subject)
            if (
                before is not None
                and before[1] == known
                and time < _later(before[0], NOTED_EVERY)
                and not db.execute(f"SELECT 1 FROM alerts WHERE {where}", chosen).fetchone()
            ):
                return []  # nothing is new: somebody looks every few seconds
        with self.file.transaction() as db:
            db.execute(
                "INSERT INTO wells VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET time = excluded.time, facts = excluded.facts WHERE excluded.time > time",
                (kind, subject, time, known),
            )
            found = db.execute(f"SELECT id FROM alerts WHERE {where}", chosen).fetchall()
            for (alert_id,) in found:
                db.execute(
                    "UPDATE alerts SET state = 'resolved', resolved = ? WHERE id = ?",
                    (time, alert_id),
                )
                _notice(db, alert_id, "resolved")
            closed = [read_alert(db, alert_id) for (alert_id,) in found]
        for alert in closed:
            log.info("alert %s resolved: %s", alert.id, alert.title)
        return closed

    def acknowledge(self, alert_id: str) -> Alert:
        """Say that somebody looks after it: the present user, now.

        Raises:
            HeadwaterError: no alert, or several, have an id that begins so.
        """
        with self.file.transaction() as db:
            found = self._find(db, alert_id)
            db.execute(
                "UPDATE alerts SET acknowledged = ? WHERE id = ?",
                (f"{getpass.getuser()} {_now()}", found),
            )
            return read_alert(db, found)

    def show(self, alert_id: str) -> Alert:
        """The alert of an id or its beginning. Raises as `acknowledge` does."""
        with self.file.reading() as db:
            return read_alert(db, self._find(db, alert_id))

    def list(self, state: State | None = None) -> list[Alert]:
        """Alerts, newest first; of one state, or all."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT * FROM alerts WHERE ?1 IS NULL OR state = ?1"
                " ORDER BY first_seen DESC, rowid DESC",
                (state,),
            )
            return [_to_alert(row) for row in rows.fetchall()]

    def forget_old(self) -> None:
        """Drop what was resolved, and noted, longer ago than `KEPT`."""
        before = (datetime.now(UTC) - KEPT).isoformat()
        with self.file.transaction() as db:
            old = "SELECT id FROM alerts WHERE state = 'resolved' AND resolved < ?"
            db.execute(f"DELETE FROM notices WHERE alert IN ({old})", (before,))
            db.execute("DELETE FROM alerts WHERE state = 'resolved' AND resolved < ?", (before,))
            db.execute("DELETE FROM events WHERE time < ?", (before,))

    def _open(self, db: sqlite3.Connection, finding: Finding) -> str:
        episode = _scalar(
            db, "SELECT COUNT(*) FROM alerts WHERE fingerprint = ?", finding.fingerprint
        )
        alert_id = digest_of(finding.fingerprint, episode, finding.time)[:12]
        before = _well(db, finding.kind, finding.subject)
        last_well, facts = (before[0], json.loads(before[1])) if before else ("", {})
        row = {
            "id": alert_id,
            "fingerprint": finding.fingerprint,
            "kind": finding.kind,
            "subject": finding.subject,
            "cause": finding.cause,
            "severity": finding.severity,
            "owner": finding.owner,
            "detail": _text(finding.detail)[:DETAIL_CHARS],
            "changed": json.dumps(_changes(facts, finding.facts) if before else []),
            "last_well": last_well,
            "examples": _examples(finding),
            "link": f"{self._ui}/assets/alerts?view=partitions&partition={alert_id}",
            "place": f"{self._ui}{finding.place}" if finding.place else "",
            "runbook": RUNBOOKS[finding.kind],
            "run": finding.run,
            "first_seen": finding.time,
            "last_seen": finding.time,
            "count": 1,
            "state": "open",
            "resolved": "",
            "acknowledged": "",
        }
        names = ", ".join(row)
        db.execute(
            f"INSERT INTO alerts ({names}) VALUES ({', '.join('?' * len(row))})",
            tuple(row.values()),
        )
        _notice(db, alert_id, "raised")
        return alert_id

    def _find(self, db: sqlite3.Connection, beginning: str) -> str:
        pattern = "".join(c for c in beginning if c.isalnum())
        found = db.execute(
            "SELECT id FROM alerts WHERE id LIKE ? || '%' LIMIT 2", (pattern,)
        ).fetchall()
        if len(found) == 1 and pattern:
            return str(found[0][0])
        raise HeadwaterError(
            f"{'Several alerts' if found and pattern else 'No alert'} have an id that begins"
            f" with {beginning!r}.",
            mend="`headwater alerts` lists them.",
        )


def open_inbox(settings: Settings) -> AlertInbox:
    """The inbox of an installation."""
    return AlertInbox(settings.alerts, settings.ui)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, str]]:
    """The facts that differ."""
    return [
        {"what": what, "before": before.get(what, "none"), "after": after.get(what, "none")}
        for what in sorted({*before, *after})
        if before.get(what) != after.get(what)
    ]


def _examples(finding: Finding) -> str:
    rows = [
        {_text(key): _text(value)[:500] for key, value in example.items()}
        for example in list(finding.examples)[:EXAMPLES]
    ]
    return json.dumps(rows, ensure_ascii=False)


def _text(value: Any) -> str:
    """Text that SQLite takes: lone surrogates replaced."""
    return str(value).encode("utf-8", "replace").decode()


def _count(db: sqlite3.Connection, alert_id: str, finding: Finding, *, more: int) -> None:
    """A further look at an open alert; the worst severity and the latest words stand."""
    db.execute(
        "UPDATE alerts SET count = count + ?, last_seen = MAX(last_seen, ?),"
        " detail = CASE WHEN ? >= last_seen THEN ? ELSE detail END,"
        " severity = CASE WHEN 'critical' IN (severity, ?) THEN 'critical' ELSE 'warning' END"
        " WHERE id = ?",
        (
            more,
            finding.time,
            finding.time,
            _text(finding.detail)[:DETAIL_CHARS],
            finding.severity,
            alert_id,
        ),
    )


def _note_event(db: sqlite3.Connection, event: str, time: str) -> bool:
    """Whether the event is new; from now on it is not."""
    done = db.execute("INSERT INTO events VALUES (?, ?) ON CONFLICT DO NOTHING", (event, time))
    return done.rowcount == 1


def _notice(db: sqlite3.Connection, alert_id: str, event: str) -> None:
    db.execute(
        "INSERT INTO notices (alert, event, time) VALUES (?, ?, ?)", (alert_id, event, _now())
    )


def _well(db: sqlite3.Connection, kind: str, subject: str) -> tuple[str, str] | None:
    """When the subject was well the last time, and the facts of then as JSON."""
    return db.execute(  # type: ignore[no-any-return]
        "SELECT time, facts FROM wells WHERE kind = ? AND subject = ?", (kind, subject)
    ).fetchone()


def _later(time: str, by: timedelta) -> str:
    return iso((datetime.fromisoformat(time) + by).timestamp())


def _scalar(db: sqlite3.Connection, query: str, *values: Any) -> Any:
    row = db.execute(query, values).fetchone()
    return None if row is None else row[0]


def read_alert(db: sqlite3.Connection, alert_id: str) -> Alert:
    """The alert of a whole id that is known to be there."""
    return _to_alert(db.execute("SELECT * FROM alerts WHERE id = ?", (alert_id,)).fetchone())


def _to_alert(row: sqlite3.Row) -> Alert:
    fields: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    return Alert(**fields | {name: tuple(json.loads(fields[name])) for name in _JSON})
