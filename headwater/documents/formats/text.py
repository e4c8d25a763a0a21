"""Plain text: paragraphs, underlined headings, and signatures with an indented description.

The headings are those of reStructuredText's text output, as in the documentation that Python
packages carry: a line underlined with one repeated character, levels in order of appearance. A
signature (`str.split(sep)`) followed by an indented body starts a section below them.
"""

import re
from collections.abc import Iterator

from headwater.documents.parsed import Block

_UNDERLINE = re.compile(r"([=\-~^*#\"'`+.:_])\1{2,}")
#: Borders of drawn tables and transitions: they say nothing, and each sign is a token.
_RULE = re.compile(r"[\s+|=\-_*~#.]{4,}")
_SIGNATURE = re.compile(
    r"(?:class |async |def |exception |@)?[A-Za-z_](?:[\w.]*\s?[(\[].*|\w*\.[\w.]+)"
)
#: Longer lines are prose.
_MAX_LINE = 200
_MAX_NAME = 80


def blocks(text: str) -> Iterator[Block]:
    """Blocks of plain text with `\\n` line ends."""
    levels: dict[tuple[str, bool], int] = {}
    section = Block("")  # the underlined heading that the text is in
    described = False  # inside the indented body of a signature
    for paragraph, indented_next in _paragraphs(text.split("\n")):
        underlined = _underlined(paragraph)
        if underlined is not None:
            title, style, rest = underlined
            section = Block(title, levels.setdefault(style, len(levels) + 1))
            described = False
            yield section
            yield Block("\n".join(rest))
        elif indented_next and all(_is_signature(line) for line in paragraph):
            described = True
            together = " ".join(paragraph)
            heading = together if len(together) <= _MAX_NAME else paragraph[0]
            yield Block("\n".join(paragraph), max(section.level, 1) + 1, heading)
        else:
            body = "\n".join(line for line in paragraph if not _is_rule(line))
            if described and body and not body[0].isspace():
                described = False
                yield Block(body, section.level, section.text)
            else:
                yield Block(body)


def _paragraphs(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Runs of lines between blank ones, and whether the run that follows is indented."""
    runs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            runs[-1].append(line.rstrip())
        elif runs[-1]:
            runs.append([])
    for run, following in zip(runs, [*runs[1:], []], strict=True):
        if run:
            yield run, bool(following) and following[0][0].isspace() and not run[0][0].isspace()


def _underlined(lines: list[str]) -> tuple[str, tuple[str, bool], list[str]] | None:
    """Title, style and the lines after it, where a paragraph starts with an underlined heading."""
    over = len(lines) >= 3 and _is_rule(lines[0])
    title, rest = (lines[1], lines[2:]) if over else (lines[0], lines[1:])
    if not rest or len(title) > _MAX_LINE or title[0].isspace() > over or _is_rule(title):
        return None
    match = _UNDERLINE.fullmatch(rest[0])
    if match is None or len(rest[0]) < len(title.strip()) or (over and lines[0] != rest[0]):
        return None
    return title.strip(), (match[1], over), rest[1:]


def _is_signature(line: str) -> bool:
    return (
        len(line) <= _MAX_LINE and line[-1] not in ".:,;" and _SIGNATURE.fullmatch(line) is not None
    )


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch(line) is not None
