"""PDF to blocks: the text of each page, with headings by outline or size of letters, and tables."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from headwater.documents.formats.pdf_lines import Line, Page, Pieces, Table, by_outline, by_size
from headwater.documents.formats.pdf_tables import DAMAGE, Drawing, TableSearch
from headwater.documents.parsed import Block, Note, Rejected, damaged, fold

_SENTENCE_END = re.compile(r"[.!?:][\"')\]\u201d\u2019]?$")


def blocks(content: bytes, max_chars: int) -> tuple[str, list[Block | Note]]:
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
    tables = TableSearch()
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Rejected("encrypted_pdf", "a password is needed to read it")
        title = str((reader.metadata and reader.metadata.title) or "")
        if title.strip("() ").lower() in ("untitled", "anonymous", "unspecified"):
            title = ""  # what programs write where nobody gave one
        outline = _outline(reader)
        pages: list[Page] = []
        chars = 0
        for number, page in enumerate(reader.pages):
            pieces, drawing = Pieces(max_chars - chars), Drawing()
            text = page.extract_text(visitor_operand_before=drawing.see, visitor_text=pieces.see)
            chars += len(text)
            if chars > max_chars:
                raise Rejected("too_large", f"more than {max_chars:,} characters of text")
            pages.append([*pieces.lines(text)])
            if page.indirect_reference is not None:
                tables.note(number, page.indirect_reference.idnum, drawing, text)
    except (PyPdfError, *DAMAGE) as error:
        raise damaged("pdf", error) from error
    for number, read in tables.read(content).items():
        pages[number] = read
    found = list(_blocks(by_outline(pages, outline) or by_size(pages)))
    if not found:
        raise Rejected(
            "no_text", "its pages hold no text: give the pages of a scan as pictures (PNG, TIFF)"
        )
    return title, [*found, *tables.notes()]


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


def _blocks(pages: Sequence[Page]) -> Iterator[Block]:
    """The blocks of all pages; a table that goes on says its header once."""
    header = ""  # of the table that the page before ends with
    for page in pages:
        items = [*page]
        while items and _is_blank(items[0]):
            del items[0]
        while items and _is_blank(items[-1]):
            del items[-1]
        first, last = (items[0], items[-1]) if items else ((), ())
        if isinstance(first, tuple) and len(first) > 1 and first[0] == header:
            items[0] = first[1:]
        yield from _page_blocks(items)
        header = last[0] if isinstance(last, tuple) and len(last) > 1 else ""


def _is_blank(item: Line | Table) -> bool:
    return isinstance(item, Line) and not item.text


def _page_blocks(items: Page) -> Iterator[Block]:
    """Lines joined to paragraphs: one ends with a sentence on a line that is not full."""
    full = 0.8 * max((len(item.text) for item in items if isinstance(item, Line)), default=0)
    paragraph: list[str] = []
    for item in [*items, ()]:
        if paragraph and (isinstance(item, tuple) or item.level or not item.text):
            yield Block(" ".join(paragraph))
            paragraph = []
        if isinstance(item, tuple):
            yield from map(Block, item)
        elif item.level:
            yield Block(item.text, item.level)
        elif item.text:
            paragraph.append(item.text)
            if len(item.text) < full and _SENTENCE_END.search(item.text):
                yield Block(" ".join(paragraph))
                paragraph = []
