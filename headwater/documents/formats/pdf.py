"""PDF to blocks: the text of each page, with the headings that the outline names."""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from headwater.documents.parsed import Block, Rejected, damaged, fold

#: What pypdf raises on broken files besides its own errors: it reads objects as Python values.
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, OSError,
    RecursionError, struct.error, TypeError, ValueError, zlib.error,
)  # fmt: skip
_SENTENCE_END = re.compile(r"[.!?:][\"')\]\u201d\u2019]?$")


def blocks(content: bytes, max_chars: int) -> tuple[str, list[Block]]:
    """The title that the metadata names, or "", and the blocks.

    Raises:
        Rejected: `truncated_pdf`, `encrypted_pdf`, `damaged_pdf`, `no_text`, `too_large`.
    """
    import pypdf
    from pypdf.errors import PyPdfError

    if b"%PDF-" not in content[:1024]:
        raise Rejected("damaged_pdf", "the file does not begin as a PDF does")
    if b"%%EOF" not in content[-2048:]:
        raise Rejected("truncated_pdf", "the file ends before the end mark of a PDF")
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Rejected("encrypted_pdf", "a password is needed to read it")
        title = str((reader.metadata and reader.metadata.title) or "")
        if title.strip("() ").lower() in ("untitled", "anonymous", "unspecified"):
            title = ""  # what programs write where nobody gave one
        outline = _outline(reader)
        found: list[Block] = []
        chars = 0
        for number, page in enumerate(reader.pages):
            text = page.extract_text()
            chars += len(text)
            if chars > max_chars:
                raise Rejected("too_large", f"more than {max_chars:,} characters of text")
            found += _page_blocks(text, outline.get(number, {}))
    except (PyPdfError, *_DAMAGE) as error:
        raise damaged("pdf", error) from error
    if not found:
        raise Rejected(
            "no_text", "its pages hold no text: give the pages of a scan as pictures (PNG, TIFF)"
        )
    return title, found


def _outline(reader: Any) -> dict[int, dict[str, int]]:
    """For each page the titles that the outline places on it, folded, with their levels."""
    pages: dict[int, dict[str, int]] = {}

    def visit(entries: list[Any], level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                visit(entry, level + 1)
            elif (number := reader.get_destination_page_number(entry)) is not None:
                pages.setdefault(number, {})[fold(str(entry.title)).lower()] = min(level, 6)

    visit(reader.outline, 1)
    return pages


def _page_blocks(text: str, headings: dict[str, int]) -> Iterator[Block]:
    """Lines joined to paragraphs: one ends with a sentence on a line that is not full."""
    lines = [fold(line) for line in text.split("\n")]
    full = 0.8 * max((len(line) for line in lines), default=0)
    paragraph: list[str] = []
    for line in [*lines, ""]:
        level = headings.get(line.lower(), 0)
        if paragraph and (not line or level):
            yield Block(" ".join(paragraph))
            paragraph = []
        if level:
            yield Block(line, level)
        elif line:
            paragraph.append(line)
            if len(line) < full and _SENTENCE_END.search(line):
                yield Block(" ".join(paragraph))
                paragraph = []
