"""Sends the inbox's notices to receivers: in order, each once, for as long as it takes.

Knows notices and how far each receiver has been told, not how a receiver is reached. What goes out
is decided in the inbox, in the transaction of its cause; here only a position moves, after a
receiver has taken a notice. A receiver that is down keeps its place and is tried again with
exponential backoff; it does not hold up the others. One process delivers at a time.

Exactly once is not to be had across a kill between a receiver's yes and our note of it: that one
notice is sent again after the restart, with the same id, which stands in its last line.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headwater.monitoring.alerts import Alert, AlertInbox, iso, read_alert

#: Seconds until the next try: doubled each time from the first to the last.
FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0
#: A receiver that is new hears of what is open, and of what was raised within this time.
NEWS_SECONDS = 86_400.0
#: A receiver that nobody has tried to tell for so long is one that is configured no more.
MET_SECONDS = 3_600.0
#: Fields of examples that hold what users wrote: for the inbox, not for a chat room.
_PRIVATE = frozenset({"question", "answer", "text", "correction"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An alert was raised, or is resolved; `sequence` is its place in the order of all."""

    sequence: int
    event: str
    alert: Alert

    @property
    def id(self) -> str:
        """The same in every try, for receivers that can tell a repetition."""
        return f"{self.alert.id}-{self.event}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A notice as a receiver gets it. `id` is the same in every try."""

    id: str
    title: str
    body: str
    alert: Alert
    resolved: bool


class Receiver(Protocol):
    """Somebody to tell. `key` names it for ever and `name` for people; neither holds a secret."""

    key: str
    name: str

    def send(self, message: Message) -> bool:
        """Whether it has taken the message; a failure that a later try may mend is False."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one round did. `waiting` is notices by receiver that are still to go.

    `busy` is True where another process was delivering, so that this one did nothing.
    """

    sent: int
    waiting: dict[str, int]
    busy: bool = False


def deliver(
    inbox: AlertInbox,
    receivers: Sequence[Receiver],
    *,
    seconds: float = 20.0,
    clock: Callable[[], float] = time.time,
) -> Delivered:
    """Tell every receiver what it has not been told, oldest first; come back later for the rest.

    Args:
        seconds: no new notice is begun after so long.
        clock: seconds since 1970.
    """
    outbox = Outbox(inbox)
    with inbox.file.alone("delivery") as alone:
        if not alone:
            return Delivered(sent=0, waiting={}, busy=True)
        ends = time.monotonic() + seconds
        sent = 0
        for receiver in receivers:
            outbox.meet(receiver, clock())
            while time.monotonic() < ends:
                notice = outbox.next(receiver, clock())
                if notice is None:
                    break
                if not receiver.send(message(notice)):
                    outbox.not_taken(receiver, clock())
                    break
                outbox.taken(receiver, notice)
                sent += 1
        waiting = {receiver.name: outbox.waiting(receiver) for receiver in receivers}
    return Delivered(sent=sent, waiting={name: count for name, count in waiting.items() if count})


