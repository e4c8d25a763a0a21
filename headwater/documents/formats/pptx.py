"""PowerPoint presentations to blocks: a section a slide, its text, tables and speaker notes.

Hidden slides and shapes are left out; pictures, charts and footers too.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from headwater.documents.formats import zipped
from headwater.documents.parsed import Block, Rejected, damaged, fold


def blocks(content: bytes, max_chars: int) -> tuple[str, list[Block]]:
    """The title that the properties name, or "", and the blocks.

    Raises:
        Rejected: `encrypted_pptx`, `damaged_pptx`, `zip_bomb`, `xml_entities`, `too_large`.
    """
    import pptx
    from lxml import etree
    from pptx.exc import PythonPptxError

    with zipped.open_bounded(content, "pptx") as archive:
        zipped.refuse_entities(archive)
    try:
        presentation = pptx.Presentation(io.BytesIO(content))
        found, chars = [], 0
        for slide in presentation.slides:
            if slide.element.get("show") in ("0", "false"):
                continue
            for block in _slide(slide):
                chars += len(block.text)
                if chars > max_chars:
                    raise Rejected("too_large", f"more than {max_chars:,} characters of text")
                found.append(block)
        title = presentation.core_properties.title or ""
    except (PythonPptxError, etree.XMLSyntaxError, *zipped.OFFICE_DAMAGE) as error:
        raise damaged("pptx", error) from error
    # The template of the program, and of python-pptx, is called so.
    return ("" if title.lower() == "powerpoint presentation" else title), found


def _slide(slide: Any) -> Iterator[Block]:
    title = slide.shapes.title
    if title is not None and not _is_hidden(title):
        yield Block(fold(title.text_frame.text), 1)
    yield from _shapes(slide.shapes, None if title is None else title.shape_id)
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
        for paragraph in notes.paragraphs:
            yield Block(fold(paragraph.text))


def _shapes(shapes: Iterable[Any], title: int | None) -> Iterator[Block]:
    from pptx.enum.shapes import PP_PLACEHOLDER

    repeated = {PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.SLIDE_NUMBER}
    for shape in shapes:
        if shape.shape_id == title or _is_hidden(shape):
            continue
        if shape.is_placeholder and shape.placeholder_format.type in repeated:
            continue
        if hasattr(shape, "shapes"):  # a group
            yield from _shapes(shape.shapes, title)
        elif shape.has_text_frame:
            yield from _paragraphs(shape)
        elif shape.has_table:
            for row in shape.table.rows:
                cells = [fold(cell.text_frame.text) for cell in row.cells if not cell.is_spanned]
                yield Block(" | ".join(cell for cell in cells if cell))


def _paragraphs(shape: Any) -> Iterator[Block]:
    paragraphs = [each for each in shape.text_frame.paragraphs if fold(each.text)]
    listed = shape.is_placeholder and len(paragraphs) > 1
    for paragraph in paragraphs:
        text = fold(paragraph.text)
        yield Block(f"{'  ' * paragraph.level}- {text}" if listed or paragraph.level else text)


def _is_hidden(shape: Any) -> bool:
    return any(
        each.get("hidden") in ("1", "true") for each in shape.element.xpath(".//p:cNvPr")[:1]
    )
