"""Text of bytes in an unnamed encoding. Knows nothing about formats but a page's own declaration."""

import codecs
import re

from headwater.documents.parsed import Rejected

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
