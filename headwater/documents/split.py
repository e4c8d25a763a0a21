"""Splitting a document's text into spans along its structure, bounded in tokens.

Knows text, headings and a way to count tokens; knows nothing about tables or embedding. Spans are
contiguous: joined they are the text. Boundaries are local: a section is split by itself, so an
edit moves no boundary in the sections around it (at most a merge of short neighbours).

Counting tokens is most of the work. So every function that needs counts is a generator which asks for
them (`Counting`), and `split_texts` answers what many documents ask at once; and the tokens of a
document are counted once, between the places where it may be cut, and added up from there.
"""

import re
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise, takewhile
from typing import TypeAlias, TypeVar

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


T = TypeVar("T")
#: Work that asks for the tokens of texts, and is sent them.
Counting: TypeAlias = Generator[list[str], list[int], T]


@dataclass(frozen=True, slots=True)
class Text:
    """What is split of a document."""

    text: str
    title: str
    headings: Sequence[Heading]


@dataclass(slots=True)
class _Section:
    path: tuple[str, ...]
    level: int
    start: int  # characters of the document
    end: int
    cost: int = 0
    bare: bool = False  # nothing but its heading, before anything below it

    def joins(self, following: "_Section") -> bool:
        """Whether the following section is below this one, or beside it under one parent."""
        if following.path[: len(self.path)] == self.path:
            return True
        return following.level == self.level and following.path[:-1] == self.path[:-1]


@dataclass(slots=True)
class _Atom:
    start: int
    end: int
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
    return split_texts([Text(text, title, headings)], max_tokens, count_tokens)[0]


def split_texts(
    documents: Sequence[Text],
    max_tokens: int,
    count_tokens: TokenCounter,
    *,
    adds_up: bool = False,
) -> list[list[Span]]:
    """`split_text` of several documents, whose tokens are counted together.

    Args:
        adds_up: whether two texts with white space between them have the tokens of both
            (`headwater.documents.tokens.adds_up`). Spans are not counted again then.
    """
    found: list[list[Span]] = [[] for _ in documents]
    answers: list[tuple[int, Counting[list[Span]], list[int] | None]] = [
        (number, _spans(document, max_tokens, adds_up=adds_up), None)
        for number, document in enumerate(documents)
    ]
    while answers:
        asking: list[tuple[int, Counting[list[Span]], list[str]]] = []
        for number, work, counts in answers:
            try:
                asked = next(work) if counts is None else work.send(counts)
            except StopIteration as done:
                found[number] = done.value
            else:
                asking.append((number, work, asked))
        counted = iter(count_tokens(list(chain.from_iterable(asked for *_, asked in asking))))
        answers = [(number, work, [next(counted) for _ in asked]) for number, work, asked in asking]
    return found


def embed_text(heading: str, text: str) -> str:
    """What is embedded of a chunk, and what its bound in tokens counts."""
    return f"{heading}\n{text.strip()}"


