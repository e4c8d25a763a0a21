"""From a document's bytes to normalised text with headings, or a refusal with its reason.

Dispatches on the media type. Knows nothing about tables or chunks.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import PurePosixPath
from urllib.parse import unquote

from headwater.documents.decoding import decode
from headwater.documents.formats import (
    docx,
    epub,
    html,
    image,
    mail,
    markdown,
    notebook,
    pdf,
    pptx,
    rst,
    text,
)
from headwater.documents.parsed import Block, Note, Parsed, Rejected, assemble

PARSER_VERSION = "parse/4"
#: Of formats whose text has changed since: documents of no other format are parsed again for it.
_FORMAT_VERSIONS = {"application/pdf": "pdf/2"}
#: Why `parse` gives no text for a picture that it finds sound: `parse_by_program` is to read it.
NEEDS_PROGRAM = "needs_program"

#: The title that a document names, or "", and its blocks, with what is to be said of it.
Found = tuple[str, Iterable[Block | Note]]


def _plain(decoded: str) -> Found:
    return "", text.blocks(decoded)


#: Formats of bytes: they get the limit of characters and keep to it while they read.
_BINARY: dict[str, Callable[[bytes, int], Found]] = {
    "application/pdf": pdf.blocks,
    "application/epub+zip": epub.blocks,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": docx.blocks,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": pptx.blocks,
    "message/rfc822": mail.blocks,
}
#: Formats of text: what is longer than the limit is refused before it is read, but for markup.
_TEXT: dict[str, Callable[[str], Found]] = {
    "text/html": html.blocks,
    "text/markdown": markdown.blocks,
    "text/plain": _plain,
    "text/x-rst": rst.blocks,
    "application/x-ipynb+json": notebook.blocks,
}
#: Of these only a part is text.
_MARKUP = {"text/html", "application/x-ipynb+json"}
#: Bytes of a character at most: a line end of two characters, in UTF-32.
_MOST_BYTES = 8


def parse(content: bytes, media_type: str, uri: str, max_chars: int = 4 * 2**20) -> Parsed:
    """Parse one document, without starting a program.

    Args:
        content: the bytes as the source gave them.
        media_type: one of `headwater.documents.kinds.base.MEDIA_TYPES`.
        uri: names the document where it has no title of its own.
        max_chars: more text than this is refused.

    Raises:
        Rejected: `empty`, `undecodable`, `too_large`, `unsupported`, `needs_program`, and those of
            the formats.
    """
    if not content.strip(b"\0 \t\r\n\f\v"):
        raise Rejected("empty", f"the file holds no text ({len(content):,} bytes)")
    if media_type in image.MEDIA_TYPES:
        image.check(content)
        raise Rejected(NEEDS_PROGRAM, "it is read by a program beside Python")
    if media_type in _BINARY:
        title, blocks = _BINARY[media_type](content, max_chars)
    elif media_type in _TEXT:
        bounded = media_type not in _MARKUP
        if bounded and len(content) > _MOST_BYTES * max_chars:
            raise Rejected(
                "too_large", f"{len(content):,} bytes; {max_chars:,} characters are fewer"
            )
        decoded = decode(content, markup=media_type == "text/html")
        title, blocks = _TEXT[media_type](_bounded(decoded, max_chars) if bounded else decoded)
    else:
        raise Rejected("unsupported", f"no parser for {media_type}")
    return _assembled(title, blocks, uri, max_chars)


def parse_by_program(content: bytes, uri: str, max_chars: int) -> Parsed:
    """Parse a document that `parse` has found sound and in need of a program.

    Raises:
        Rejected: `empty`, and those of `image.recognise`.
    """
    return _assembled("", image.recognise(content, max_chars), uri, max_chars)


def format_versions() -> tuple[str, ...]:
    """Of formats that have one of their own, in order."""
    return tuple(sorted(_FORMAT_VERSIONS.values()))


def depends_on(media_type: str) -> tuple[str, ...]:
    """What a format's text depends on besides `PARSER_VERSION`; for most it is nothing."""
    version = _FORMAT_VERSIONS.get(media_type)
    return (*([version] if version else ()), *tools(media_type))


@cache
def tools(media_type: str) -> tuple[str, ...]:
    """Programs beside Python that a format's text depends on, with their versions; mostly none.

    They belong to the name of what is made, so that a document is tried again once a program is
    there, and read again by another version of it.
    """
    return (image.tool() or "no program",) if media_type in image.MEDIA_TYPES else ()


def programs() -> tuple[str, ...]:
    """Those of them that are there."""
    return tuple(program for program in (image.tool(),) if program)


def _assembled(title: str, blocks: Iterable[Block | Note], uri: str, max_chars: int) -> Parsed:
    parsed = assemble(blocks, title)
    if not parsed.text:
        raise Rejected("empty", "nothing is left after markup and unseen characters are removed")
    _bounded(parsed.text, max_chars)
    return parsed if parsed.title else replace(parsed, title=_stem(uri))


def _bounded(decoded: str, max_chars: int) -> str:
    if len(decoded) > max_chars:
        raise Rejected("too_large", f"{len(decoded):,} characters; the limit is {max_chars:,}")
    return decoded


def _stem(uri: str) -> str:
    return PurePosixPath(unquote(uri.rpartition("://")[2])).stem or uri
