"""Mail archives as sources: the messages of an mbox file or a Maildir, one document each.

A document's URI is made of its Message-ID. Knows nothing about what a message says.
"""

import mailbox
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headwater.documents.kinds.base import (
    Entry,
    Part,
    ReadError,
    Remembered,
    base_uri,
    quote,
    status_of,
)
from headwater.errors import HeadwaterError
from headwater.records import SourceItem, digest_bytes, short

_MEDIA_TYPE = "message/rfc822"
_ID = re.compile(r"^<?\s*([^<>\s]{1,400})\s*>?$")
_remembered = Remembered()


class MailSource(Entry):
    """An mbox file, or a Maildir (a folder with `cur` and `new`) with its subfolders."""

    kind: Literal["mail"] = "mail"
    path: Path = Field(description="An mbox file or a Maildir.")


def is_maildir(path: Path) -> bool:
    """Whether a folder is laid out as a Maildir."""
    return (path / "cur").is_dir() and (path / "new").is_dir()


def list_messages(source: MailSource) -> list[SourceItem]:
    """An item for each message; the etag is the digest of its bytes. A message of a Maildir, whose file
    never changes, is read once for its name and size.

    A message that is there twice, byte by byte, is one. Another one with an id that is taken has
    its digest in its URI.

    Raises:
        HeadwaterError: the archive is not there, or is none.
    """
    made_of = (source.model_dump_json(), status_of(_parts(source)))
    return _remembered.listing(source.name, made_of, lambda: list(_list(source).values()))


def forget(source: MailSource) -> None:
    """Hold the listing in memory no more; the next one is made from what is on the disk."""
    _remembered.forget(source.name)


def read_messages(
    source: MailSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items, each found by the place that the listing noted."""
    with _opened(source) as boxes:
        for item in items:
            if item.size > max_bytes:
                detail = f"{item.size:,} bytes; the limit is {max_bytes:,}"
                yield item, ReadError("too_large", detail)
                continue
            folder, _, key = item.locator.partition("\0")
            content = _bytes(boxes.get(folder), key)
            if content is None or digest_bytes(content) != item.etag:
                yield item, ReadError("missing", "the message vanished after it was listed")
            else:
                yield item, content


def _list(source: MailSource) -> dict[str, SourceItem]:
    with _opened(source) as boxes:
        if source.path.is_dir():
            made_of: dict[str, object] = {
                f"{folder}\0{key}": (source.name, folder, key, size)
                for folder, box in boxes.items()
                for key, size in _files(source, folder, box)
            }
        else:
            made_of = {"": (source.name, status_of([source.path]))}

        def make(label: str, was: Part | None) -> tuple[list[SourceItem], bytes]:
            folder, _, key = label.partition("\0")
            keys = [key] if key else [str(each) for each in sorted(boxes[folder].keys())]
            found = (_item(source, f"{folder}\0{key}", _bytes(boxes[folder], key)) for key in keys)
            return [item for item in found if item is not None], b""

        parts = _remembered.parts(source.name, made_of, make)
    items: dict[str, SourceItem] = {}
    for item in (each for part in parts.values() for each in part):
        uri = item.uri
        if uri in items and items[uri].etag != item.etag:
            uri = f"{uri}?copy={short(item.etag)}"
        items.setdefault(uri, item._replace(uri=uri))
    return items


def _item(source: MailSource, locator: str, content: bytes | None) -> SourceItem | None:
    """The item of a message by itself; None of one that was moved while we were listing."""
    if content is None:
        return None
    digest = digest_bytes(content)
    return SourceItem(
        uri=base_uri(source.name) + quote(_message_id(content, digest).encode()),
        source=source.name,
        size=len(content),
        etag=digest,
        media_type=_MEDIA_TYPE,
        locator=locator,
    )


def _message_id(content: bytes, digest: str) -> str:
    """The Message-ID without its brackets; the digest of a message without a sound one."""
    headers = BytesHeaderParser().parsebytes(content[: 2**18])
    match = _ID.match(str(headers.get("Message-ID", "")).strip())
    return match[1].encode("utf-8", "replace").decode() if match else f"digest-{short(digest)}"


@contextmanager
def _opened(source: MailSource) -> Iterator[dict[str, Any]]:
    """The archive's boxes by folder; that of an mbox, and the outer one of a Maildir, is ""."""
    if not source.path.is_dir():
        _check(source)
        with closing(mailbox.mbox(source.path, create=False)) as box:
            yield {"": box}
        return
    _check(source)
    outer = mailbox.Maildir(source.path, create=False)
    names = [name for name in sorted(outer.list_folders()) if is_maildir(source.path / f".{name}")]
    yield {"": outer, **{name: outer.get_folder(name) for name in names}}


def _files(source: MailSource, folder: str, box: Any) -> list[tuple[str, int]]:
    """Keys of a Maildir's messages with the sizes of their files, in order of the keys.

    Links are left out: they may lead out of the archive.
    """
    place = source.path / f".{folder}" if folder else source.path
    sizes: dict[str, int] = {}
    for name in ("cur", "new"):
        with os.scandir(place / name) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    try:
                        size = entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue  # moved while we were listing
                    sizes[entry.name.partition(":")[0]] = size
    return sorted((key, sizes[key]) for key in sizes.keys() & set(box.keys()))


def _bytes(box: Any, key: str) -> bytes | None:
    """A message with `\\n` line ends and without the line that begins it in an mbox."""
    if box is None:
        return None
    try:
        found: bytes = box.get_bytes(int(key) if isinstance(box, mailbox.mbox) else key)
    except (KeyError, FileNotFoundError):
        return None
    return found


def _parts(source: MailSource) -> list[Path]:
    """What changes when the archive does: a folder's time tells what came and went."""
    _check(source)
    if not source.path.is_dir():
        return [source.path]
    folders = [source.path, *sorted(path for path in source.path.glob(".*") if path.is_dir())]
    return [folder / name for folder in folders for name in ("cur", "new")]


def _check(source: MailSource) -> None:
    if source.path.is_file():
        with source.path.open("rb") as file:
            start = file.read(5)
        if start in (b"From ", b""):
            return
        what = f"The source {source.name!r} is no mbox file: {source.path} does not begin with 'From '."
    elif source.path.is_dir() and is_maildir(source.path):
        return
    else:
        what = f"The source {source.name!r} is not there: {source.path} is no mbox file or Maildir."
    raise HeadwaterError(what, mend=f"Restore it, or run `headwater sources remove {source.name}`.")
