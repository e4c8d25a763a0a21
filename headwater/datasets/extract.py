"""Questions and answers that a chunk states by itself: headings, definitions, signatures.

Plain pattern matching on one chunk; knows nothing of retrieval, golden questions or quotas.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headwater.records import digest_of

#: Words of an answer.
SHORTEST, LONGEST = 7, 48
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?=[A-Z\"'`(*])")
_CODE = re.compile(r"^\s*(>>>|\.\.\.|#|\w+\s*::=|[|+]--)|::=|[{};]\s*$|^\s*\w+\s*=\s|^\s{8,}\S")
_SIGNATURE = re.compile(r"^\s{0,3}((?:[a-z_]\w*\.)*[A-Za-z_]\w*)\(([^()\n]*)\)\s*(?:->\s*\S+)?\s*$")
_DEFINITION = re.compile(
    r"^(?:(?P<article>An?|The)\s+)?(?P<term>[*\"'`]?[A-Za-z_][\w*\"'`.-]*(?:\s[\w*\"'`.-]+){0,3}?)"
    r"\s(?P<verb>is|are)\s(?:an?|the|used|defined|evaluated|executed|called|created|objects?)\b"
)
#: First words of what is no term: pronouns, and openings of a subordinate clause.
_VAGUE = {
    "this",
    "that",
    "it",
    "they",
    "there",
    "these",
    "those",
    "which",
    "here",
    "one",
    "he",
    "if",
    "when",
    "for",
    "while",
    "unless",
    "since",
    "because",
    "although",
    "as",
    "after",
    "before",
    "in",
    "on",
    "at",
    "by",
    "with",
    "formally",
    "otherwise",
    "thus",
    "note",
    "so",
    "but",
    "and",
    "or",
    "both",
    "all",
    "each",
    "some",
    "any",
    "most",
    "such",
    "following",
}
#: Words that open a clause inside what would be a term.
_CLAUSE = {"if", "when", "that", "which", "where", "return", "raise", "raises", "to", "do"}
_HEADING_FORMS = (
    "What does the documentation say about {}?",
    "Can you explain {}?",
    "What should I know about {}?",
    "Tell me about {}.",
)
#: A sentence's subject of up to five words, before a verb that closes it.
_SUBJECT = re.compile(
    r"^(?P<subject>[A-Z\"'`*][\w*\"'`.-]*(?:\s[\w*\"'`.-]+){0,4}?)\s"
    r"(?:is|are|was|were|can|may|must|should|will|has|have|takes?|makes?|returns?|uses?)\b"
)
_SIGNATURE_FORMS = ("What does {} do?", "What is {} for?", "How does {} behave?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question and its answer, in the chunk's own sentences."""

    kind: str
    question: str
    answer: str


def pairs(heading: str, text: str, *, opens_section: bool) -> Iterator[Pair]:
    """Everything a chunk can ask and answer.

    Args:
        heading: its heading path.
        opens_section: it is the first chunk under its heading.
    """
    said = sentences(text)
    name = _tidy(heading.rsplit(" > ", 1)[-1])
    if opens_section and said and 2 < len(name) <= 80:
        form = _HEADING_FORMS[_choice(name, len(_HEADING_FORMS))]
        yield Pair(kind="heading", question=form.format(f'"{name}"'), answer=_answer(said))
    for at, sentence in enumerate(said):
        match = _DEFINITION.match(sentence)
        if match and _is_term(match["term"]):
            term = f"{(match['article'] or '').lower()} {match['term']}".strip()
            question = f"What {match['verb']} {_tidy(term)}?"
            yield Pair(kind="definition", question=question, answer=_answer(said[at:]))
    yield from _signatures(text)
    yield from _details(name, said)


def _details(heading: str, said: list[str]) -> Iterator[Pair]:
    """Sentences with a plain subject: what the section says about it."""
    for sentence in said:
        match = _SUBJECT.match(sentence)
        if match and _is_term(match["subject"]):
            subject = _tidy(match["subject"])
            question = f'What is said about {_lower_first(subject)} in "{heading}"?'
            yield Pair(kind="detail", question=question, answer=sentence)


def sentences(text: str) -> list[str]:
    """Sentences of running prose, whitespace folded; code, grammar and fragments are left out."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if not lines or any(_CODE.search(line) for line in lines):
            continue
        if _SIGNATURE.match(lines[0]):
            lines = lines[1:]
        for sentence in _SENTENCE.split(" ".join(" ".join(lines).split())):
            words = sentence.split()
            whole = sentence.endswith((".", ".)", '."')) and re.match(r"[A-Z\"'`*(]", sentence)
            if whole and SHORTEST <= len(words) <= LONGEST and not sentence.startswith("See "):
                found.append(sentence)
    return found


def best_sentences(question: str, text: str) -> str | None:
    """The sentence that shares most words with a question, with the next where it is short."""
    said = sentences(text)
    asked = {word.casefold() for word in re.findall(r"\w{3,}", question)}
    if not said:
        return None

    def overlap(sentence: str) -> float:
        words = {word.casefold() for word in re.findall(r"\w{3,}", sentence)}
        return len(words & asked) / (len(words) ** 0.5 or 1)

    best = max(range(len(said)), key=lambda at: (overlap(said[at]), -at))
    return _answer(said[best:]) if overlap(said[best]) > 0 else None


def _signatures(text: str) -> Iterator[Pair]:
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        match = _SIGNATURE.match(lines[at])
        at += 1
        if match is None:
            continue
        while at < len(lines) and (not lines[at].strip() or _SIGNATURE.match(lines[at])):
            at += 1  # alternative forms of the same signature
        body = []
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith(" ")):
            if _SIGNATURE.match(lines[at]):
                break
            body.append(re.sub(r"^\s{1,4}", "", lines[at]))
            at += 1
        said = sentences("\n".join(body))
        name = f"{match[1]}()"
        if said:
            form = _SIGNATURE_FORMS[_choice(name, len(_SIGNATURE_FORMS))]
            yield Pair(kind="signature", question=form.format(name), answer=_answer(said))


def _answer(said: list[str]) -> str:
    """The first sentence, and the second where both are short enough."""
    if len(said) > 1 and len(said[0].split()) + len(said[1].split()) <= LONGEST * 3 // 4:
        return f"{said[0]} {said[1]}"
    return said[0]


def _is_term(term: str) -> bool:
    words = term.casefold().split()
    clause = _CLAUSE.intersection(words)
    return words[0] not in _VAGUE and not clause and term.count('"') % 2 == 0


def _tidy(text: str) -> str:
    return " ".join(re.sub(r"[*\"`“”]", "", text).strip("' :").split())


def _lower_first(text: str) -> str:
    """Lower the first letter of an ordinary word; names and acronyms keep it."""
    first = text.split(maxsplit=1)[0]
    return text[0].lower() + text[1:] if first[1:].islower() else text


def _choice(name: str, count: int) -> int:
    return int(digest_of(name)[:8], 16) % count
