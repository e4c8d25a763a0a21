"""Word documents to blocks: paragraphs, headings by style or outline level, lists and tables.

Deleted, moved and hidden text is left out, as are headers, footers, notes and comments.
"""

import io
from collections.abc import Iterator
from typing import Any

from headwater.documents.formats import zipped
from headwater.documents.parsed import Block, Rejected, damaged, fold

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
#: A reader does not see what is below these: moved away, properties, and the copy of a drawing
#: for programs that cannot show it.
_UNSEEN = {f"{_W}del", f"{_W}moveFrom", f"{_W}pPr", f"{_W}sectPr", _FALLBACK}
#: What paragraphs, rows and cells may lie in besides their parent.
_WRAPPERS = {f"{_W}sdt", f"{_W}sdtContent", f"{_W}customXml", f"{_W}ins"}
_BREAKS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_OFF = {"0", "false", "off"}


def blocks(content: bytes, max_chars: int) -> tuple[str, list[Block]]:
    """The title that the properties name, or "", and the blocks.

    Raises:
        Rejected: `encrypted_docx`, `damaged_docx`, `zip_bomb`, `xml_entities`, `too_large`.
    """
    import docx
    from docx.opc.exceptions import OpcError
    from lxml import etree

    with zipped.open_bounded(content, "docx") as archive:
        zipped.refuse_entities(archive)
    try:
        document = docx.Document(io.BytesIO(content))
        levels = _style_levels(document.styles.element)
        found, chars = [], 0
        for block in _body(document.element.body, levels):
            chars += len(block.text)
            if chars > max_chars:
                raise Rejected("too_large", f"more than {max_chars:,} characters of text")
            found.append(block)
        return document.core_properties.title or "", found
    except (OpcError, etree.XMLSyntaxError, *zipped.OFFICE_DAMAGE) as error:
        raise damaged("docx", error) from error


def _style_levels(styles: Any) -> dict[str, int]:
    """Heading level of each paragraph style that has one, its own or an ancestor's."""
    own, parents = dict[str, int](), dict[str, str]()
    for style in styles.iter(f"{_W}style"):
        name = style.get(f"{_W}styleId") or ""
        level = _named_level(_value(style.find(f"{_W}name"))) or _outline_level(style)
        if level:
            own[name] = level
        parents[name] = _value(style.find(f"{_W}basedOn"))
    levels = {}
    for name in parents:
        at, seen = name, set[str]()
        while at not in own and at in parents and at not in seen:
            seen.add(at)
            at = parents[at]
        if at in own:
            levels[name] = own[at]
    return levels


def _named_level(name: str) -> int:
    """Programs in every language write the built-in styles' English names."""
    name = name.lower()
    if name == "title":
        return 1
    number = name.removeprefix("heading ")
    return int(number) if number != name and number in set("123456789") else 0


def _outline_level(owner: Any) -> int:
    """1 to 9 where a style or paragraph says so; the value 9 of the file is body text."""
    value = _value(owner.find(f"{_W}pPr/{_W}outlineLvl"))
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else 0


def _value(element: Any) -> str:
    return "" if element is None else str(element.get(f"{_W}val") or "")


def _body(parent: Any, levels: dict[str, int]) -> Iterator[Block]:
    for element in _children(parent, f"{_W}p", f"{_W}tbl"):
        if element.tag == f"{_W}p":
            yield _paragraph(element, levels)
            continue
        for row in _children(element, f"{_W}tr"):
            # A table within a cell is that cell's text.
            cells = [fold(_text(cell)) for cell in _children(row, f"{_W}tc")]
            yield Block(" | ".join(cell for cell in cells if cell))


def _children(parent: Any, *tags: str) -> Iterator[Any]:
    """Children of a kind in order; also those in content controls and inserted ones."""
    for element in parent:
        if element.tag in tags:
            yield element
        elif element.tag in _WRAPPERS:
            yield from _children(element, *tags)


def _paragraph(element: Any, levels: dict[str, int]) -> Block:
    text = fold(_text(element))
    style = _value(element.find(f"{_W}pPr/{_W}pStyle"))
    level = _outline_level(element) or levels.get(style, 0)
    if level:
        return Block(text, level)
    numbered = element.find(f"{_W}pPr/{_W}numPr")
    if text and (numbered is not None or style.lower().startswith("list")):
        depth = "" if numbered is None else _value(numbered.find(f"{_W}ilvl"))
        indent = "  " * min(int(depth), 8) if depth.isdecimal() else ""
        return Block(f"{indent}- {text}")
    return Block(text)


def _text(element: Any) -> str:
    """The text below an element that a reader sees."""
    parts: list[str] = []

    def visit(node: Any) -> None:
        for child in node:
            if child.tag in _UNSEEN or (child.tag == f"{_W}r" and _is_hidden(child)):
                continue
            if child.tag == f"{_W}t":
                parts.append(child.text or "")
            elif child.tag in _BREAKS:
                parts.append(_BREAKS[child.tag])
            else:
                visit(child)
                if child.tag in (f"{_W}p", f"{_W}tc"):
                    parts.append("\n")  # of a cell, or of a box in the paragraph

    visit(element)
    return "".join(parts)


def _is_hidden(run: Any) -> bool:
    hidden = run.find(f"{_W}rPr/{_W}vanish")
    return hidden is not None and _value(hidden).lower() not in _OFF
