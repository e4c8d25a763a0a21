"""Every write of a process below one folder, counted; at one of them it ends as by `kill -9`.

Sees what Python writes by its audit events, before each, and what Rust and C++ write for us around the
calls that have them do so, before and after. Knows no stage. For a process that ends soon: an audit
hook cannot be taken off.
"""

import os
import signal
import stat
import sys
from collections.abc import Callable
from fcntl import F_GETFL, fcntl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: Audit events that change a folder: which argument is the path, and which the open folder that it
#: is below, if any.
_AUDITED: dict[str, tuple[int, int | None]] = {
    "os.chmod": (0, 2),
    "os.link": (1, 3),
    "os.mkdir": (0, 2),
    "os.remove": (0, 1),
    "os.rename": (1, 3),
    "os.rmdir": (0, 1),
    "os.symlink": (1, 2),
    "os.truncate": (0, None),
    "os.utime": (0, 3),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: Bytes that a torn file lacks at its end: fewer than any line that is appended.
_TORN = 5
#: What a call of the index's engine may write.
_ENGINE = ("update", "optimize", "flush", "close")
#: Ends of the kinds of event around a commit, in order.
NOT_BEGUN, NOT_WHOLE, NOT_COMMITTED, COMMITTED = (
    "not begun", "not whole", "not committed", "committed",
)  # fmt: skip

Call = Callable[..., Any]


class Faults:
    """The writes of this process below a folder, as kind and path, in order.

    Args:
        home: the folder.
        at: the number of the write at which the process ends, from 1; None is never.
    """

    def __init__(self, home: Path, at: int | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self._home = f"{home.resolve()}{os.sep}"
        self._at = at
        self._ending = False

    def watch(self) -> None:
        """Count from here on. Only calls that our stages make are known: see `_AUDITED` and below."""
        import deltalake
        import pyarrow
        import pyarrow.parquet
        from deltalake.table import TableAlterer

        from headwater.embeddings.edge import EdgeStore

        _put_around(os, "fsync", self._fsync)
        _put_around(deltalake, "write_deltalake", self._committing("write", _folder))
        _put_around(
            deltalake.DeltaTable, "create_write_transaction", self._committing("commit", _folder)
        )
        _put_around(deltalake.DeltaTable, "restore", self._committing("restore", _folder))
        _put_around(deltalake.DeltaTable, "vacuum", self._committing("vacuum", _folder))
        _put_around(
            TableAlterer, "add_columns", self._committing("widen", lambda each: _folder(each.table))
        )
        _put_around(EdgeStore, "_shard", self._engine)
        _put_around(pyarrow.parquet, "write_table", self._parquet)
        _put_around(pyarrow, "OSFile", self._file)
        sys.addaudithook(self._audited)

    def event(
        self,
        kind: str,
        path: Any,
        folder: int | None = None,
        tear: Callable[[], None] | None = None,
    ) -> None:
        """Count a write; end the process where it is the one.

        Args:
            path: a path, or the descriptor of an open file.
            folder: the descriptor of the folder that the path is below.
            tear: makes what a kill in the middle of the write leaves.
        """
        name = None if self._ending else self._below(path, folder)
        if name is None:
            return
        self.seen.append((kind, name))
        if len(self.seen) == self._at:
            self._ending = True  # what tears is no write of the stage
            if tear is not None:
                tear()
            os.kill(os.getpid(), signal.SIGKILL)

    def _below(self, path: Any, folder: int | None) -> str | None:
        """The path within the folder that is watched, or None."""
        try:
            found = _opened(path) if isinstance(path, int) else Path(os.fsdecode(path))
            if folder is not None and folder >= 0:
                found = _opened(folder) / found
        except (OSError, TypeError):
            return None  # nothing that has a path
        text = str(found.absolute())
        return text.removeprefix(self._home) if text.startswith(self._home) else None

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and len(arguments) == 3:
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self.event("open", path)
        elif event in _AUDITED:
            path, folder = _AUDITED[event]
            self.event(event, arguments[path], None if folder is None else arguments[folder])

    def _fsync(self, real: Call) -> Call:
        """What was written to a file is a part of it until then."""

        def call(descriptor: int) -> None:
            if _is_written(descriptor):
                self.event("write", descriptor, tear=lambda: _cut(descriptor))
            real(descriptor)

        return call

    def _committing(self, kind: str, folder_of: Callable[[Any], Path]) -> Callable[[Call], Call]:
        """A call that makes one commit. Killed in its midst a data file is not whole; or all are, and
        the commit is not there.
        """

        def put(real: Call) -> Call:
            def call(*arguments: Any, **options: Any) -> Any:
                if options.get("dry_run"):
                    return real(*arguments, **options)
                folder = folder_of(arguments[0])
                self.event(f"{kind}: {NOT_BEGUN}", folder)
                before = _Table(folder)
                found = real(*arguments, **options)
                self.event(f"{kind}: {NOT_WHOLE}", folder, tear=lambda: before.take_back(torn=True))
                self.event(f"{kind}: {NOT_COMMITTED}", folder, tear=before.take_back)
                self.event(f"{kind}: {COMMITTED}", folder)
                return found

            return call

        return put

    def _engine(self, real: Call) -> Call:
        """The index's engine, which is written to by one of its calls."""

        def call(store: Any, folder: Path, *arguments: Any) -> Any:
            self.event("engine opens: not begun", folder)
            shard = real(store, folder, *arguments)
            self.event("engine opens: done", folder)
            return _Engine(self, shard, folder)

        return call

    def _parquet(self, real: Call) -> Call:
        def call(rows: Any, where: Any, *arguments: Any, **options: Any) -> Any:
            self.event("parquet: not begun", where)
            found = real(rows, where, *arguments, **options)
            size = Path(where).stat().st_size
            self.event("parquet: not whole", where, tear=lambda: os.truncate(where, size // 2))
            self.event("parquet: done", where)
            return found

        return call

    def _file(self, real: Call) -> Call:
        def call(path: str, mode: str = "r", *arguments: Any) -> Any:
            if "w" in mode:
                self.event("open", path)
            return real(path, mode, *arguments)

        return call


class _Engine:
    """An index under construction that tells of its writes."""

    def __init__(self, faults: Faults, shard: Any, folder: Path) -> None:
        self._faults, self._shard, self._folder = faults, shard, folder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._shard, name)
        if name not in _ENGINE:
            return found

        def call(*arguments: Any) -> Any:
            self._faults.event(f"engine {name}: not begun", self._folder)
            answer = found(*arguments)
            self._faults.event(f"engine {name}: done", self._folder)
            return answer

        return call


class _Table:
    """The files of a table as they are now, so that a commit that follows can be taken back."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._log = folder, folder / "_delta_log"
        self._pointer = self._log / "_last_checkpoint"
        self._before = self._files()
        self._points = self._pointer.read_bytes() if self._pointer.exists() else None

    def take_back(self, *, torn: bool = False) -> None:
        """Leave what a writer leaves that ends before its commit.

        Args:
            torn: ... and in the midst of its last data file, which has another name until it is whole.
        """
        new = sorted(self._files() - self._before)
        of_log = [path for path in new if path.parent == self._log]
        commits = [path for path in of_log if path.suffix == ".json" and path.stem.isdecimal()]
        if commits:
            for path in of_log:  # the commit, and a checkpoint or checksum of the same version
                if path.name.startswith(commits[-1].stem):
                    path.unlink()
        if self._points is None:
            self._pointer.unlink(missing_ok=True)
        else:
            self._pointer.write_bytes(self._points)
        data = [path for path in new if path.parent != self._log and path.suffix == ".parquet"]
        if data and torn:
            os.truncate(data[-1], data[-1].stat().st_size // 2)
            data[-1].rename(f"{data[-1]}#1")

    def _files(self) -> set[Path]:
        return {path for path in self._folder.rglob("*") if path.is_file()}


def _put_around(owner: Any, name: str, make: Callable[[Call], Call]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def _folder(table: Any) -> Path:
    """The folder of a table that is named by its path, or open."""
    place = table if isinstance(table, str) else table.table_uri
    return Path(unquote(urlsplit(place).path)) if place.startswith("file:") else Path(place)


def _opened(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _is_written(descriptor: int) -> bool:
    """Whether it is a file, open to be written."""
    written = fcntl(descriptor, F_GETFL) & (os.O_WRONLY | os.O_RDWR)
    return bool(written) and stat.S_ISREG(os.fstat(descriptor).st_mode)


def _cut(descriptor: int) -> None:
    os.ftruncate(descriptor, max(0, os.fstat(descriptor).st_size - _TORN))
