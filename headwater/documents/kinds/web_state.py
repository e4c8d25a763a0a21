"""What is known of a web site between two looks at it: a SQLite file below HEADWATER_HOME/cache.

Holds what servers said of each page (ETag, Last-Modified), the bytes, compressed, what is still to be
asked in a look that is under way, and the listing of the last one that ended. Knows no network.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater.records import digest_bytes, digest_of

#: `reason` of a page that the server says is gone: it is not listed.
GONE = "gone"
#: `reason` of a page that no look has come to yet.
PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is known of one URL."""

    url: str
    lastmod: str = ""  # of the sitemap, when the page was last asked for
    etag: str = ""
    modified: str = ""
    digest: str = ""  # of its bytes; "" where there are none
    size: int = 0
    media_type: str = ""
    reason: str = ""  # why there are none
    detail: str = ""
    seen: float = 0.0  # when the server last answered, in seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """A page of the sitemaps that is to be asked for, unless it is done or has a reason not to be."""

    url: str
    lastmod: str = ""
    reason: str = ""
    detail: str = ""
    done: bool = False


_COLUMNS = tuple(field.name for field in fields(Page))
_TYPES = {"size": "INTEGER", "seen": "REAL"}
_PAGE = ", ".join(
    f"{name} {_TYPES.get(name, 'TEXT')} NOT NULL" + (" PRIMARY KEY" if name == "url" else "")
    for name in _COLUMNS
)
_SCHEMA = f"""
    CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS page ({_PAGE});
    CREATE TABLE IF NOT EXISTS file ({_PAGE});
    CREATE TABLE IF NOT EXISTS listed ({_PAGE});
    CREATE TABLE IF NOT EXISTS todo (
        url TEXT PRIMARY KEY, place INTEGER NOT NULL, lastmod TEXT NOT NULL, reason TEXT NOT NULL,
        detail TEXT NOT NULL, done INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS body (digest TEXT PRIMARY KEY, content BLOB NOT NULL);
"""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM"
_VALUES = f"VALUES ({', '.join('?' * len(_COLUMNS))})"


