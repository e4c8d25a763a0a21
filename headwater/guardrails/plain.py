"""Text as a reader would see it: what hides or disguises characters is undone.

The rules look at these views; what is shown or stored stays as it was written.
"""

import base64
import binascii
import html
import re
import unicodedata
from codecs import decode as codec

#: Letters of other scripts that look like Latin ones, in lower case.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u04bb\u0501\u051b\u051d\u0455\u043a"
    "\u043c\u0442\u043d\u0432\u03b1\u03bf\u03c1\u03bd\u03b9\u03c4\u03ba\u03c5\u03c7\u0131\u0261",
    "aeopcyxijhdqwskmthbaopvitkuxig",
)
#: Tag characters mirror ASCII and are drawn nowhere: text in them is meant for the model alone.
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_LEET = str.maketrans("013457@$!", "oieastasi")
_LEET_WORD = re.compile(r"[a-z][013457@$!]+[a-z]|\b[013457@$!]+[a-z]{2}")
#: Common words as rot13 writes them; reading every text twice would take twice as long.
_ROT13 = tuple(codec(f" {word} ", "rot13") for word in ("the", "and", "your", "all", "you", "to"))
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-f]{2}[\s:]?){10,}", re.IGNORECASE)
_SPACED = re.compile(r"(?:(?<!\S)\S\s{1,3}){5,}\S(?!\S)|(?:\b\w[._*-]){4,}\w\b")
_BETWEEN = re.compile(r"(?<=\w)[\s._*-]+|\s+")
#: Deeper nesting of encodings than this is not followed.
_DEPTH = 2


def invisible(char: str) -> bool:
    """Whether a character is drawn nowhere: format, tag, variation selectors, fillers."""
    return unicodedata.category(char) == "Cf" or char in _FILLERS or "\ufe00" <= char <= "\ufe0f"


_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u180b\u180c\u180d")


def strip_invisible(text: str) -> str:
    """The text without characters that are drawn nowhere."""
    return text if text.isascii() else "".join(char for char in text if not invisible(char))


def unescape(text: str) -> str:
    """The text with HTML entities resolved, those within entities too."""
    for _ in range(3):
        once = html.unescape(text)
        if once == text:
            break
        text = once
    return text


def hidden_text(text: str) -> str:
    """What is written in tag characters, which no reader sees."""
    return "" if text.isascii() else "".join(chr(_TAGS[ord(c)]) for c in text if ord(c) in _TAGS)


def plain(text: str) -> str:
    """One spelling for one text: NFKC, nothing invisible, no entities, lookalikes as Latin, folded.

    Line breaks stay, other whitespace is one blank.
    """
    text = unicodedata.normalize("NFKC", strip_invisible(unescape(text))).casefold()
    text = text if text.isascii() else _latin(text)
    return re.sub(r"[^\S\n]+", " ", text)


def views(text: str) -> list[tuple[str, str]]:
    """The readings of a text, each with how it was hidden ("" for the text itself), normalised.

    Undone are tag characters, base64, hexadecimal, rot13, letters with blanks between them and
    digits for letters.
    """
    found = [("", plain(text))]
    if hidden := hidden_text(text):
        found.append(("hidden", plain(hidden)))
    found += [("encoded", plain(decoded)) for decoded in _decoded(text, _DEPTH)]
    ordinary = found[0][1]
    if any(word in ordinary for word in _ROT13):
        found.append(("rot13", codec(ordinary, "rot13")))
    if joined := _unspaced(strip_invisible(text).casefold()):
        found += [("spaced", joined), ("spaced", re.sub(r"\W+", "", joined))]
    if len(_LEET_WORD.findall(ordinary)) > 1:
        found.append(("leet", ordinary.translate(_LEET)))
    return found


def _latin(text: str) -> str:
    """Lookalikes as Latin letters, and accents dropped."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return bare.translate(_LOOKALIKES)


def _decoded(text: str, depth: int) -> list[str]:
    """What base64 and hexadecimal within a text say, where it reads as text."""
    found = []
    for match in _ENCODED.finditer(text):
        found.append(_from_base64(match[0]))
    for match in _HEX.finditer(text):
        digits = re.sub(r"[\s:]", "", match[0])
        found.append(_readable(bytes.fromhex(digits[: len(digits) // 2 * 2])))
    texts = [each for each in found if each]
    deeper = [more for each in texts if depth > 1 for more in _decoded(each, depth - 1)]
    return [*texts, *deeper]


def _from_base64(word: str) -> str:
    word = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _readable(base64.b64decode(word + "=" * (-len(word) % 4)))
    except binascii.Error:
        return ""


def _readable(data: bytes) -> str:
    """The bytes as text, or "" where they are none: most of it must be letters and blanks."""
    text = data.decode("utf-8", "replace")
    letters = sum(char.isalpha() or char == " " for char in text)
    return text if letters >= 0.8 * len(text) else ""


def _unspaced(text: str) -> str:
    """The text with runs of single letters joined to words, or "" where it has none.

    Two blanks part words where one parts letters; else the whole run is one word.
    """

    def join(match: re.Match[str]) -> str:
        return " ".join(_BETWEEN.sub("", word) for word in re.split(r"\s{2,}", match[0]))

    joined = _SPACED.sub(join, text)
    return "" if joined == text else joined
