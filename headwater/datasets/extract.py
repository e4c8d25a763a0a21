"""Questions and answers that a chunk states by itself: headings, definitions, signatures, details.

Plain pattern matching on one chunk; knows nothing of retrieval, golden questions or quotas. A
sentence that leans on what stands before it ("It is...", "These must...") opens no answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headwater.datasets.sentences import SIGNATURE, paragraphs, plain
from headwater.records import digest_of

#: Words of an answer.
SHORTEST, LONGEST = 5, 48
#: Share of a written question's content words that its answer and its heading must hold.
COVERAGE = 0.6


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What a question names exactly: between quotes, or a call.
_NAMED = re.compile(r"[\"`]([^\"`]+)[\"`]|\b[\w.]+(?=\()")
_VERBS = r"(?P<verb>is|are|can|may|must|should|will|cannot|has|have|takes?|makes?|returns?|uses?)"
#: A sentence's subject of up to five words, its verb and the two words after that.
_NAME = r"[\w.\-\u2019']+(?:\(\))?"
_SUBJECT = re.compile(
    rf"^(?P<subject>[A-Za-z_](?:{_NAME})?(?:\s{_NAME}){{0,5}}?)\s{_VERBS}\s"
    rf"(?:(?P<negation>not)\s)?(?P<next>{_NAME})(?:\s(?P<second>{_NAME}))?"
)
#: "The pump drives ...": an article, one or two words, and a verb in the third person.
_ACTION = re.compile(
    rf"^(?P<subject>(?:An?|The)\s{_NAME}(?:\s{_NAME})?)\s[a-z]+[^s\W]s\s"
    r"(?!(?:of|and|or)\b)"
    r"(?!(?:\S+\s){0,5}(?:is|are|was|were|can|may|must|should|will|has|have)\b)[\w(]"
)
_PREPOSITIONS = {"for", "of", "in", "on", "to", "at", "as", "by", "with", "from", "either", "not"}
_DEFINING = {"a", "an", "the", "one", "used", "defined"}
_PARTICIPLE = re.compile(
    r"^(?:\w{2,}ed|given|taken|made|found|known|written|done|built|set|bound|kept|thrown|chosen"
    r"|sold|paid|sent|held|shown|seen)$"
)
#: First words of what is no subject: pronouns, other leaning words, clauses, and notes of change.
_LEANING = _words(
    "more this that it its they their there these those which here he she we you i such same other "
    "another both all each some any most many one two three first second next last following "
    "former latter none no nothing not only if when whenever while unless until since because "
    "although though as after before in on at by with without for from to of into during once "
    "then thus hence otherwise instead however therefore also so but and or nor yet note warning "
    "tip formally finally similarly furthermore moreover additionally for example see below above "
    "what how why where who whose changed new deprecated added removed should must may can "
    "like using given let return returns raise raises called available availability"
)
#: Words that open a clause inside what would be a subject.
_CLAUSE = _words(
    "if when that which where while return raise raises to do and or but then as because this "
    "these those such its their different other following same"
)
#: An answer that begins so points at something that it does not name.
_POINTING = re.compile(
    r"(?:this|that|it|its|they|their|these|those|such|he|she|here|same|the following|see"
    r"|for example)\b",
    re.I,
)
_COMMON = _words(
    "the and for are was what which who how why when where does did can could would should may "
    "this that these those with from into about have has had its it's their your you will not "
    "purpose role use used using between main given there any some"
)
_HEADING_FORMS = (
    "What does the documentation say about {}?",
    "Can you explain {}?",
    "What should I know about {}?",
    "Tell me about {}.",
)
_LOCATION_FORMS = (
    ("Where can I read about {name}?", "You can read about {name} in {title}."),
    ("Which document covers {name}?", "The document {title} covers {name}."),
    ("Is there anything on {name}?", "Yes, there is a passage on {name} in {title}."),
    ("I am looking for {name}, where is it?", "Look at {title}, where {name} is described."),
)
_TITLE_FORMS = (
    ("Where can I read about {name}?", "The document {title} is about this."),
    ("Is there anything on {name}?", "Yes, there is a document on this, {title}."),
)
_SIGNATURE_FORMS = ("What does {} do?", "What is {} for?", "How does {} behave?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question and its answer, in the chunk's own sentences without their markup."""

    kind: str
    question: str
    answer: str


def pairs(heading: str, text: str, *, opens_section: bool) -> Iterator[Pair]:
    """Everything a chunk can ask and answer.

    Args:
        heading: its heading path.
        opens_section: it is the first chunk under its heading.
    """
    name = plain(heading.rsplit(" > ", 1)[-1]).strip(" :.")
    said = paragraphs(text)
    if opens_section and said and 2 < len(name) <= 60 and "(" not in name:
        answer = _answer(said[0])
        form = _HEADING_FORMS[_choice(name, len(_HEADING_FORMS))]
        if answer:
            yield Pair(kind="heading", question=form.format(_lower_article(name)), answer=answer)
    yield from _signatures(text)
    for paragraph in said:
        for at in range(len(paragraph)):
            yield from _about_subject(
                paragraph[at:], name.split("(")[0].removeprefix("object.").strip()
            )


def locations(title: str, heading: str) -> Iterator[Pair]:
    """Where something is described: poor rows, but there are some in any document."""
    name = plain(heading.rsplit(" > ", 1)[-1])
    title = plain(title)
    forms = _LOCATION_FORMS if name != title else _TITLE_FORMS
    for question, answer in forms:
        values = {"title": title, "name": _lower_first(name)}
        yield Pair(
            kind="location", question=question.format(**values), answer=answer.format(**values)
        )


