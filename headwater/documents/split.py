"""Splitting a document's text into spans along its structure, bounded in tokens.

Knows text, headings and a way to count tokens; knows nothing about tables or embedding. Spans are
contiguous: joined they are the text. Boundaries are local: a section is split by itself, so an
edit moves no boundary in the sections around it (at most a merge of short neighbours).
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from headwater.documents.tokens import TokenCounter
from headwater.records import Heading

#: A section with fewer tokens joins the one that follows, where both fit into one span.
SHORT = 40
#: A token stands for at most this many characters, or drawn tables and one endless word would
#: make spans of any size.
CHARS_PER_TOKEN = 20
SEPARATOR = " > "

_PARAGRAPH = re.compile(r"\n{2,}")
_SENTENCE = re.compile(
    r"(?<=[.!?])[\"')\]\u201d\u2019\u00bb]{0,2}\s+(?=\S)|(?<=[\u3002\uff01\uff1f])(?=\S)"
)
_LINE = re.compile(r"\n")
_WORDS = re.compile(r"(?:\S{1,40}\s+){16}")
_WORD = re.compile(r"\s+")
#: The arguments in a signature that is a heading.
_ARGUMENTS = re.compile(r"\(.{8,}$")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a document, the path of the section it is in, and the tokens of both."""

    heading: str
    text: str
    tokens: int = 0


@dataclass(slots=True)
class _Section:
    path: tuple[str, ...]
    level: int
    text: str
    cost: int = 0
    bare: bool = False  # nothing but its heading, before anything below it

    def joins(self, following: "_Section") -> bool:
        """Whether the following section is below this one, or beside it under one parent."""
        if following.path[: len(self.path)] == self.path:
            return True
        return following.level == self.level and following.path[:-1] == self.path[:-1]


@dataclass(slots=True)
class _Atom:
    text: str
    cost: int  # tokens, or more where the text is long for its tokens
    level: int  # how finely it has been cut