class SiteState:
    """One site's file. Every method that writes is one transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        with self._db:
            self._db.executescript(_SCHEMA)

    @contextmanager
    def alone(self, host: str, *, wait: bool) -> Iterator[bool]:
        """Hold the lock of a host, of which one look at a time asks, whatever source it is for.

        Tells whether it is held, which it is not where another has it and one does not wait.
        """
        with (self._path.parent / f"{digest_of(host)[:32]}.lock").open("w") as file:
            try:
                flock(file, LOCK_EX if wait else LOCK_EX | LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def note(self, name: str) -> str:
        """A note by its name, "" where there is none."""
        row = self._db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def time(self, name: str) -> float:
        """A note that is a time, 0 where there is none."""
        return float(self.note(name) or 0)

    def write_notes(self, **notes: object) -> None:
        """Write notes down; "" is none."""
        with self._db:
            self._write_notes(notes)

    def file(self, url: str) -> Page | None:
        """What is known of robots.txt or a sitemap."""
        return self._one("file", url)

    def page(self, url: str) -> Page | None:
        """What is known of a page."""
        return self._one("page", url)

    def content(self, digest: str) -> bytes | None:
        """The bytes of a digest; None where they are not kept, or no longer what they were."""
        row = self._db.execute("SELECT content FROM body WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            return None
        try:
            content = zlib.decompress(row[0])
        except zlib.error:
            return None
        return content if digest_bytes(content) == digest else None

    def holds(self, digest: str) -> bool:
        """Whether the bytes of a digest are kept."""
        found = self._db.execute("SELECT 1 FROM body WHERE digest = ?", (digest,)).fetchone()
        return found is not None

    def keep_file(self, page: Page, content: bytes | None) -> None:
        """Keep what a server said of robots.txt or a sitemap."""
        with self._db:
            self._put("file", page, content)

    def keep_page(self, page: Page, content: bytes | None) -> None:
        """Keep what a server said of a page, which is done with that."""
        with self._db:
            self._put("page", page, content)
            self._db.execute("UPDATE todo SET done = 1 WHERE url = ?", (page.url,))

    def begin(self, todos: Sequence[Todo], **notes: object) -> None:
        """Begin a look with what is to be asked; pages that nothing is known of come first."""
        known = {str(url) for (url,) in self._db.execute("SELECT url FROM page")}
        order = sorted(todos, key=lambda todo: todo.url in known)
        rows = [
            (
                todo.url,
                place,
                todo.lastmod,
                todo.reason,
                todo.detail,
                int(todo.done or bool(todo.reason)),
            )
            for place, todo in enumerate(order)
        ]
        with self._db:
            self._db.execute("DELETE FROM todo")
            self._db.executemany("INSERT INTO todo VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._write_notes(notes)

    def todos(self) -> list[Todo]:
        """What is still to be asked, in order."""
        rows = self._db.execute("SELECT url, lastmod FROM todo WHERE done = 0 ORDER BY place")
        return [Todo(url=url, lastmod=lastmod) for url, lastmod in rows]

    def end(self, *, used_since: float, **notes: object) -> None:
        """Publish the listing of a look, and forget what is of no more use.

        What was not come to is listed as it was before, or as pending.

        Args:
            used_since: files of the site that were not asked for since are forgotten.
        """
        columns = ", ".join(_COLUMNS)
        with self._db:
            self._db.execute("DELETE FROM listed")
            self._db.execute(
                f"INSERT INTO listed {_SELECT} page WHERE reason != ? AND url IN"
                " (SELECT url FROM todo WHERE reason = '')",
                (GONE,),
            )
            unknown = [
                Page(url=url, reason=reason or PENDING, detail=detail or "no look came to it yet")
                for url, reason, detail in self._db.execute(
                    "SELECT url, reason, detail FROM todo WHERE reason != ''"
                    " OR url NOT IN (SELECT url FROM page)"
                )
            ]
            self._db.executemany(
                f"INSERT INTO listed ({columns}) {_VALUES}", [astuple(page) for page in unknown]
            )
            self._db.execute(
                "DELETE FROM page WHERE url NOT IN (SELECT url FROM todo WHERE reason = '')"
            )
            self._db.execute("DELETE FROM file WHERE seen < ?", (used_since,))
            self._db.execute(
                "DELETE FROM body WHERE digest NOT IN (SELECT digest FROM page"
                " UNION SELECT digest FROM file UNION SELECT digest FROM listed)"
            )
            self._write_notes(notes)

    def listing(self) -> list[Page]:
        """What the last look that ended found."""
        return [Page(**dict(zip(_COLUMNS, row, strict=True))) for row in self._rows("listed")]

    def _one(self, table: str, url: str) -> Page | None:
        row = self._db.execute(f"{_SELECT} {table} WHERE url = ?", (url,)).fetchone()
        return Page(**dict(zip(_COLUMNS, row, strict=True))) if row else None

    def _rows(self, table: str) -> Iterable[Any]:
        return self._db.execute(f"{_SELECT} {table} ORDER BY url")

    def _put(self, table: str, page: Page, content: bytes | None) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO {table} {_VALUES}", astuple(page))
        if content is not None:
            row = (page.digest, zlib.compress(content))
            self._db.execute("INSERT OR REPLACE INTO body VALUES (?, ?)", row)

    def _write_notes(self, notes: dict[str, object]) -> None:
        rows = [(name, str(value)) for name, value in notes.items()]
        self._db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", rows)


@contextmanager
def opened(path: Path) -> Iterator[SiteState]:
    """A site's state; made where there is none.

    Raises:
        HeadwaterError: the file cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            yield SiteState(connection, path)
    except sqlite3.Error as error:
        raise HeadwaterError(
            f"What is known of a web site cannot be read or written: {path}: {error}.",
            mend="Make room on the disk, or remove the file: the next look fetches the site anew.",
        ) from error