def _spans(document: Text, max_tokens: int, *, adds_up: bool) -> Counting[list[Span]]:
    sections = _sections(document)
    tokens = _Tokens(document.text, max_tokens)
    yield from tokens.count(section.start for section in sections)
    costs = yield from tokens.costs([(each.start, each.end) for each in sections], max_tokens)
    for section, cost in zip(sections, costs, strict=True):
        section.cost = cost
    spans: list[Span] = []
    paths = _Paths(max_tokens // 3)
    yield from paths.count(section.path for section in sections)
    for section in (yield from _merge_short(sections, max_tokens, paths)):
        heading, used = yield from paths.line(section.path)
        pieces = yield from _pack(section, max_tokens - used, tokens)
        for start, end in pieces:
            sure = adds_up and start in tokens.before and end in tokens.before
            known = used + tokens.before[end] - tokens.before[start] if sure else 0
            spans.append(Span(heading, document.text[start:end], known))
    return (yield from _bounded(spans, max_tokens))


def _sections(document: Text) -> list[_Section]:
    data = document.text.encode()
    ordered = sorted(document.headings, key=lambda heading: heading.start)
    starts = [heading.start for heading in ordered]
    preamble = data[: starts[0] if starts else len(data)].decode()
    sections = []
    if preamble:
        sections.append(_Section((document.title,), 1, 0, len(preamble)))
    stack: list[tuple[int, str]] = []
    seen: set[tuple[str, ...]] = set()
    at = len(preamble)
    for heading, (start, end) in zip(ordered, pairwise([*starts, len(data)]), strict=True):
        piece = data[start:end].decode()
        while stack and stack[-1][0] >= heading.level:
            stack.pop()
        stack.append((heading.level, heading.text))
        names = tuple(name for _, name in stack)
        # A document without a heading of its own is still told by its title.
        path = names if stack[0][0] == 1 else (document.title, *names)
        bare = path not in seen and _PARAGRAPH.search(piece.strip("\n")) is None
        seen.add(path)
        sections.append(_Section(path, heading.level, at, at + len(piece), bare=bare))
        at += len(piece)
    return [section for section in sections if section.end > section.start]


class _Tokens:
    """Tokens of any piece of a text, by characters.

    Between the places where it may be cut they are counted once; what lies between two of these is a
    sum. That is exact where no token reaches over a cut, as with words told by spaces and signs;
    where one does, costs are a little off, and the spans' own counts decide (`_bounded`).
    """

    def __init__(self, text: str, max_tokens: int) -> None:
        self.text = text
        self.max_tokens = max_tokens
        self.before: dict[int, int] = {}  # tokens before each cut

    def count(self, starts: Iterable[int]) -> Counting[None]:
        """Count between the starts of sections, and where paragraphs, sentences and lines end."""
        found = {0, len(self.text), *starts}
        for pattern in (_PARAGRAPH, _SENTENCE, _LINE):
            found.update(match.end() for match in pattern.finditer(self.text))
        cuts = sorted(found)
        counts = yield from self._counted(list(pairwise(cuts)), self.max_tokens)
        self.before = dict(zip(cuts, accumulate(counts, initial=0), strict=True))

    def costs(self, pieces: Sequence[tuple[int, int]], budget: int) -> Counting[list[int]]:
        """Tokens of each piece, or what its length stands for where that is more."""
        unknown = [
            (start, end)
            for start, end in pieces
            if start not in self.before or end not in self.before
        ]
        counted = dict(zip(unknown, (yield from self._counted(unknown, budget)), strict=True))
        return [
            max(
                (end - start) // CHARS_PER_TOKEN,
                counted.get((start, end), self.before.get(end, 0) - self.before.get(start, 0)),
            )
            for start, end in pieces
        ]

    def _counted(self, pieces: Sequence[tuple[int, int]], budget: int) -> Counting[list[int]]:
        """Tokens of each piece, 0 where its length alone is beyond the budget: a line of megabytes
        would be counted again at each level of fineness.
        """
        within = [(end - start) // CHARS_PER_TOKEN <= budget for start, end in pieces]
        asked = [
            self.text[a:b] for (a, b), is_within in zip(pieces, within, strict=True) if is_within
        ]
        counts = iter((yield asked))
        return [next(counts) if is_within else 0 for is_within in within]


class _Paths:
    """Heading paths as one line of a bounded number of tokens, and that number."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.known: dict[tuple[str, ...], tuple[str, int]] = {}

    def count(self, paths: Iterable[tuple[str, ...]]) -> Counting[None]:
        """Count whole paths, which are mostly short enough."""
        unknown = [path for path in dict.fromkeys(paths) if path not in self.known]
        whole = [SEPARATOR.join(path) for path in unknown]
        for path, line, tokens in zip(unknown, whole, (yield whole), strict=True):
            fits = tokens <= self.max_tokens
            self.known[path] = (line, tokens) if fits else (yield from self._shorter(path))

    def line(self, path: tuple[str, ...]) -> Counting[tuple[str, int]]:
        """The line of a path, and its tokens."""
        if path not in self.known:
            yield from self.count([path])
        return self.known[path]

    def _shorter(self, path: tuple[str, ...]) -> Counting[tuple[str, int]]:
        """Leave out arguments of signatures, then outer headings, then cut, until it fits."""
        plain = [_ARGUMENTS.sub("(...)", name) for name in path]
        shorter = [SEPARATOR.join(plain[start:]) for start in range(len(plain))]
        last = plain[-1] if plain else ""
        shorter += [last[:length] for length in (120, 80, 60, 40, 20, 10, 5)]
        for line, tokens in zip(shorter, (yield shorter), strict=True):
            if tokens <= self.max_tokens:
                return line, tokens
        return "", 0


def _merge_short(
    sections: Sequence[_Section], max_tokens: int, paths: _Paths
) -> Counting[list[_Section]]:
    """Join short sections with those that follow, under the path that both have in common.

    A heading without text goes with the section below it, which keeps its own path.
    """
    merged: list[_Section] = []
    pending: _Section | None = None
    for section in sections:
        if pending is None:
            pending = section
            continue
        common = _common(pending.path, section.path) or pending.path[:1]
        cost = pending.cost + section.cost
        start, end = pending.start, section.end
        short = pending.cost < SHORT and pending.joins(section)
        if pending.bare and section.level > pending.level:
            pending = _Section(section.path, section.level, start, end, cost, section.bare)
        elif short and cost + (yield from paths.line(common))[1] <= max_tokens:
            pending = _Section(common, pending.level, start, end, cost)
        else:
            merged.append(pending)
            pending = section
    return merged if pending is None else [*merged, pending]


def _pack(section: _Section, budget: int, tokens: _Tokens) -> Counting[list[tuple[int, int]]]:
    """Cut one section into pieces of at most `budget` tokens, filled in order."""
    whole = _Atom(section.start, section.end, 0, -1)
    queue = deque((yield from _atoms(whole, budget, tokens)))
    packs: list[list[_Atom]] = [[]]
    used = 0
    while queue:
        atom = queue.popleft()
        length = atom.end - atom.start
        if used + atom.cost <= budget or (not packs[-1] and length == 1):
            packs[-1].append(atom)
            used += atom.cost
        elif length > 1 and (atom.cost > budget or (used < SHORT and atom.level <= 1)):
            # Too long by itself, or it would leave a heading alone: cut it finer.
            queue.extendleft(reversed((yield from _atoms(atom, budget, tokens))))
        else:
            packs.append([])
            used = 0
            queue.appendleft(atom)
    _fill_last(packs, budget)
    return [(pack[0].start, pack[-1].end) for pack in packs if pack]


def _fill_last(packs: list[list[_Atom]], budget: int) -> None:
    """Give a short last piece the last atom of the piece before, where both stay in bounds."""
    if len(packs) < 2 or len(packs[-2]) < 2:
        return
    last = sum(atom.cost for atom in packs[-1])
    moved = packs[-2][-1].cost
    before = sum(atom.cost for atom in packs[-2]) - moved
    if last < SHORT <= before and last + moved <= budget:
        packs[-1].insert(0, packs[-2].pop())


def _atoms(atom: _Atom, budget: int, tokens: _Tokens) -> Counting[list[_Atom]]:
    """Cut one level finer: into paragraphs, sentences, lines, words by 16, words, characters."""
    patterns = (_PARAGRAPH, _SENTENCE, _LINE, _WORDS, _WORD)
    level = atom.level + 1
    text = tokens.text[atom.start : atom.end]
    if level < len(patterns):
        ends = [match.end() for match in patterns[level].finditer(text)]
    else:
        width = max(1, min(budget, len(text) // 2))
        ends = list(range(width, len(text), width))
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    pieces = [(atom.start + start, atom.start + end) for start, end in pairwise([0, *ends])]
    costs = yield from tokens.costs(pieces, budget)
    return [_Atom(*piece, cost, level) for piece, cost in zip(pieces, costs, strict=True)]


def _bounded(spans: list[Span], max_tokens: int) -> Counting[list[Span]]:
    """Count those that are not, and halve what has more tokens than its parts, as a word cut in two
    may have.
    """
    uncounted = [span for span in spans if not 0 < span.tokens <= max_tokens]
    counts = iter((yield [embed_text(span.heading, span.text) for span in uncounted]))
    bounded: list[Span] = []
    for span in spans:
        tokens = span.tokens if 0 < span.tokens <= max_tokens else next(counts)
        middle = len(span.text) // 2
        if tokens <= max_tokens or middle == 0:
            bounded.append(replace(span, tokens=tokens))
        else:
            halves = [
                Span(span.heading, span.text[:middle]),
                Span(span.heading, span.text[middle:]),
            ]
            bounded += yield from _bounded(halves, max_tokens)
    return bounded


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return tuple(name for name, _ in same)
