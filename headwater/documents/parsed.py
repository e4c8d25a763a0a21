"""What a format's parser hands back: blocks of text, or a refusal with its reason.

Knows how text is repaired and normalised and how headings get their byte offsets; knows no format.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from headwater.records import Heading

#: A heading longer than this is cut where it is used as a label.
MAX_HEADING = 160
#: Characters that no reader sees: controls except tab and newline, zero-width marks, direction
#: overrides, halves of a pair and tags. They serve to hide text from a person, not to tell one
#: something.
_UNSEEN = dict.fromkeys(
    (
        *(code for code in range(160) if chr(code) not in "\t\n\x85" and not 32 <= code < 127),
        *(0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF),
        *(0x115F, 0x1160, 0x3164, 0xFFA0),  # letters of Hangul that are drawn as nothing
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xFFF9, 0xFFFC),
        *range(0xD800, 0xE000),  # half characters: no encoding has them
        *range(0xE0000, 0xE0080),
    )
)
#: Marks that change how the character before them is drawn, or how two are joined. Beside anything
#: else they are not seen, and each could carry a byte of a hidden text: only the first of a run
#: stays, selectors after what has variants (no letter of ASCII, no space), joiners between scripts
#: and pictures that join.
_IDLE = re.compile(
    r"(?<![^\x00-\u024f\s])(?<![#*0-9])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
    r"|(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
    r"|(?<![^\x00-\u024f\s])[\u200c\u200d]+|(?<=[\u200c\u200d])[\u200c\u200d]+"
    r"|[\u200c\u200d]+(?![^\x00-\u024f\s])"
)
_LINE_END = re.compile(r"\r\n?|[\f\v\x85\u2028\u2029]")
#: Combining marks on one letter; normalising takes the square of their number (UAX 15, D4).
_MOST_MARKS = 30
#: More blanks than a drawn table needs: they would be a chunk of nothing.
_WIDE = re.compile(r"[^\S\n]{65,}")


class Rejected(Exception):
    """A document that cannot be indexed; `reason` is a code, `detail` a sentence for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def damaged(kind: str, error: Exception) -> Rejected:
    """`damaged_KIND`, with what a library said of the file."""
    return Rejected(f"damaged_{kind}", f"{type(error).__name__}: {fold(str(error))[:200]}")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, table or code block; the start of a section where `level` is not 0.

    A section is called `heading`, or by its text where that is empty. Text that goes on with an
    outer section after an inner one starts with the outer heading and its own text.
    """

    text: str
    level: int = 0
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What a format's parser left out or left as it was, said for a person; no text of the document."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """Normalised text with its title and headings; `Heading.start` is a byte offset (UTF-8)."""

    title: str
    text: str
    headings: tuple[Heading, ...]
    notes: tuple[str, ...] = ()


def repair(text: str) -> str:
    """Text as it was written, where it shows that UTF-8 was once read as another encoding.

    `cafÃ©` was `café`. Nothing else is changed: no quotes, ligatures, widths or entities.
    """
    if text.isascii():
        return text
    from ftfy import fix_text
    from ftfy.badness import is_bad

    return fix_text(text, _encoding_only()) if is_bad(text) else text


@cache
def _encoding_only() -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
    )


def normalise(text: str) -> str:
    """NFC, `\\n` line ends, no unseen characters, no space at line ends, no blank line inside."""
    text = _LINE_END.sub("\n", text).translate(_UNSEEN)
    if not text.isascii():
        text = _IDLE.sub("", text)
        text = unicodedata.normalize("NFC", _heaped_marks().sub(r"\1", text))
    text = _WIDE.sub(" " * 64, text)
    lines = (line.rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


@lru_cache(maxsize=1)
def _heaped_marks() -> re.Pattern[str]:
    """Finds runs of more combining marks than any script has; group 1 are those that stay."""
    marks = "".join(char for char in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(char))
    return re.compile(f"([{marks}]{{{_MOST_MARKS}}})[{marks}]+")


def fold(text: str) -> str:
    """One line: every run of whitespace is one space."""
    return " ".join(text.split())


def assemble(blocks: Iterable[Block | Note], title: str) -> Parsed:
    """Join blocks by one blank line each, and give the headings their offsets.

    Args:
        title: used where it is not empty; otherwise the first heading's text.
    """
    pieces: list[str] = []
    headings: list[Heading] = []
    notes: list[str] = []
    offset = 0
    for block in blocks:
        if isinstance(block, Note):
            notes.append(fold(block.text))
            continue
        text = normalise(repair(block.text))
        if not text:
            continue
        if block.level:
            name = label(block.heading or text)
            headings.append(Heading(start=offset, level=block.level, text=name))
        pieces.append(text)
        offset += len(text.encode()) + 2
    title = label(title) or (headings[0].text if headings else "")
    text = "\n\n".join(pieces)
    return Parsed(title=title, text=text, headings=tuple(headings), notes=tuple(notes))


# Cached: a page may come back to one long heading many thousand times.
@lru_cache(maxsize=4)
def label(text: str) -> str:
    """A heading or title as one line of at most `MAX_HEADING` characters."""
    line = fold(normalise(repair(text)))
    return line if len(line) <= MAX_HEADING else line[: MAX_HEADING - 1].rstrip() + "…"
