"""Known-item questions: made from a document's own title and headings, until people have asked.

A provisional stand-in for a golden set. The question names a section, the reference answer is how
the section begins. Knows text and headings; knows no storage.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil

from headwater.records import GoldenItem, Heading, digest_of, short

#: Provisional questions about one document, so that a long one does not crowd out the others.
PER_DOCUMENT = 6
#: Characters of a reference answer: a shorter one says too little to be scored.
SHORTEST, LONGEST = 40, 320

#: A document as (uri, title, headings, text).
Document = tuple[str, str, Sequence[Heading], str]

#: Share of a document's sections that provisional questions may take.
ASKED_SHARE = 0.5
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\Wa-z_]|[\"'(\[])|(?<=[\u3002\uff01\uff1f])")
_NOT_WORDS = re.compile(r"[\W_]+")


def provisional_items(
    documents: Iterable[Document],
    limit: int = 40,
    *,
    skip: Container[str] = (),
    share: float = ASKED_SHARE,
) -> list[GoldenItem]:
    """Questions with references made from titles and headings, marked provisional.

    A question's id is a hash of its document's URI and its heading, and the ids decide which are
    chosen: an edit of one document leaves the questions about the others alone. A question that
    several documents answer alike carries all their URIs; one that they answer differently is
    dropped, for no single document would be right.

    Args:
        limit: at most this many; every document gets its first before one gets its second.
        skip: ids that are not wanted.
        share: of a document's sections that are asked about, at least one; rows to train on are
            made of the others, for what judges may not teach.
    """
    asked: defaultdict[str, list[GoldenItem]] = defaultdict(list)
    for document in documents:
        for item in _known_items(*document):
            asked[item.question].append(item)
    unambiguous = [
        replace(min(same, key=lambda item: item.uris), uris=tuple(sorted(i.uris[0] for i in same)))
        for same in asked.values()
        if len({item.reference for item in same}) == 1
    ]
    taken: Counter[str] = Counter()
    held = Counter(item.uris[0] for item in unambiguous)
    order: list[tuple[int, str, GoldenItem]] = []
    for item in sorted(unambiguous, key=lambda item: item.id):
        if item.id not in skip:
            taken[item.uris[0]] += 1
            order.append((taken[item.uris[0]], item.id, item))
    chosen = sorted(
        entry
        for entry in order
        if entry[0] <= min(PER_DOCUMENT, ceil(share * held[entry[2].uris[0]]))
    )
    return [item for _, _, item in chosen[:limit]]


def _known_items(
    uri: str, title: str, headings: Sequence[Heading], text: str
) -> Iterator[GoldenItem]:
    """One candidate for each heading that a usable sentence follows."""
    data = text.encode()
    ends = [*(heading.start for heading in headings[1:]), len(data)]
    sections = [
        (heading.text, data[heading.start : end].decode(errors="replace"))
        for heading, end in zip(headings, ends, strict=False)
    ]
    seen: set[str] = set()
    for name, section in sections or [(title, text)]:
        reference = _opening(section, name)
        if not name or name in seen or not reference:
            continue
        seen.add(name)
        whole = _plain(name) == _plain(title)
        yield GoldenItem(
            id=f"auto-{short(digest_of(uri, name))}",
            question=f"What is {title} about?" if whole else f"What does {title} say about {name}?",
            reference=reference,
            uris=(uri,),
            category="known item",
            provisional=True,
        )


def _opening(section: str, name: str) -> str:
    """The first sentences of a section's first paragraph of prose, or nothing."""
    for paragraph in section.split("\n\n"):
        lines = [line for line in paragraph.split("\n") if _plain(line) not in ("", _plain(name))]
        prose = " ".join(" ".join(lines).split())
        letters = sum(char.isalpha() or char.isspace() for char in prose)
        if len(prose) < SHORTEST or letters < 0.8 * len(prose):
            continue
        opening = ""
        for sentence in _SENTENCE_END.split(prose):
            longer = f"{opening} {sentence}".strip()
            if opening and (len(opening) >= 2 * SHORTEST or len(longer) > LONGEST):
                break
            opening = longer
        # A colon announces something that the reference would lack.
        if SHORTEST <= len(opening) <= LONGEST and not opening.endswith(":"):
            return opening
    return ""


def _plain(text: str) -> str:
    """Letters and digits only, lower case: equal for a heading and its line in the text."""
    return _NOT_WORDS.sub("", text).lower()
