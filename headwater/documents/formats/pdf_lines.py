"""Lines of a PDF's text with the size of their letters, and which of them are headings by it.

Knows what pypdf tells a visitor of the text; no outline, no tables and no paragraphs.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from headwater.documents.parsed import fold

#: Rows of a table, cells joined; the first may be a header.
Table = tuple[str, ...]
#: A heading's letters are so many times as large as the body's, and by so many points.
_LARGER, _POINTS_LARGER = 1.08, 0.9
#: Longer is prose in large letters: characters of a heading, and lines that it runs over.
_MOST_CHARS, _MOST_LINES = 120, 3
#: A heading's line goes on in the next one where it fills so much of the page's width.
_FULL = 0.5
#: A line that ends so is a part of a text.
_GOES_ON = (".", ",", ";")
#: A line on so many pages, and on more than half of all, is printed at the edge of each.
_RUNNING = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, folded; `level` is not 0 where it is a heading."""

    text: str
    size: float = 0.0  # of its longest run's letters in points; 0 where that is not known
    level: int = 0


#: What a page holds, in reading order.
Page = list[Line | Table]


class Pieces:
    """The text of a page as pypdf meets it, piece by piece; `see` is a visitor of its texts.

    Args:
        most: of more characters than these none is kept.
    """

    def __init__(self, most: int) -> None:
        self._found: list[tuple[str, float]] = []
        self._left = most

    def see(self, text: str, matrix: Any, text_matrix: Any, _font: Any, size: Any) -> None:
        """Take a piece. Its matrices and size are whatever the file says."""
        self._left -= len(text)
        if text and self._left >= 0:
            a, b, c, d = text_matrix[2], text_matrix[3], matrix[0], matrix[1]
            across, down = a * c + b * matrix[2], a * d + b * matrix[3]
            self._found.append((text, size_of(size * math.hypot(across, down))))

    def lines(self, text: str) -> list[Line]:
        """The lines of `text`, which is what pypdf made of all pieces."""
        if "".join(piece for piece, _ in self._found) != text:
            return [Line(fold(line)) for line in text.split("\n")]
        lines: list[Line] = []
        words: list[str] = []
        longest, size = 0, 0.0
        for piece, size_here in self._found:
            first, *others = piece.split("\n")
            for number, part in enumerate((first, *others)):
                if number:
                    lines.append(Line(fold("".join(words)), size))
                    words, longest, size = [], 0, 0.0
                words.append(part)
                if (length := len(part.strip())) > longest:
                    longest, size = length, size_here
        lines.append(Line(fold("".join(words)), size))
        return lines


def size_of(points: float) -> float:
    """A size that can be compared: to half a point, and 0 where it is none."""
    points = abs(points)
    return round(points * 2) / 2 if 0 < points < 1000 else 0.0


def by_outline(pages: Sequence[Page], outline: dict[int, dict[str, int]]) -> list[Page] | None:
    """The pages with the headings that an outline names on them; None where it names none."""
    found, marked = False, list[Page]()
    for number, page in enumerate(pages):
        levels = outline.get(number, {})
        made: Page = []
        for item in page:
            level = levels.get(item.text.lower(), 0) if isinstance(item, Line) else 0
            found = found or level > 0
            made.append(replace(item, level=level) if level and isinstance(item, Line) else item)
        marked.append(made)
    return marked if found else None


def by_size(pages: Sequence[Page]) -> list[Page]:
    """The pages with headings where a short line of its own has larger letters than the body.

    The largest size is level 1. Lines of one size that follow each other are one heading.
    """
    lines = [item for page in pages for item in page if isinstance(item, Line)]
    letters = Counter[float]()
    for line in lines:
        letters[line.size] += len(line.text) if line.size else 0
    if len(letters) < 2:
        return list(pages)
    body = max(letters, key=lambda size: (letters[size], -size))
    running = _running(pages)
    smallest = max(body * _LARGER, body + _POINTS_LARGER)
    made = [_joined(page, smallest, running) for page in pages]
    sizes = {item.size for page in made for item in page if isinstance(item, Line) and item.level}
    levels = {size: min(at, 6) for at, size in enumerate(sorted(sizes, reverse=True), start=1)}
    return [
        [
            replace(item, level=levels[item.size])
            if isinstance(item, Line) and item.level
            else item
            for item in page
        ]
        for page in made
    ]


def _running(pages: Sequence[Page]) -> set[str]:
    """Texts of lines that are printed on most pages."""
    on = Counter[str]()
    for page in pages:
        on.update({item.text for item in page if isinstance(item, Line) and item.text})
    return {text for text, times in on.items() if times >= _RUNNING and 2 * times > len(pages)}


def _joined(page: Page, smallest: float, running: set[str]) -> Page:
    """The page with each heading as one line of level 1."""
    made: Page = []
    run: list[Line] = []
    # As characters times their size, which is near enough.
    width = max((_width(item) for item in page if isinstance(item, Line)), default=0.0)

    def end() -> None:
        text = " ".join(line.text for line in run)
        if run and len(run) <= _MOST_LINES and _is_title(text):
            made.append(Line(text, run[0].size, 1))
        else:
            made.extend(run)
        run.clear()

    for item in page:
        if isinstance(item, Line) and item.size >= smallest and item.text not in running:
            if run and (run[0].size != item.size or _width(run[-1]) < _FULL * width):
                end()
            run.append(item)
        else:
            end()
            made.append(item)
    end()
    return made


def _width(line: Line) -> float:
    return len(line.text) * line.size


def _is_title(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    return letters >= 2 and len(text) <= _MOST_CHARS and not text.endswith(_GOES_ON)
