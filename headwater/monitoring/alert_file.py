"""The file of the alert inbox: SQLite, whole after a kill or a power cut, open to many processes.

Knows tables and transactions, not what is done in them.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from headwater.errors import HeadwaterError

#: How long a writer waits for another one.
LOCK_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
  id TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  kind TEXT NOT NULL, subject TEXT NOT NULL, cause TEXT NOT NULL,
  severity TEXT NOT NULL, owner TEXT NOT NULL, detail TEXT NOT NULL,
  changed TEXT NOT NULL, last_well TEXT NOT NULL, examples TEXT NOT NULL,
  link TEXT NOT NULL, place TEXT NOT NULL, runbook TEXT NOT NULL, run TEXT NOT NULL,
  first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, count INTEGER NOT NULL,
  state TEXT NOT NULL, resolved TEXT NOT NULL, acknowledged TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open ON alerts (fingerprint) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS of_cause ON alerts (fingerprint);
-- Events that have had their effect.
CREATE TABLE IF NOT EXISTS events (event TEXT PRIMARY KEY, time TEXT NOT NULL) WITHOUT ROWID;
-- What was the case when a subject last was well.
CREATE TABLE IF NOT EXISTS wells (
  kind TEXT NOT NULL, subject TEXT NOT NULL, time TEXT NOT NULL, facts TEXT NOT NULL,
  PRIMARY KEY (kind, subject)
) WITHOUT ROWID;
-- Notices in the order in which they must go out.
CREATE TABLE IF NOT EXISTS notices (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  alert TEXT NOT NULL, event TEXT NOT NULL, time TEXT NOT NULL
);
-- How far each receiver has been told.
CREATE TABLE IF NOT EXISTS receivers (
  receiver TEXT PRIMARY KEY, name TEXT NOT NULL,
  position INTEGER NOT NULL, attempts INTEGER NOT NULL, next_try REAL NOT NULL, met REAL NOT NULL
) WITHOUT ROWID;
"""


class AlertFile:
    """`alerts.db` in one folder, made at the first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "alerts.db"

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from.

        Raises:
            HeadwaterError: the file is no inbox, or cannot be opened.
        """
        with self._named_errors(), closing(self._connect()) as db:
            yield db

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The one writer until the end, when all of it is durable, or none of it.

        Raises:
            HeadwaterError: the disk is full, or another writer does not end.
        """
        with self._named_errors(), closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            with db:
                yield db

    @contextmanager
    def alone(self, what: str) -> Iterator[bool]:
        """Whether no other process does this at the moment; the kernel frees it at a kill."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{what}.lock").open("w") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.DatabaseError) as error:
            raise HeadwaterError(
                f"The alert inbox {self.path} cannot be used: {error}.",
                mend="Free disk space, mend its owner, or move the file away to start a new one.",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            self._create()
        db = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous = FULL")
        return db

    def _create(self) -> None:
        """Make the file, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "create.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if self.path.exists():
                return
            new = self.path.with_suffix(".new")
            new.unlink(missing_ok=True)
            with closing(sqlite3.connect(new, isolation_level=None)) as db:
                # Readers and the one writer do not wait for each other.
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(_SCHEMA)
            new.chmod(0o600)
            new.replace(self.path)