def split_text(
    text: str,
    title: str,
    headings: Sequence[Heading],
    max_tokens: int,
    count_tokens: TokenCounter,
) -> list[Span]:
    """Spans whose `heading` line and text together have at most `max_tokens` tokens.

    A span starts at each heading; a section that is too long is cut between paragraphs, then
    sentences, lines and words, and within a word only where that alone is too long.
    """
    sections = _sections(text, title, headings)
    costs = _costs([section.text for section in sections], max_tokens, count_tokens)
    for section, cost in zip(sections, costs, strict=True):
        section.cost = cost
    spans: list[Span] = []
    paths = _Paths(max_tokens // 3, count_tokens)
    for section in _merge_short(sections, max_tokens, paths):
        heading, used = paths(section.path)
        for piece in _pack(section.text, max_tokens - used, count_tokens):
            spans.append(Span(heading, piece))
    return _bounded(spans, max_tokens, count_tokens)


def embed_text(heading: str, text: str) -> str:
    """What is embedded of a chunk, and what its bound in tokens counts."""
    return f"{heading}\n{text.strip()}"


def _sections(text: str, title: str, headings: Sequence[Heading]) -> list[_Section]:
    data = text.encode()
    ordered = sorted(headings, key=lambda heading: heading.start)
    starts = [heading.start for heading in ordered]
    pieces = [data[start:end].decode() for start, end in pairwise([*starts, len(data)])]
    sections = []
    if preamble := data[: starts[0] if starts else len(data)].decode():
        sections.append(_Section((title,), 1, preamble))
    stack: list[tuple[int, str]] = []
    seen: set[tuple[str, ...]] = set()
    for heading, piece in zip(ordered, pieces, strict=True):
        while stack and stack[-1][0] >= heading.level:
            stack.pop()
        stack.append((heading.level, heading.text))
        names = tuple(name for _, name in stack)
        # A document without a heading of its own is still told by its title.
        path = names if stack[0][0] == 1 else (title, *names)
        bare = path not in seen and _PARAGRAPH.search(piece.strip("\n")) is None
        seen.add(path)
        sections.append(_Section(path, heading.level, piece, bare=bare))
    return [section for section in sections if section.text]


class _Paths:
    """Heading paths as one line of a bounded number of tokens, and that number."""

    def __init__(self, max_tokens: int, count_tokens: TokenCounter) -> None:
        self.max_tokens = max_tokens
        self.count_tokens = count_tokens
        self.known: dict[tuple[str, ...], tuple[str, int]] = {}

    def __call__(self, path: tuple[str, ...]) -> tuple[str, int]:
        if path not in self.known:
            self.known[path] = self._fit(path)
        return self.known[path]

    def _fit(self, path: tuple[str, ...]) -> tuple[str, int]:
        """Leave out arguments of signatures, then outer headings, then cut, until it fits."""
        plain = [_ARGUMENTS.sub("(...)", name) for name in path]
        shorter = [SEPARATOR.join(path)]
        shorter += [SEPARATOR.join(plain[start:]) for start in range(len(plain))]
        last = plain[-1] if plain else ""
        shorter += [last[:length] for length in (120, 80, 60, 40, 20, 10, 5)]
        for line, tokens in zip(shorter, self.count_tokens(shorter), strict=True):
            if tokens <= self.max_tokens:
                return line, tokens
        return "", 0


def _merge_short(
    sections: Sequence[_Section],
    max_tokens: int,
    paths: Callable[[tuple[str, ...]], tuple[str, int]],
) -> Iterator[_Section]:
    """Join short sections with those that follow, under the path that both have in common.

    A heading without text goes with the section below it, which keeps its own path.
    """
    pending: _Section | None = None
    for section in sections:
        if pending is None:
            pending = section
            continue
        common = _common(pending.path, section.path) or pending.path[:1]
        cost = pending.cost + section.cost
        text = pending.text + section.text
        short = pending.cost < SHORT and pending.joins(section)
        if pending.bare and section.level > pending.level:
            pending = _Section(section.path, section.level, text, cost, section.bare)
        elif short and cost + paths(common)[1] <= max_tokens:
            pending = _Section(common, pending.level, text, cost)
        else:
            yield pending
            pending = section
    if pending is not None:
        yield pending


def _pack(text: str, budget: int, count_tokens: TokenCounter) -> list[str]:
    """Cut one section's text into pieces of at most `budget` tokens, filled in order."""
    queue = deque(_atoms(text, 0, budget, count_tokens))
    packs: list[list[_Atom]] = [[]]
    used = 0
    while queue:
        atom = queue.popleft()
        if used + atom.cost <= budget or (not packs[-1] and len(atom.text) == 1):
            packs[-1].append(atom)
            used += atom.cost
        elif len(atom.text) > 1 and (atom.cost > budget or (used < SHORT and atom.level <= 1)):
            # Too long by itself, or it would leave a heading alone: cut it finer.
            queue.extendleft(reversed(_atoms(atom.text, atom.level + 1, budget, count_tokens)))
        else:
            packs.append([])
            used = 0
            queue.appendleft(atom)
    _fill_last(packs, budget)
    return ["".join(atom.text for atom in pack) for pack in packs if pack]


def _fill_last(packs: list[list[_Atom]], budget: int) -> None:
    """Give a short last piece the last atom of the piece before, where both stay in bounds."""
    if len(packs) < 2 or len(packs[-2]) < 2:
        return
    last = sum(atom.cost for atom in packs[-1])
    moved = packs[-2][-1].cost
    before = sum(atom.cost for atom in packs[-2]) - moved
    if last < SHORT <= before and last + moved <= budget:
        packs[-1].insert(0, packs[-2].pop())


def _atoms(text: str, level: int, budget: int, count_tokens: TokenCounter) -> list[_Atom]:
    """Cut a text at one level of fineness: paragraph, sentence, line, words, word, characters."""
    patterns = (_PARAGRAPH, _SENTENCE, _LINE, _WORDS, _WORD)
    if level < len(patterns):
        pieces = list(_cut(text, (match.end() for match in patterns[level].finditer(text))))
    else:
        width = max(1, min(budget, len(text) // 2))
        pieces = list(_cut(text, range(width, len(text), width)))
    costs = _costs(pieces, budget, count_tokens)
    return [_Atom(piece, cost, level) for piece, cost in zip(pieces, costs, strict=True)]


def _costs(texts: Sequence[str], budget: int, count_tokens: TokenCounter) -> list[int]:
    """Tokens of each text, or what its length stands for where that is more.

    What is too long by its length is not counted: a line of megabytes would be counted again at
    each level of fineness.
    """
    by_length = [len(text) // CHARS_PER_TOKEN for text in texts]
    counts = iter(
        count_tokens([t for t, cost in zip(texts, by_length, strict=True) if cost <= budget])
    )
    return [max(cost, next(counts)) if cost <= budget else cost for cost in by_length]


def _cut(text: str, ends: Iterable[int]) -> Iterator[str]:
    start = 0
    for end in ends:
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _bounded(spans: list[Span], max_tokens: int, count_tokens: TokenCounter) -> list[Span]:
    """Count, and halve what has more tokens than its parts, as a word cut in two may have."""
    counts = count_tokens([embed_text(span.heading, span.text) for span in spans])
    bounded: list[Span] = []
    for span, tokens in zip(spans, counts, strict=True):
        middle = len(span.text) // 2
        if tokens <= max_tokens or middle == 0:
            bounded.append(replace(span, tokens=tokens))
        else:
            halves = [
                replace(span, text=span.text[:middle]),
                replace(span, text=span.text[middle:]),
            ]
            bounded += _bounded(halves, max_tokens, count_tokens)
    return bounded


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return tuple(name for name, _ in same)
