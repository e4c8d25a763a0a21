"""Jupyter notebooks to blocks: text cells as Markdown and code as it is; outputs are left out."""

import json
from collections.abc import Iterator
from typing import Any

from headwater.documents.formats import markdown
from headwater.documents.parsed import Block, Rejected


def blocks(text: str) -> tuple[str, list[Block]]:
    """No title (the first heading gives it), and the blocks.

    Raises:
        Rejected: `damaged_notebook`, `too_deep`.
    """
    try:
        notebook = json.loads(text)
    except RecursionError as error:
        raise Rejected("too_deep", "its values are nested too deep") from error
    except ValueError as error:
        raise Rejected("damaged_notebook", f"it is no JSON: {error}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Rejected("damaged_notebook", "it has no list of cells (notebooks of version 4 do)")
    return "", [block for cell in cells for block in _cell(cell)]


def _cell(cell: Any) -> Iterator[Block]:
    source = cell.get("source", "") if isinstance(cell, dict) else ""
    lines = source if isinstance(source, list) else [source]
    text = "".join(line for line in lines if isinstance(line, str))
    if not text.strip():
        return
    if cell.get("cell_type") == "markdown":
        yield from markdown.blocks(text)[1]
    elif cell.get("cell_type") == "code":
        yield Block(text)
