"""Markdown (CommonMark and tables) to blocks: link targets, markup and front matter go.

Paragraphs are re-joined to one line, so that re-wrapping a file changes nothing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from headwater.documents.formats import html
from headwater.documents.parsed import Block, fold

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:(.*)$", re.MULTILINE)


def blocks(text: str) -> tuple[str, Iterator[Block]]:
    """The title that the front matter names, or "", and the blocks."""
    front = _FRONT_MATTER.match(text)
    if front is None:
        return "", _blocks(text)
    title = _TITLE.search(front[1])
    return (title[1].strip(" \t").strip("\"'") if title else ""), _blocks(text[front.end() :])


def _blocks(text: str) -> Iterator[Block]:
    from markdown_it import MarkdownIt

    level, bullets, row = 0, list[str](), list[str]()
    in_cell = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        match token.type:
            case "heading_open":
                level = int(token.tag[1])
            case "heading_close":
                level = 0
            case "list_item_open":
                bullets.append(f"{token.info}{token.markup}" if token.info else "-")
            case "th_open" | "td_open":
                in_cell = True
            case "tr_close":
                yield Block(" | ".join(row))
                row, in_cell = [], False
            case "inline":
                line = _inline(token.children or [])
                if in_cell:
                    row.append(line)
                elif bullets and bullets[-1]:
                    yield Block(f"{'  ' * (len(bullets) - 1)}{bullets[-1]} {line}")
                    bullets[-1] = ""
                elif line:
                    yield Block(line, level)
            case "list_item_close":
                bullets.pop()
            case "fence" | "code_block":
                yield Block(token.content)
            case "html_block":
                yield from html.blocks(token.content)[1]


def _inline(tokens: "Sequence[Token]") -> str:
    parts = []
    for token in tokens:
        match token.type:
            case "text" | "text_special":
                parts.append(token.content)
            case "code_inline":
                parts.append(f"`{token.content}`")
            case "image":
                parts.append(token.content)  # its alternative text
            case "softbreak" | "hardbreak":
                parts.append(" ")
    return fold("".join(parts))
