"""Signals of poor text: published heuristics, each by its paper's threshold.

Knows texts and numbers, not what is done about them. The heuristics were made for pages of the web:
short notes, references and code may fail them and be good.

- Gopher: Rae et al. 2021, "Scaling Language Models" (arXiv 2112.11446), A.1.1 and table A1.
- C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning" (JMLR 21, 140), section 2.2.
- FineWeb: Penedo et al. 2024, "The FineWeb Datasets" (arXiv 2406.17557), section 3.6.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headwater.documents.signature import rolled, word_hashes

SIGNALS_VERSION = "signals/1"
_LETTER = re.compile(r"[^\W\d_]").search
#: Typographic quotes, an ellipsis, and the full-width full stop, exclamation and question mark.
_QUOTES, _ELLIPSIS, _WIDE = "\u201d\u2019", "\u2026", "\u3002\uff01\uff1f"
_SENTENCE_END = re.compile(rf"[.!?{_ELLIPSIS}{_WIDE}][\"'{_QUOTES})\]]*(?=\s|$)")
#: Those of C4, which FineWeb took over, and their full-width forms.
_TERMINAL = (".", "!", "?", '"', "'", *_QUOTES, _ELLIPSIS, *_WIDE)
_BULLETS = ("•", "‣", "◦", "▪", "●", "- ", "* ", "\u2013 ")
_STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
#: Table A1: n, and the part of a text that its most frequent n-gram may make up.
_TOP_NGRAMS = ((2, 0.20), (3, 0.18), (4, 0.16))
#: Table A1: n, and the part of a text that repeated n-grams may make up.
_REPEATED_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


@dataclass(frozen=True, slots=True)
class Finding:
    """A heuristic that a text fails: its name, what was found, and what the paper allows."""

    name: str
    value: float
    allowed: str

    def __str__(self) -> str:
        return f"{self.name} is {self.value:.3g}, {self.allowed} is allowed"


def findings(text: str, language: str) -> list[Finding]:
    """The heuristics that a text fails, in the order of the papers.

    Args:
        language: ISO 639-1; rules on words of one language apply to that language alone.
    """
    words = text.split()
    lines = [line for line in text.split("\n") if line.strip()]
    if not words:
        return []
    checks = (
        _gopher_quality(text, words, lines, language),
        _gopher_repetition(text, words, lines),
        _c4(text),
        _fineweb(lines),
    )
    return [finding for check in checks for finding in check]


def _gopher_quality(
    text: str, words: Sequence[str], lines: Sequence[str], language: str
) -> Iterator[Finding]:
    count = len(words)
    yield from _outside("gopher_words", count, 50, 100_000)
    yield from _outside("gopher_mean_word_length", sum(map(len, words)) / count, 3, 10)
    yield from _above("gopher_hashes_to_words", text.count("#") / count, 0.1)
    ellipses = text.count("...") + text.count(_ELLIPSIS)
    yield from _above("gopher_ellipses_to_words", ellipses / count, 0.1)
    bullets = sum(line.lstrip().startswith(_BULLETS) for line in lines)
    yield from _above("gopher_bullet_lines", bullets / len(lines), 0.9)
    trailing = sum(line.rstrip().endswith(("...", _ELLIPSIS)) for line in lines)
    yield from _above("gopher_ellipsis_lines", trailing / len(lines), 0.3)
    lettered = sum(1 for word in words if _LETTER(word))
    yield from _below("gopher_words_with_a_letter", lettered / count, 0.8)
    if language == "en":
        found = len(_STOP_WORDS.intersection(map(str.lower, words)))
        yield from _below("gopher_stop_words", found, 2)


def _gopher_repetition(text: str, words: Sequence[str], lines: Sequence[str]) -> Iterator[Finding]:
    for kind, parts in (("lines", lines), ("paragraphs", text.split("\n\n"))):
        once = set(parts)
        yield from _above(f"gopher_repeated_{kind}", 1 - len(once) / len(parts), 0.3)
        whole = sum(map(len, parts)) or 1
        repeated = 1 - sum(map(len, once)) / whole
        yield from _above(f"gopher_repeated_{kind}_characters", repeated, 0.2)

    grams = _NGrams(words)
    for n, most in _TOP_NGRAMS:
        yield from _above(f"gopher_top_{n}gram", grams.top(n, most), most)
    for n, most in _REPEATED_NGRAMS:
        share = grams.repeated(n, _REPEATED_NGRAMS[-1][1])
        yield from _above(f"gopher_repeated_{n}grams", share, most)
        # What longer n-grams repeat, shorter ones repeat too: none of the rest can fail.
        if share <= _REPEATED_NGRAMS[-1][1]:
            return


def _c4(text: str) -> Iterator[Finding]:
    yield from _above("c4_lorem_ipsum", text.lower().count("lorem ipsum"), 0)
    yield from _above("c4_curly_brackets", text.count("{"), 0)
    yield from _below("c4_sentences", len(_SENTENCE_END.findall(text)), 3)


def _fineweb(lines: Sequence[str]) -> Iterator[Finding]:
    count = len(lines)
    ended = sum(line.rstrip().endswith(_TERMINAL) for line in lines) / count
    if ended <= 0.12:
        yield Finding("fineweb_lines_ending_in_punctuation", ended, "more than 0.12")
    repeated = 1 - sum(map(len, set(lines))) / sum(map(len, lines))
    if repeated >= 0.1:
        yield Finding("fineweb_repeated_line_characters", repeated, "less than 0.1")
    short = sum(len(line) < 30 for line in lines) / count
    if short >= 0.67:
        yield Finding("fineweb_short_lines", short, "less than 0.67")


class _NGrams:
    """Runs of words that occur several times, by the characters they make up.

    Most texts repeat little. Sorting the runs tells, which is quick; where they are is looked up
    only where what is repeated could be more than `allowed`. Else the answer is 0.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._hashes = word_hashes(list(words))
        self._lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._total, self._longest = int(self._lengths.sum()), int(self._lengths.max())

    def top(self, n: int, allowed: float) -> float:
        """The part of the characters that the most frequent run of `n` words makes up."""
        if len(self._hashes) < n:
            return 0.0
        runs = rolled(self._hashes, n)
        ordered = np.sort(runs)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        most = int(np.diff(starts, append=len(ordered)).max())
        if most == 1 or most * n * self._longest <= allowed * self._total:
            return 0.0
        _, first, counts = np.unique(runs, return_index=True, return_counts=True)
        ends = np.concatenate(([0], self._lengths.cumsum()))
        characters = (ends[n:] - ends[:-n])[first[counts == most]]
        # A run may overlap itself.
        return min(1.0, most * int(characters.max()) / self._total)

    def repeated(self, n: int, allowed: float) -> float:
        """The part of the characters in runs that occurred before; each character counts once."""
        if len(self._hashes) < n:
            return 0.0
        runs = rolled(self._hashes, n)
        ordered = np.sort(runs)
        repeats = int((ordered[1:] == ordered[:-1]).sum())
        if repeats * n * self._longest <= allowed * self._total:
            return 0.0
        _, first, inverse = np.unique(runs, return_index=True, return_inverse=True)
        again = first[inverse] != np.arange(len(runs))
        covered = np.zeros(len(self._hashes), bool)
        for step in range(n):
            covered[step : step + len(runs)] |= again
        return int(self._lengths[covered].sum()) / self._total


def _above(name: str, value: float, most: float) -> Iterator[Finding]:
    if value > most:
        yield Finding(name, value, f"at most {most:g}")


def _below(name: str, value: float, least: float) -> Iterator[Finding]:
    if value < least:
        yield Finding(name, value, f"at least {least:g}")


def _outside(name: str, value: float, least: float, most: float) -> Iterator[Finding]:
    if not least <= value <= most:
        yield Finding(name, value, f"{least:g} to {most:g}")
