"""Folders as the engine leaves them: 165 MB of files that hold 4 MB of data and are holes else.

Holes are neither read, hashed nor copied, which makes opening a small index 20 times faster.
"""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK = 65_536
#: Files that are read at once.
THREADS = 2


def folder_digests(folder: Path) -> dict[str, str]:
    """Digest of every file, by its path within the folder.

    The digest is SHA-256 over the file's size and each block that is not all zeros, with its
    offset; it does not depend on where the file system keeps holes.
    """
    return _digests(folder, None)


def copy_folder(source: Path, target: Path) -> dict[str, str]:
    """Copy a folder and return the digests of what was copied, as `folder_digests` does."""
    return _digests(source, target)


def age(path: Path) -> float:
    """Seconds since a path was last changed; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _digests(folder: Path, copies: Path | None) -> dict[str, str]:
    """Digest of each file of a folder, by its path within it; they are copied where a place is given."""

    def digest(path: Path) -> str:
        copy = None
        if copies is not None:
            copy = copies / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
        return _digest(path, copy)

    files = _files(folder)
    # The largest first, so that no thread is left with one.
    by_size = sorted(files, key=lambda each: -each[1].stat().st_size)
    with ThreadPoolExecutor(THREADS, "hashing") as threads:
        found = dict(zip(by_size, threads.map(digest, (path for _, path in by_size)), strict=True))
    return {each[0]: found[each] for each in files}


def _files(folder: Path) -> list[tuple[str, Path]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in paths]


def _digest(path: Path, copy: Path | None) -> str:
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
    zeros, offset = bytes(BLOCK), 0
    with path.open("rb", buffering=0) as file:
        while True:
            try:
                data = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole, or the end, follows
                    return
                raise
            offset = data - data % BLOCK
            block = os.pread(file.fileno(), BLOCK, offset)
            if block != zeros[: len(block)]:
                yield offset, block
            offset += BLOCK
