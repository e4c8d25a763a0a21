"""Tables of a PDF: pages whose drawn lines cross to cells, and the text in these cells.

pypdf meets the lines of a page while it reads the text, for next to nothing. Only pages where they
make cells side by side, with text in them, are read once more by pdfplumber, which knows where each
character is and takes some thirty times as long. Knows lines, cells and characters; no outline and
no paragraphs. Tables without drawn lines stay text.
"""

import io
import math
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from headwater.documents.formats.pdf_lines import Line, Page, Table, size_of
from headwater.documents.parsed import Note, fold

#: Left, top, right, bottom.
Box = tuple[float, float, float, float]
#: What libraries raise on broken files besides their own errors: they read objects as Python values.
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, OSError,
    RecursionError, struct.error, TypeError, ValueError, zlib.error,
)  # fmt: skip
#: Lines this near to each other touch, in points; a gap of this share of a letter is a space.
_NEAR, _SPACE = 3, 0.15
#: Of one page: lines drawn, pairs of an upright and a level one, points where two cross, characters,
#: and cells times heights at which there is a character.
_MOST_LINES, _MOST_PAIRS, _MOST_POINTS = 10_000, 250_000, 4_000
_MOST_CHARS, _MOST_LOOKS = 20_000, 2_000_000
#: Of one document: about as many microseconds. Counted, not timed, so that it ends at the same page
#: on every machine.
_BUDGET = 12_000_000
_PER_PAGE, _PER_CHAR, _PER_LINE, _PER_SQUARED_POINT = 5_000, 35, 100, 0.1
#: Of the characters that pypdf finds on a page, so many must be found again.
_SAME_TEXT = 0.9
_TOO_MUCH = "more lines, crossings or text than are looked at"
_UNLIKE = "pdfplumber finds another text there"
_TURNED = "its text stands on its side"


class _Left(Exception):
    """A page is left as it is, for this reason."""


@dataclass(slots=True)
class Drawing:
    """The lines that a page paints; `see` is a visitor of pypdf's operators."""

    drawn: int = 0
    #: Left, bottom, right, top of each level or upright line, in the coordinates of what draws it.
    lines: list[Box] = field(default_factory=list)
    _path: list[Box] = field(default_factory=list)
    _start: tuple[float, float] = (0.0, 0.0)
    _at: tuple[float, float] = (0.0, 0.0)

    def see(self, operator: bytes, operands: Any, matrix: Any, _text_matrix: Any) -> None:
        """Take an operator with its operands, which are whatever the file says."""
        if operator not in _OPERATORS or self.drawn > _MOST_LINES:
            return
        if operator in _PAINTS or operator == b"n":
            if operator in _CLOSES:
                self._line(self._start)
            if operator != b"n":  # it ends a path that shows nothing
                self.lines += self._path
            self._path = []
            return
        if operator == b"h":
            self._line(self._start)
            return
        try:
            numbers = [float(each) for each in operands]
        except (ArithmeticError, TypeError, ValueError):
            return
        if operator == b"re" and len(numbers) == 4:
            x, y, width, height = numbers
            self._at = self._start = _moved(matrix, x, y)
            for corner in ((x + width, y), (x + width, y + height), (x, y + height)):
                self._line(_moved(matrix, *corner))
            self._line(self._start)
        elif operator == b"m" and len(numbers) == 2:
            self._at = self._start = _moved(matrix, *numbers)
        elif operator == b"l" and len(numbers) == 2:
            self._line(_moved(matrix, *numbers))
        elif len(numbers) >= 4:  # a curve
            self.drawn += 1
            self._at = _moved(matrix, *numbers[-2:])

    def _line(self, to: tuple[float, float]) -> None:
        (x, y), self._at = self._at, to
        self.drawn += 1
        wide, high = abs(to[0] - x), abs(to[1] - y)
        if min(wide, high) < 0.5 < max(wide, high) < math.inf:
            self._path.append((min(x, to[0]), min(y, to[1]), max(x, to[0]), max(y, to[1])))


_PAINTS = frozenset((b"S", b"s", b"f", b"F", b"f*", b"B", b"B*", b"b", b"b*"))
_CLOSES = frozenset((b"s", b"b", b"b*"))
_OPERATORS = _PAINTS | {b"re", b"m", b"l", b"h", b"c", b"v", b"y", b"n"}


