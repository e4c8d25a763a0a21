"""Mail archives as sources: the messages of an mbox file or a Maildir, one document each.

A document's URI is made of its Message-ID. Knows nothing about what a message says.
"""

import mailbox
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headwater.documents.kinds.base import (
    Entry,
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
    """An item for each message; the etag is the digest of its bytes.

    A message that is there twice, byte by byte, is one. Another one with an id that is taken has
    its digest in its URI.

    Raises:
        HeadwaterError: the archive is not there, or is none.
    """
    made_of = (source.model_dump_json(), status_of(_parts(source)))
    return _remembered.listing(source.name, made_of, lambda: list(_list(source).values()))


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
    items: dict[str, SourceItem] = {}
    with _opened(source) as boxes:
        for folder, box in boxes.items():
            linked = _links(source, folder)
            for key in sorted(box.keys()):
                if key in linked:
                    continue
                content = _bytes(box, str(key))
                if content is None:
                    continue  # moved while we were listing
                digest = digest_bytes(content)
                uri = base_uri(source.name) + quote(_message_id(content, digest).encode())
                if uri in items and items[uri].etag != digest:
                    uri = f"{uri}?copy={short(digest)}"
                items.setdefault(
                    uri,
                    SourceItem(
                        uri=uri,
                        source=source.name,
                        size=len(content),
                        etag=digest,
                        media_type=_MEDIA_TYPE,
                        locator=f"{folder}\0{key}",
                    ),
                )
    return items


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


def _links(source: MailSource, folder: str) -> set[str]:
    """Keys of messages that are links: they may lead out of the archive."""
    if not source.path.is_dir():
        return set()
    place = source.path / f".{folder}" if folder else source.path
    files = [path for name in ("cur", "new") for path in (place / name).iterdir()]
    return {path.name.partition(":")[0] for path in files if path.is_symlink()}


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
