"""Results of single evaluations, kept by the digest of what determines them.

So an evaluation costs what changed since the last one, and a kill loses one result at most.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError

_TABLE = "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value TEXT NOT NULL)"


class ResultCache:
    """A durable mapping from digest to JSON value, in a folder; safe for several processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "evaluation.db"
        try:
            with closing(self._connect()) as database, database:
                database.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise HeadwaterError(
                f"The evaluation cache {self.path} cannot be used: {error}.",
                mend="Delete it; the next evaluation fills it again.",
            ) from error

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values that are known, by key."""
        query = "SELECT value FROM results WHERE key = ?"
        with closing(self._connect()) as database:
            found = {key: database.execute(query, [key]).fetchone() for key in keys}
        return {key: json.loads(row[0]) for key, row in found.items() if row is not None}

    def put(self, key: str, value: Any) -> None:
        """Keep a value; it is on disk when this returns. The first value of a key stays."""
        with closing(self._connect()) as database, database:
            database.execute(
                "INSERT INTO results VALUES (?, ?) ON CONFLICT DO NOTHING", [key, json.dumps(value)]
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30)