def _moved(matrix: Sequence[float], x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = matrix
    return x * a + y * c + e, x * b + y * d + f


@dataclass(slots=True)
class TableSearch:
    """The tables of one document: its pages are noted first, then those with cells are read."""

    budget: float = _BUDGET
    #: Numbers of pages to read, by the number of their object in the file.
    _pages: dict[int, list[int]] = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=dict)
    _left: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def note(self, number: int, name: int, drawing: Drawing, text: str) -> None:
        """Take a page, by the number of its object too, with what pypdf finds on it."""
        if not text or not _may_have_cells(drawing):
            return
        try:
            if drawing.drawn > _MOST_LINES or len(text) > _MOST_CHARS:
                raise _Left(_TOO_MUCH)
            drawn = _PER_LINE * drawing.drawn
            self._spend(drawn)
            grids, points = _grids([_edge(line) for line in drawing.lines])
            crossing = _PER_SQUARED_POINT * points**2
            self._spend(crossing)
            if not grids:
                return
            self._spend(_PER_PAGE + _PER_CHAR * len(text) + drawn + crossing)
        except _Left as left:
            self._left[str(left)].append(number)
            return
        self._pages.setdefault(name, []).append(number)
        self._texts[number] = text

    def read(self, content: bytes) -> dict[int, Page]:
        """What the pages with tables hold, by number; a page that is not there is as it was."""
        if not self._pages:
            return {}
        import pdfplumber
        from pdfminer.psexceptions import PSException
        from pdfplumber.utils.exceptions import MalformedPDFException, PdfminerException

        failures = (PSException, PdfminerException, MalformedPDFException, *DAMAGE)
        found: dict[int, Page] = {}
        reason = "pdfplumber finds no such page"
        try:
            with pdfplumber.open(io.BytesIO(content)) as document:
                for page in document.pages:
                    name: Any = page.page_obj.pageid
                    numbers = self._pages.pop(name, [])
                    try:
                        if numbers and (made := _content(page, self._texts[numbers[0]])):
                            found |= dict.fromkeys(numbers, made)
                    except _Left as left:
                        self._left[str(left)] += numbers
                    except failures as error:
                        self._left[_failure(error)] += numbers
                    page.close()
                    if not self._pages:
                        break
        except failures as error:
            reason = _failure(error)
        for numbers in self._pages.values():
            self._left[reason] += numbers
        self._pages.clear()
        return found

    def notes(self) -> Iterator[Note]:
        """Which pages were not searched, and why."""
        for reason, numbers in self._left.items():
            first = ", ".join(str(number + 1) for number in sorted(numbers)[:5])
            more = f" and {len(numbers) - 5:,} more" if len(numbers) > 5 else ""
            yield Note(f"not searched for tables: page {first}{more} ({reason})")

    def _spend(self, cost: float) -> None:
        """Take from what may be done for the document; the first page beyond it is the last one."""
        if cost > self.budget:
            self.budget = -1
            raise _Left("more pages with tables than are looked at")
        self.budget -= cost


def _may_have_cells(drawing: Drawing) -> bool:
    """Whether a page draws what two cells side by side need at least, or more than is looked at."""
    uprights = {round(line[0]) for line in drawing.lines if line[3] - line[1] > _NEAR}
    levels = {round(line[1]) for line in drawing.lines if line[2] - line[0] > _NEAR}
    return drawing.drawn > _MOST_LINES or (len(uprights) > 2 and len(levels) > 1)


def _grids(edges: list[dict[str, Any]]) -> tuple[list[list[Box]], int]:
    """The cells of each table that lines make, but for single columns, and at how many points.

    Raises:
        _Left: there are more of either than are looked at.
    """
    from pdfplumber.table import (
        cells_to_tables,
        edges_to_intersections,
        intersections_to_cells,
        merge_edges,
    )
    from pdfplumber.utils import filter_edges

    if len(edges) > 4 * _MOST_LINES:  # of a rectangle there are four
        raise _Left(_TOO_MUCH)
    merged = merge_edges(filter_edges(edges), _NEAR, _NEAR, _NEAR, _NEAR)
    merged = filter_edges(merged, min_length=_NEAR)
    upright = sum(edge["orientation"] == "v" for edge in merged)
    if upright * (len(merged) - upright) > _MOST_PAIRS:
        raise _Left(_TOO_MUCH)
    points = edges_to_intersections(merged, _NEAR, _NEAR)
    if len(points) > _MOST_POINTS:
        raise _Left(_TOO_MUCH)
    tables = cells_to_tables(intersections_to_cells(points))
    return [cells for cells in tables if len({left for left, *_ in cells}) > 1], len(points)


