"""Files that are whole or absent: write beside, fsync, rename."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import yaml

from headwater.errors import HeadwaterError

#: Seconds after which what a writer has not published is taken to be a dead process's.
ABANDONED_S = 86_400.0
#: How a file ends that is not whole yet.
_HALF = ".partial"


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes | str, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace a file's content; a reader sees the old bytes or the new ones.

    What a killed writer leaves beside it is removed by a later one, a day on.

    Args:
        mode: its permissions; until it is whole it is its owner's alone.
        durable: whether it is forced to disk. A cache need not be: after a loss of power it may be
            torn, and whoever reads it has to tell.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_HALF)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _fsync_folder(path.parent)


def is_abandoned(path: Path) -> bool:
    """Whether a file was last written so long ago that its writer is taken to be dead."""
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:
        return False


def _sweep(path: Path) -> None:
    """Remove what dead writers of a file have left; what is younger may be of one at work."""
    for left in path.parent.glob(f".{escape(path.name)}.*{_HALF}"):
        if is_abandoned(left):
            left.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write a value as indented JSON, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomic(path, text + "\n", mode=mode)


def read_json(path: Path) -> Any:
    """The value a JSON file holds, or None where there is no such file."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds; empty where there is no such file.

    Raises:
        HeadwaterError: it holds something else.
    """
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise HeadwaterError(f"{path} is not YAML: {error}.", mend="Mend the file.") from error
    if found is not None and not isinstance(found, dict):
        raise HeadwaterError(f"{path} is no mapping.", mend="Mend the file.")
    return found or {}


def append_json(path: Path, value: Any) -> None:
    """Append a value as a line of JSON and force it to disk; ends first what a kill has torn."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(value, sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines, without those a kill has torn; [] where there is none."""
    if not path.exists():
        return []
    values = []
    for line in path.read_text("utf-8").splitlines():
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # its writer was killed, so nobody was told that it was written
    return values


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill a folder beside `target`, then publish it by one rename.

    Where `target` already exists (another writer was first; names are digests, so the content is
    the same) the new folder is dropped. What a killed writer leaves behind is named `.*.partial-*`
    and is swept by the next writer of the same target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    try:
        yield work
        for path in work.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if target.exists():
            shutil.rmtree(work)
        else:
            work.chmod(0o755)
            work.replace(target)
            _fsync_folder(target.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def signature(path: Path) -> object:
    """Changes whenever a file that is replaced atomically does; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
