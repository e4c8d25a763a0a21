"""Folders as the engine leaves them: 165 MB of files that hold 4 MB of data and are holes else.

Holes are neither read, hashed nor copied, which makes opening a small index 20 times faster.
"""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

#: Bytes that are hashed as one where they are not all zeros, and that are read at a time.
BLOCK, _READ = 65_536, 2**20
#: Files that are read at once.
THREADS = 2


log = logging.getLogger("headwater")

#: What tells that nobody has written to a file since: its number, its size, the time of its last change.
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of a folder: digests of its files, which of them are the source's own, as they were, and
    which of these were not read.
    """

    digests: dict[str, str]
    shared: dict[str, Stamp]
    unread: frozenset[str] = frozenset()

    def unchanged(self, folder: Path) -> dict[str, str]:
        """Digests of the shared files that nobody has written since."""
        return {
            name: self.digests[name]
            for name, before in self.shared.items()
            if stamp(folder / name) == before
        }


def stamp(path: Path) -> Stamp | None:
    """What is kept of a file to see later that it is as it was; None where there is none."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


def distrust(path: Path) -> None:
    """Change a file's stamp, so that it is read wherever it would have been believed.

    Its links have the same stamp: it is one file. Who may only read the file cannot; whoever opens what
    is built upon it finds what it is, as here.
    """
    try:
        os.utime(path)
    except FileNotFoundError:
        return
    except PermissionError as error:
        log.warning("%s is damaged, and cannot be marked so: %s", path, error.strerror)


def folder_digests(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Digest of every file, by its path within the folder.

    The digest is SHA-256 over the file's size and each block that is not all zeros, with its
    offset; it does not depend on where the file system keeps holes.

    Args:
        known: of files that need not be read.
    """
    files = {name: path for name, path in _files(folder).items() if name not in known}
    found = _each(_digest, files)
    return {name: known.get(name) or found[name] for name in _files(folder)}


def copy_folder(
    source: Path,
    target: Path,
    is_shared: Callable[[str], bool] = lambda name: False,
    believed: Mapping[str, str] = MappingProxyType({}),
) -> Copied:
    """Copy a folder, and take the digests of what was copied, as `folder_digests` does.

    Args:
        is_shared: whether a file, by its path within the folder, is never written again, so that the
            copy may be a link to it. On a file system without links it is copied.
        believed: digests of files that need not be read where they are linked.
    """
    files, shared = _files(source), dict[str, Stamp]()

    def copy(path: Path) -> str:
        name = path.relative_to(source).as_posix()
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_shared(name) and _linked(path, place):
            linked = stamp(place)
            assert linked is not None  # it was made just now
            shared[name] = linked
            return believed.get(name) or _digest(place)
        return _digest(path, place)

    return Copied(_each(copy, files), shared, frozenset(shared.keys() & believed.keys()))


def _linked(path: Path, place: Path) -> bool:
    try:
        place.hardlink_to(path)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            return False
        raise
    return True


def age(path: Path) -> float:
    """Seconds since a path was last changed; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _each(function: Callable[[Path], str], files: Mapping[str, Path]) -> dict[str, str]:
    """What a function says of each file, some at a time."""
    # The largest first, so that no thread is left with one.
    by_size = sorted(files, key=lambda name: -files[name].stat().st_size)
    with ThreadPoolExecutor(THREADS, "hashing") as threads:
        found = threads.map(function, (files[name] for name in by_size))
        said = dict(zip(by_size, found, strict=True))
    return {name: said[name] for name in files}


def _files(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _digest(path: Path, copy: Path | None = None) -> str:
    """Digest of a file, which is copied at the same time where a place is given."""
    size = path.stat().st_size
    digest = hashlib.sha256(size.to_bytes(8))
    target = None if copy is None else copy.open("wb")
    try:
        for offset, block in _blocks(path):
            digest.update(offset.to_bytes(8))
            digest.update(block)
            if target is not None:
                target.seek(offset)
                target.write(block)
        if target is not None:
            target.truncate(size)
    finally:
        if target is not None:
            target.close()
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each aligned block that is not all zeros."""
    zeros = bytes(BLOCK)
    with path.open("rb", buffering=0) as file:
        for start, end in _extents(file.fileno()):
            for offset in range(start, end, _READ):
                data = os.pread(file.fileno(), min(_READ, end - offset), offset)
                for at in range(0, len(data), BLOCK):
                    block = data[at : at + BLOCK]
                    if block != zeros[: len(block)]:
                        yield offset + at, block


def _extents(file: int) -> Iterator[tuple[int, int]]:
    """Where a file holds data: from block to block."""
    end = 0
    while True:
        try:
            data = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole, or the end, follows
                return
            raise
        # A block may be data at its end alone, and a hole within it ends none.
        start, hole = data - data % BLOCK, os.lseek(file, data, os.SEEK_HOLE)
        end = -(-hole // BLOCK) * BLOCK
        yield start, end
