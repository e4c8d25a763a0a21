"""The golden set over Python's HTML documentation, and the sample of its pages.

Quotes are checked where the documentation is installed; see `benchmarks.python_docs.documentation`.
"""

import html
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from benchmarks.python_docs import DEBIAN, GOLDEN, NAME, VARIABLE, documentation, pages
from headwater.datasets.golden import Question, load_curated, read_file
from headwater.documents.kinds.base import base_uri
from headwater.documents.parse import parse
from headwater.documents.parsed import Rejected
from headwater.documents.sources import list_items
from headwater.errors import HeadwaterError

QUESTIONS = read_file(GOLDEN).items
BASE = base_uri(NAME)
FOLDER = Path(os.environ.get(VARIABLE) or DEBIAN)
installed = pytest.mark.skipif(
    not (FOLDER / "library").is_dir(), reason=f"no python3.11-doc at {FOLDER}; {VARIABLE} names it"
)
#: As many words in a row as a page has them are a quotation: of a question, of a reference.
COPIED_QUESTION, COPIED_REFERENCE = 6, 8
#: Share of a quote's words that its question may have: most of them are "the" and "a".
SHARED = 0.6


def fold(text: str) -> str:
    return " ".join(text.split())


def plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


# The file.


def test_there_are_enough_questions_over_many_pages() -> None:
    assert len(QUESTIONS) >= 110
    assert len({item.uris[0] for item in QUESTIONS}) >= 60
    assert len({item.question.lower() for item in QUESTIONS}) == len(QUESTIONS)
    sections = {item.uris[0].removeprefix(BASE).split("/")[0] for item in QUESTIONS}
    assert sections >= {
        "library", "howto", "tutorial", "c-api", "whatsnew", "faq", "using", "extending",
        "distributing", "installing", "reference",
    }  # fmt: skip
    assert sum(len(item.uris) > 1 for item in QUESTIONS) >= 20, "some have several pages"


def test_ids_are_not_those_of_the_shipped_questions() -> None:
    """Both are in one golden set where strategies are compared."""
    assert not {item.id for item in load_curated()} & {item.id for item in QUESTIONS}


@pytest.mark.parametrize("item", QUESTIONS, ids=lambda item: item.id)
def test_questions_have_short_quotes_and_words_of_their_own(item: Question) -> None:
    assert item.evidence and len(set(item.uris)) == len(item.uris)
    assert all(uri.startswith(BASE) and uri.endswith(".html") for uri in item.uris)
    assert len(item.reference.split()) <= 45
    asked = set(plain_words(item.question))
    for quote in item.evidence:
        assert len(quote.split()) <= 12
        words = plain_words(quote)
        assert sum(word in asked for word in words) / len(words) <= SHARED, quote


# Against the documentation.


@pytest.fixture(scope="module")
def parsed() -> dict[str, str]:
    """Text of the pages that have a quote somewhere, or are named, as the parser gives it."""
    named = {uri for item in QUESTIONS for uri in item.uris}
    quotes = [quote for item in QUESTIONS for quote in item.evidence]
    found = {}
    for path in sorted(FOLDER.rglob("*.html")):
        uri = BASE + path.relative_to(FOLDER).as_posix()
        content = path.read_bytes()
        # Much quicker than the parser, and finds more: menus, too.
        loose = fold(html.unescape(re.sub(r"<[^>]*>", "", content.decode())))
        if uri in named or any(quote in loose for quote in quotes):
            try:
                found[uri] = fold(parse(content, "text/html", uri).text)
            except Rejected:  # the table of contents is nothing but links
                assert uri not in named
    return found


@installed
def test_pages_are_those_that_hold_the_quotes(parsed: dict[str, str]) -> None:
    wrong = []
    for item in QUESTIONS:
        wrong += [
            f"{item.id}: no page says: {quote}"
            for quote in item.evidence
            if not any(quote in text for text in parsed.values())
        ]
        holders = {
            uri for uri, text in parsed.items() if any(quote in text for quote in item.evidence)
        }
        wrong += [f"{item.id}: {uri} says it, too" for uri in holders.difference(item.uris)]
        wrong += [f"{item.id}: {uri} does not say it" for uri in set(item.uris) - holders]
        if item.evidence[0] not in parsed[item.uris[0]]:
            wrong.append(f"{item.id}: the first page does not have the first quote")
    assert wrong == []


