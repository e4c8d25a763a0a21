"""From a document's bytes to normalised text with headings, or a refusal with its reason.

Dispatches on the media type; decodes text. Knows nothing about tables or chunks.
"""

import codecs
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote

from headwater.documents.formats import html, markdown, pdf, text
from headwater.documents.parsed import Block, Parsed, Rejected, assemble

PARSER_VERSION = "parse/2"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.I)
#: More unreadable characters than this share, and the file is no text.
_MAX_UNREADABLE = 0.1
#: What a text never holds: the mark of a failed decoding, and controls but for space and escape.
_UNREADABLE = "\ufffd" + "".join(chr(code) for code in (*range(9), *range(14, 27), *range(28, 32)))


def parse(content: bytes, media_type: str, uri: str, max_chars: int = 4 * 2**20) -> Parsed:
    """Parse one document.

    Args:
        content: the bytes as the source gave them.
        media_type: one of `headwater.documents.sources.MEDIA_TYPES`.
        uri: names the document where it has no title of its own.
        max_chars: more text than this is refused.

    Raises:
        Rejected: `empty`, `undecodable`, `too_large`, `unsupported`, and those of the formats.
    """
    if not content.strip(b"\0 \t\r\n\f\v"):
        raise Rejected("empty", f"the file holds no text ({len(content):,} bytes)")
    title = ""
    blocks: Iterable[Block]
    if media_type == "application/pdf":
        title, blocks = pdf.blocks(content, max_chars)
    else:
        decoded = decode(content, markup=media_type == "text/html")
        if media_type == "text/html":
            title, blocks = html.blocks(decoded)
        elif media_type == "text/markdown":
            title, blocks = markdown.blocks(_bounded(decoded, max_chars))
        elif media_type == "text/plain":
            blocks = text.blocks(_bounded(decoded, max_chars))
        else:
            raise Rejected("unsupported", f"no parser for {media_type}")
    parsed = assemble(blocks, title)
    if not parsed.text:
        raise Rejected("empty", "nothing is left after markup and unseen characters are removed")
    _bounded(parsed.text, max_chars)
    if parsed.title:
        return parsed
    return Parsed(title=_stem(uri), text=parsed.text, headings=parsed.headings)


def decode(content: bytes, *, markup: bool = False) -> str:
    """Text of bytes in an unnamed encoding, line ends as `\\n`.

    A byte order mark decides, then UTF-8, then what the markup declares. Else the text is mixed
    or of an old 8-bit encoding: broken UTF-8 is repaired with U+FFFD where most of it is sound,
    everything else is read as Windows-1252.

    Raises:
        Rejected: `undecodable`: more than a tenth would be unreadable.
    """
    decoded = _decode(content, markup)
    unreadable = sum(decoded.count(char) for char in _UNREADABLE)
    if unreadable > _MAX_UNREADABLE * len(decoded):
        share = f"{unreadable / len(decoded):.0%}"
        raise Rejected("undecodable", f"{share} of its characters are unreadable in any encoding")
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def _decode(content: bytes, markup: bool) -> str:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    declared = _CHARSET.search(content[:4096]) if markup else None
    if declared is not None:
        try:
            return content.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass  # an unknown or a wrong declaration: as if there were none
    repaired = content.decode("utf-8", "replace")
    sound = sum(1 for char in repaired if char > "\x7f" and char != "\ufffd")
    if sound > repaired.count("\ufffd"):
        return repaired
    return content.decode("cp1252", "replace")


def _bounded(decoded: str, max_chars: int) -> str:
    if len(decoded) > max_chars:
        raise Rejected("too_large", f"{len(decoded):,} characters; the limit is {max_chars:,}")
    return decoded


def _stem(uri: str) -> str:
    return PurePosixPath(unquote(uri.rpartition("://")[2])).stem or uri