def _content(page: Any, expected: str) -> Page | None:
    """A page's lines and tables in the order of its text; None where it has no table."""
    chars = page.chars
    text = "".join(char["text"] for char in chars)
    if len(text) > 2 * _MOST_CHARS:
        raise _Left(_TOO_MUCH)
    if "(cid:" in text or _visible(text) < _SAME_TEXT * _visible(expected):
        raise _Left(_UNLIKE)
    if 2 * sum(not char["upright"] for char in chars) > len(chars):
        raise _Left(_TURNED)  # rows would be columns
    grids, _ = _grids(page.edges)
    cell_at = _cells(grids)
    places = [cell_at(char) for char in chars]
    inside: defaultdict[Box, list[Any]] = defaultdict(list)
    for char, place in zip(chars, places, strict=True):
        if place is not None:
            inside[place[1]].append(char)
    tables = {number: _table(cells, inside) for number, cells in enumerate(grids)}
    made: Page = []
    outside: list[Any] = []
    for char, place in zip(chars, places, strict=True):
        if place is None or tables[place[0]] is None:
            outside.append(char)
        elif table := tables[place[0]]:
            made += [*_lines(outside), table]
            outside.clear()
            tables[place[0]] = ()  # once
    made += _lines(outside)
    return made if any(isinstance(item, tuple) for item in made) else None


def _failure(error: Exception) -> str:
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    return f"pdfplumber fails there: {type(cause).__name__}"


def _visible(text: str) -> int:
    return sum(map(len, text.split()))


def _edge(line: Box) -> dict[str, Any]:
    left, bottom, right, top = line
    wide, high = right - left, top - bottom
    if wide > high:  # at one height, as pdfplumber has it
        return {
            "orientation": "h", "x0": left, "x1": right, "top": bottom, "bottom": bottom,
            "width": wide, "height": 0,
        }  # fmt: skip
    return {
        "orientation": "v", "x0": left, "x1": left, "top": bottom, "bottom": top,
        "width": 0, "height": high,
    }  # fmt: skip


def _cells(grids: Sequence[Sequence[Box]]) -> Callable[[Any], tuple[int, Box] | None]:
    """What finds the grid and the cell that a character's middle is in, the smallest of them."""
    every = [(number, cell) for number, cells in enumerate(grids) for cell in cells]
    every.sort(key=lambda each: (each[1][2] - each[1][0]) * (each[1][3] - each[1][1]))
    at_height: dict[float, list[tuple[int, Box]]] = {}

    def cell_at(char: Any) -> tuple[int, Box] | None:
        x, y = (char["x0"] + char["x1"]) / 2, (char["top"] + char["bottom"]) / 2
        if y not in at_height:
            if len(at_height) * len(every) > _MOST_LOOKS:
                raise _Left(_TOO_MUCH)
            at_height[y] = [each for each in every if each[1][1] <= y < each[1][3]]
        return next((each for each in at_height[y] if each[1][0] <= x < each[1][2]), None)

    return cell_at


def _table(cells: Sequence[Box], inside: dict[Box, list[Any]]) -> Table | None:
    """Rows as the other formats have them; None where no two cells side by side hold text."""
    from pdfplumber.utils import extract_text

    rows: defaultdict[float, list[str]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: (cell[1], cell[0])):
        text = fold(extract_text(inside.get(cell, []), x_tolerance_ratio=_SPACE))
        if text:
            rows[cell[1]].append(text.replace("|", "\\|"))
    if not any(len(row) > 1 for row in rows.values()):
        return None
    return tuple(" | ".join(row) for row in rows.values())


def _lines(chars: list[Any]) -> Iterator[Line]:
    """Lines of text in the order in which it is drawn."""
    from pdfplumber.utils import extract_words

    words = extract_words(chars, return_chars=True, use_text_flow=True, x_tolerance_ratio=_SPACE)
    line: list[Any] = []
    for word in words:
        if line and not _goes_on(line[-1], word):
            yield _line(line)
            line = []
        line.append(word)
    if line:
        yield _line(line)


def _goes_on(before: Any, word: Any) -> bool:
    """Whether a word stands to the right of the one before, at its height."""
    shared = min(before["bottom"], word["bottom"]) - max(before["top"], word["top"])
    lower = min(before["height"], word["height"])
    return bool(shared > lower / 2 and word["x0"] >= before["x0"])


def _line(words: list[Any]) -> Line:
    longest = max(words, key=lambda word: len(word["text"]))
    return Line(" ".join(word["text"] for word in words), size_of(longest["chars"][0]["size"]))