@installed
def test_questions_and_references_are_not_copied(parsed: dict[str, str]) -> None:
    copied = []
    for item in QUESTIONS:
        said = " ".join(word for uri in item.uris for word in plain_words(parsed[uri]))
        for text, length in ((item.question, COPIED_QUESTION), (item.reference, COPIED_REFERENCE)):
            words = plain_words(text)
            runs = (" ".join(words[at : at + length]) for at in range(len(words) - length + 1))
            copied += [f"{item.id}: {run}" for run in runs if f" {run} " in f" {said} "]
    assert copied == []


@installed
def test_the_documentation_is_sampled() -> None:
    some, whole = (pages(FOLDER, GOLDEN, others) for others in (20, None))
    assert some.named == whole.named == len({uri for item in QUESTIONS for uri in item.uris})
    assert (some.others, whole.left_out) == (20, 0)
    assert len(list_items(some.source)) == some.named + some.others


# The sample.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pages that questions name, ten others, and the same texts in another format."""
    folder = tmp_path / "pages"
    for name in ("a", "odd [b]", "sub/c", *(f"other-{number}" for number in range(10))):
        for path in (folder / f"{name}.html", folder / f"_sources/{name}.rst.txt"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"<p>{name}</p>")
    return folder


def write_questions(path: Path, *uris: str) -> Path:
    items = [
        {"id": f"q{at}", "question": f"What is {at}?", "reference": "It is so.", "category": "c",
         "uris": [uri]}
        for at, uri in enumerate(uris)
    ]  # fmt: skip
    path.write_text(yaml.safe_dump({"items": items}))
    return path


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    uris = ("docs:///a.html", "docs:///odd%20%5Bb%5D.html", "docs:///sub/c.html")
    return write_questions(tmp_path / "golden.yaml", *uris)


def listed(folder: Path, questions: Path, others: int | None) -> set[str]:
    found = pages(folder, questions, others)
    names = {unquote(item.uri) for item in list_items(found.source)}
    assert len(names) == found.named + found.others
    return names


def test_a_sample_is_the_named_pages_and_some_others(folder: Path, questions: Path) -> None:
    named = {"docs:///a.html", "docs:///odd [b].html", "docs:///sub/c.html"}
    found = pages(folder, questions, 4)
    assert (found.named, found.others, found.left_out) == (3, 4, 6)
    four = listed(folder, questions, 4)
    assert named < four
    assert all(name.endswith(".html") for name in four)
    assert listed(folder, questions, 4) == four, "the same every time"
    assert four < listed(folder, questions, 7), "a larger one holds the smaller"
    assert listed(folder, questions, 0) == named
    whole = listed(folder, questions, None)
    assert len(whole) == 13 and whole == listed(folder, questions, 99)
    (folder / "new.html").write_text("<p>new</p>")
    assert len(four & listed(folder, questions, 4)) >= 6, "a new page moves one at most"


def test_questions_must_be_about_the_folder(folder: Path, tmp_path: Path) -> None:
    missing = write_questions(tmp_path / "m.yaml", "docs:///a.html", "docs:///gone.html")
    with pytest.raises(HeadwaterError, match=r"lacks 1 documents .* docs:///gone\.html"):
        pages(folder, missing)
    for uris in (["docs:///a.html", "more:///a.html"], ["pydoc://topics/if"], []):
        other = write_questions(tmp_path / "o.yaml", *uris)
        with pytest.raises(HeadwaterError, match="does not name documents of one folder"):
            pages(folder, other)


def test_the_documentation_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert documentation() == tmp_path
    inner = tmp_path / "inner"
    with pytest.raises(HeadwaterError, match="no documentation at"):
        documentation(inner)
    inner.mkdir()
    assert documentation(inner) == inner