def best_sentences(question: str, heading: str, text: str) -> str | None:
    """The sentence under a heading that answers a question best, or None.

    It and the heading must hold most of the question's words, and every name that it quotes.
    """
    topic = plain(heading.rsplit(" > ", 1)[-1])
    asked, named = _content(question), [name for name in _NAMED.findall(question) if name]
    best, cover = None, COVERAGE
    for paragraph in paragraphs(text):
        for at in range(len(paragraph)):
            answer = _answer(paragraph[at:])
            said = f"{topic} {answer}"
            if answer is None or not asked or not all(name in said for name in named):
                continue
            if not asked & _content(answer) - _content(topic):
                continue
            held = len(asked & _content(said)) / len(asked)
            if held > cover or (held == cover and best is None):
                best, cover = answer, held
    return best


def _about_subject(said: Sequence[str], heading: str) -> Iterator[Pair]:
    """What a sentence says about its own subject: a definition, or a detail of the section."""
    match = _SUBJECT.match(said[0]) or _ACTION.match(said[0])
    if match is None or not _stands_alone(match["subject"]):
        return
    subject = _lower_first(match["subject"])
    if match.re is _ACTION:
        yield from _detail(heading, subject, f"what does {subject} do", _answer(said))
        return
    verb, after = match["verb"], (match["next"].lower(), (match["second"] or "").lower())
    answer = _answer(said)
    if verb in ("is", "are") and after[0] in _DEFINING and not match["negation"]:
        if answer:
            yield Pair(kind="definition", question=f"What {verb} {subject}?", answer=answer)
    elif not match["negation"] and (asks := _inverted(subject, verb, after)):
        yield from _detail(heading, subject, asks, answer)


def _detail(heading: str, subject: str, asks: str, answer: str | None) -> Iterator[Pair]:
    """A question that names its section, where its subject does not."""
    if answer is None:
        return
    if heading and heading.casefold() not in subject.casefold():
        yield Pair(kind="detail", question=f"In {heading}, {asks}?", answer=answer)
    else:
        yield Pair(kind="detail", question=f"{asks[0].upper()}{asks[1:]}?", answer=answer)


def _inverted(subject: str, verb: str, after: tuple[str, str]) -> str | None:
    """The question that a sentence's subject and verb answer."""
    if after[0] in _PREPOSITIONS:
        return None  # "the uses of", "must either": no verb follows or none that can be asked for
    if verb in ("is", "are"):
        return f"how {verb} {subject} {after[0]}" if _PARTICIPLE.match(after[0]) else None
    if verb in ("can", "may", "must", "should", "will", "cannot"):
        if after[0] == "be" and _PARTICIPLE.match(after[1]):
            return f"how {verb} {subject} be {after[1]}"
        return f"what {verb} {subject} {'be' if after[0] == 'be' else 'do'}"
    plural = not verb.endswith("s")
    base = "have" if verb in ("has", "have") else verb.removesuffix("s")
    return f"what {'do' if plural else 'does'} {subject} {base}"


def _signatures(text: str) -> Iterator[Pair]:
    """Names with arguments on a line of their own, and what their indented body says."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        match = SIGNATURE.match(lines[at])
        at += 1
        if match is None:
            continue
        while at < len(lines) and (not lines[at].strip() or SIGNATURE.match(lines[at])):
            at += 1  # alternative forms of the same signature
        begin = at
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith(" ")):
            if SIGNATURE.match(lines[at]):
                break
            at += 1
        body = "\n".join(re.sub(r"^\s{1,4}", "", line) for line in lines[begin:at])
        said = paragraphs(body)
        answer = _answer(said[0]) if said else None
        if answer:
            name = f"{match[1].removeprefix('object.')}()"
            form = _SIGNATURE_FORMS[_choice(name, len(_SIGNATURE_FORMS))]
            yield Pair(kind="signature", question=form.format(name), answer=answer)


def _answer(said: Sequence[str]) -> str | None:
    """The first sentence, with the second where both are short; None if it cannot stand alone."""
    if not said[0] or _POINTING.match(said[0]):
        return None
    follows = said[1] if len(said) > 1 and not said[1].startswith("Same ") else ""
    both = f"{said[0]} {follows}".rstrip()
    answer = both if len(both.split()) <= LONGEST * 3 // 4 else said[0]
    return answer if SHORTEST <= len(answer.split()) <= LONGEST else None


def _stands_alone(subject: str) -> bool:
    words = subject.casefold().split()
    bare = words[1:] if words[0] in ("a", "an", "the") else words
    return (
        bool(bare)
        and words[0] not in _LEANING
        and not _CLAUSE.intersection(words)
        and (bare[0] not in _LEANING and len(bare[-1]) > 1)
    )


def _content(text: str) -> set[str]:
    """Words that carry meaning, without a plural's s."""
    words = (word.casefold() for word in re.findall(r"\w{3,}", text))
    return {word.removesuffix("s") for word in words if word not in _COMMON}


def _lower_first(text: str) -> str:
    """Lower the first letter of an ordinary word; names and acronyms keep it."""
    first = text.split(maxsplit=1)[0]
    ordinary = first in ("A", "An", "The") or (first[1:].islower() and first != "Python")
    return text[0].lower() + text[1:] if ordinary else text


def _lower_article(name: str) -> str:
    return name[0].lower() + name[1:] if name.startswith(("The ", "A ", "An ")) else name


def _choice(name: str, count: int) -> int:
    return int(digest_of(name)[:8], 16) % count