class Outbox:
    """Each receiver's place in the inbox's notices."""

    def __init__(self, inbox: AlertInbox) -> None:
        self._file = inbox.file

    def meet(self, receiver: Receiver, now: float) -> None:
        """Give a new receiver its place: before what is open, and what was raised lately."""
        with self._file.reading() as db:
            met = db.execute(
                "SELECT met FROM receivers WHERE receiver = ?", (receiver.key,)
            ).fetchone()
        if met is not None and now - met[0] < MET_SECONDS / 2:
            return
        with self._file.transaction() as db:
            before = db.execute(
                "SELECT MIN(sequence) - 1 FROM notices JOIN alerts ON alerts.id = notices.alert"
                " WHERE alerts.state = 'open' OR notices.time >= ?",
                (iso(now - NEWS_SECONDS),),
            ).fetchone()[0]
            if before is None:
                (before,) = db.execute("SELECT COALESCE(MAX(sequence), 0) FROM notices").fetchone()
            db.execute(
                "INSERT INTO receivers VALUES (?, ?, ?, 0, 0, ?)"
                " ON CONFLICT DO UPDATE SET met = excluded.met",
                (receiver.key, receiver.name, before, now),
            )

    def next(self, receiver: Receiver, now: float) -> Notice | None:
        """The first notice that it has not taken, unless there is none or it is too early."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT sequence, alert, event FROM notices JOIN receivers ON sequence > position"
                " WHERE receiver = ? AND next_try <= ? ORDER BY sequence LIMIT 1",
                (receiver.key, now),
            ).fetchone()
            if row is None:
                return None
            return Notice(
                sequence=row["sequence"], event=row["event"], alert=read_alert(db, row["alert"])
            )

    def taken(self, receiver: Receiver, notice: Notice) -> None:
        """Move its place behind this notice."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE receivers SET position = ?, attempts = 0, next_try = 0 WHERE receiver = ?",
                (notice.sequence, receiver.key),
            )

    def not_taken(self, receiver: Receiver, now: float) -> None:
        """Leave it its place, and wait twice as long as the last time."""
        with self._file.transaction() as db:
            (attempts,) = db.execute(
                "SELECT attempts FROM receivers WHERE receiver = ?", (receiver.key,)
            ).fetchone()
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempts, 16))
            db.execute(
                "UPDATE receivers SET attempts = attempts + 1, next_try = ? WHERE receiver = ?",
                (now + wait, receiver.key),
            )

    def waiting(self, receiver: Receiver) -> int:
        """Notices that it has not taken."""
        with self._file.reading() as db:
            return int(
                db.execute(
                    "SELECT COUNT(*) FROM notices JOIN receivers ON sequence > position"
                    " WHERE receiver = ?",
                    (receiver.key,),
                ).fetchone()[0]
            )


def undelivered(inbox: AlertInbox, *, now: float) -> dict[str, int]:
    """Notices that each receiver has not taken, by its name; not of one that is configured no more."""
    with inbox.file.reading() as db:
        rows = db.execute(
            "SELECT name, COUNT(sequence) AS waiting FROM receivers"
            " LEFT JOIN notices ON sequence > position WHERE met >= ? GROUP BY receiver",
            (now - MET_SECONDS,),
        ).fetchall()
    return {row["name"]: row["waiting"] for row in rows}


def message(notice: Notice) -> Message:
    """What a person reads: the cause, what changed, a few examples, where to look, what to do."""
    alert = notice.alert
    resolved = notice.event == "resolved"
    lines = [alert.detail, ""] if alert.detail and not resolved else []
    if resolved:
        lines += [f"Well again since {_short(alert.resolved)}."]
    times = "once" if alert.count == 1 else f"{alert.count} times"
    lines += [f"Seen {times} since {_short(alert.first_seen)}. Owner: {alert.owner}."]
    if alert.last_well and not resolved:
        lines += [f"Last well: {_short(alert.last_well)}."]
    if alert.changed and not resolved:
        lines += ["Changed since then:"]
        lines += [
            f"- {row['what']}: {row['before']} -> {row['after']}" for row in alert.changed[:8]
        ]
    shown = [] if resolved else [_example(row) for row in alert.examples[:3]]
    if any(shown):
        lines += ["Examples:", *(f"- {text}" for text in shown if text)]
    lines += [f"Look: {alert.link}", f"Runbook: {alert.runbook}", f"Message: {notice.id}"]
    state = "resolved" if resolved else alert.severity
    return Message(
        id=notice.id,
        title=f"[{state}] {alert.title}"[:200],
        body="\n".join(lines),
        alert=alert,
        resolved=resolved,
    )


def _example(row: object) -> str:
    assert isinstance(row, dict)
    return ", ".join(f"{k}: {v}"[:160] for k, v in row.items() if k not in _PRIVATE)


def _short(time_: str) -> str:
    return time_[:19].replace("T", " ") + " UTC"
