"""A small document of tables and pictures that renders as one HTML file and as Markdown.

Knows no evaluation. Every text is escaped: questions and answers come from documents and models.
"""

import html
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MARKDOWN = re.compile(r"([\\`*_{}\[\]#!|~$])")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 64rem; margin: 2rem auto;
  padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: 14px }
th, td { border-bottom: 1px solid #d8dee6; padding: .35rem .7rem; text-align: left;
  vertical-align: top }
th { background: #f3f5f8 }
img { max-width: 100% }
.note { background: #fff4d6; border-left: 4px solid #e0a800; padding: .5rem 1rem }
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; cells are plain text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with its description."""

    alt: str
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A title, facts about what was examined, warnings, then tables and pictures in order."""

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    parts: Sequence[Table | Picture]

    def to_html(self) -> str:
        """One self-contained page: no script, nothing loaded from elsewhere."""
        notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in self.notes)
        facts = Table("", ("", ""), list(self.facts.items()))
        parts = "".join(_part_html(part) for part in (facts, *self.parts))
        title = html.escape(self.title)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{title}</title><style>{_STYLE}</style></head>"
            f"<body><h1>{title}</h1>{notes}{parts}</body></html>\n"
        )

    def to_markdown(self, *, pictures: bool = True) -> str:
        """The same as GitHub-flavoured Markdown; pictures as data URIs, or left out."""
        notes = [f"> **{escape_markdown(note)}**" for note in self.notes]
        facts = [f"- {escape_markdown(k)}: {escape_markdown(v)}" for k, v in self.facts.items()]
        parts = [_part_markdown(p) for p in self.parts if pictures or not isinstance(p, Picture)]
        blocks = [f"# {escape_markdown(self.title)}", *notes, "\n".join(facts), *parts]
        return "\n\n".join(block for block in blocks if block) + "\n"


def escape_markdown(text: str) -> str:
    """Text that renders as itself, on one line."""
    return html.escape(_MARKDOWN.sub(r"\\\1", " ".join(text.split())), quote=False)


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + b64encode(png).decode()


def _part_html(part: Table | Picture) -> str:
    if isinstance(part, Picture):
        return f'<p><img alt="{html.escape(part.alt)}" src="{_data_uri(part.png)}"></p>'
    title = f"<h2>{html.escape(part.title)}</h2>" if part.title else ""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in part.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in part.rows
    )
    return (
        f"{title}<table><tr>{head}</tr>{body}</table>"
        if any(part.header)
        else (f"{title}<table>{body}</table>")
    )


def _part_markdown(part: Table | Picture) -> str:
    if isinstance(part, Picture):
        return f"![{escape_markdown(part.alt)}]({_data_uri(part.png)})"
    lines = [part.header, ["---"] * len(part.header), *part.rows]
    cells = [
        [cell if at == 1 else escape_markdown(cell) for cell in line]
        for at, line in enumerate(lines)
    ]
    table = "\n".join("| " + " | ".join(line) + " |" for line in cells)
    return f"## {escape_markdown(part.title)}\n\n{table}"
