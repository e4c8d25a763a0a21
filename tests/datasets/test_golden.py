import re
from dataclasses import asdict
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from headwater.datasets.golden import (
    CURATED,
    ENOUGH_CONFIRMED,
    Question,
    accept,
    add,
    build_golden_set,
    document_sources,
    golden_digest,
    load_curated,
    pending,
    read_file,
    read_golden,
    reject,
)
from headwater.datasets.known_items import PER_DOCUMENT, Document, provisional_items
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem, Heading

TOPIC = "pydoc://topics/"
QUESTIONS = read_file(CURATED / "python_language.yaml").items


def fold(text: str) -> str:
    return " ".join(text.split())


def plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


FOLDED = {f"{TOPIC}{name}": fold(text) for name, text in topics.items()}
PLAIN = " ".join(plain_words("\n".join(topics.values())))
#: As many words in a row as the topics have them are a quotation.
COPIED_WORDS = 8


# The curated questions, against the documents they are about.


def test_there_are_enough_questions_over_many_topics() -> None:
    assert len(QUESTIONS) >= 66
    assert len({item.uris[0] for item in QUESTIONS}) >= 45
    assert len({item.question.lower() for item in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("item", QUESTIONS, ids=lambda item: item.id)
def test_uris_are_the_topics_that_hold_the_evidence(item: Question) -> None:
    assert item.evidence
    assert all(len(quote.split()) <= 12 for quote in item.evidence)
    for quote in item.evidence:
        assert any(fold(quote) in text for text in FOLDED.values()), f"no topic says: {quote}"
    holders = {uri for uri, text in FOLDED.items() if any(fold(q) in text for q in item.evidence)}
    assert set(item.uris) == holders
    assert len(item.uris) == len(holders)
    assert fold(item.evidence[0]) in FOLDED[item.uris[0]]


@pytest.mark.parametrize("item", QUESTIONS, ids=lambda item: item.id)
def test_references_are_short_and_in_our_own_words(item: Question) -> None:
    assert 15 <= len(item.reference.split()) <= 45
    words = plain_words(item.reference)
    runs = {" ".join(words[i : i + COPIED_WORDS]) for i in range(len(words) - COPIED_WORDS + 1)}
    assert [run for run in runs if run in PLAIN] == []


def test_curated_items_are_frozen_by_a_digest_that_ignores_order() -> None:
    items = load_curated()
    assert [item.id for item in items] == [item.id for item in QUESTIONS]
    assert golden_digest(items) == golden_digest(items[::-1])
    changed = [GoldenItem(**{**asdict(items[0]), "reference": "Another."}), *items[1:]]
    assert golden_digest(changed) != golden_digest(items)


# Files.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("items: [", "not YAML"),
        ("items: [{id: a, question: Is it so, reference: It is so., uris: [u]}]", "category"),
        ("items: []\nquestions: []", "questions"),
        ("- a\n- b", "the whole"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "golden.yaml"
    path.write_text(text)
    with pytest.raises(HeadwaterError, match=said):
        read_file(path)


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.yaml"
    one = "{id: a, question: Is it so, reference: It is so., uris: [u], category: c}"
    path.write_text(f"items: [{one}, {one}]")
    with pytest.raises(HeadwaterError, match="two questions: a"):
        read_file(path)


# Provisional questions.


def document(uri: str, title: str, sections: dict[str, str]) -> Document:
    text, headings = "", []
    for name, body in sections.items():
        headings.append(Heading(start=len(text.encode()), level=1, text=name))
        text += f"{name}\n=====\n\n{body}\n\n"
    return uri, title, headings, text


PUMPS = document(
    "a:///pumps.html",
    "Pumps",
    {
        "Priming, début": "Fill the housing with water before the first start. " + "é" * 90,
        "Limits": "x = 3; y = [1, 2, 3]; z = {1: 2, 3: 4}; w = (5, 6, 7, 8, 9, 10, 11)",
        "Noise": "A knocking pump draws air through a leaking suction pipe.",
        "Parts": "The following parts of a pump are subject to wear:\n\n- seals",
        "Empty": "",
    },
)
VALVES = document(
    "a:///valves.html",
    "Valves",
    {"Valves": "A valve sets the flow through a pipe by narrowing its passage."},
)


def test_provisional_questions_come_from_headings_and_their_first_sentences() -> None:
    items = provisional_items([PUMPS, VALVES], share=1)
    by_question = {item.question: item for item in items}
    assert set(by_question) == {
        "What does Pumps say about Priming, début?",
        "What does Pumps say about Noise?",
        "What is Valves about?",
    }
    noise = by_question["What does Pumps say about Noise?"]
    assert noise.reference == "A knocking pump draws air through a leaking suction pipe."
    assert noise.uris == ("a:///pumps.html",)
    assert all(item.provisional for item in items)


def test_a_document_without_headings_is_asked_about_by_its_title() -> None:
    body = "The archive is open on weekdays. It closes at noon on Fridays and on holidays."
    (item,) = provisional_items([("a:///x.txt", "x", [], body)])
    assert (item.question, item.reference) == ("What is x about?", body)


def test_an_edit_of_one_document_leaves_the_questions_about_others() -> None:
    before = {i for i in provisional_items([PUMPS, VALVES]) if i.uris == (PUMPS[0],)}
    edited = document(
        VALVES[0], "Taps", {"Taps": "A tap lets out water where a pipe ends, or not."}
    )
    new = document("a:///n.txt", "New", {"New": "Nobody has written about this thing before now."})
    after = {i for i in provisional_items([new, edited, PUMPS]) if i.uris == (PUMPS[0],)}
    assert before and before == after


def test_the_limit_gives_every_document_its_first_question_first() -> None:
    many = [
        document(
            f"a:///{n}.txt",
            f"Machine {n}",
            {
                f"Part {k}": f"Part {k} of this machine is made of steel and copper."
                for k in range(9)
            },
        )
        for n in range(4)
    ]
    items = provisional_items(many, limit=4)
    assert {item.uris[0] for item in items} == {name for name, *_ in many}
    assert len(provisional_items(many, limit=100, share=1)) == 4 * PER_DOCUMENT
    # By default half of the sections are left to train on.
    assert len(provisional_items(many, limit=100)) == 4 * 5
    assert items == provisional_items(many[::-1], limit=4)


def test_the_same_question_with_one_answer_names_all_documents_with_two_it_is_dropped() -> None:
    body = {"Valves": "A valve sets the flow through a pipe by narrowing its passage."}
    copy = document("a:///copy.html", "Valves", body)
    (item,) = provisional_items([VALVES, copy])
    assert item.uris == ("a:///copy.html", "a:///valves.html")
    other = document(
        "a:///other.html", "Valves", {"Valves": "A valve of the heart has two or three leaflets."}
    )
    assert provisional_items([VALVES, other]) == []


# The table.


def write_documents(lake: Lake, *documents: Document, source: str = "a") -> None:
    rows = lake.read("clean_documents").to_pylist()
    rows += [
        {
            "uri": uri,
            "source": source,
            "shard": f"{len(uri) % 4:02x}",
            "title": title,
            "language": "en",
            "text": text,
            "headings": [asdict(heading) for heading in headings],
            "licence": "unknown",
            "input_digest": "0" * 64,
            "digest": "0" * 64,
        }
        for uri, title, headings, text in documents
    ]
    lake.overwrite("clean_documents", rows_to_table("clean_documents", rows))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    return tmp_path / "golden.yaml"


def test_the_default_corpus_has_all_curated_questions_and_no_provisional(
    lake: Lake, user_file: Path
) -> None:
    write_documents(lake, *((f"{TOPIC}{k}", k, [], text) for k, text in topics.items()))
    stats, n = build_golden_set(lake, user_file), len(QUESTIONS)
    assert (stats.items, stats.curated, stats.provisional, stats.dropped) == (n, n, 0, 0)
    assert stats.digest == golden_digest(load_curated()) == golden_digest(read_golden(lake))


def test_another_corpus_has_provisional_questions_alone(lake: Lake, user_file: Path) -> None:
    write_documents(lake, PUMPS, VALVES)
    stats = build_golden_set(lake, user_file)
    assert (stats.items, stats.curated, stats.provisional) == (2, 0, 2)
    assert stats.dropped == len(QUESTIONS)
    assert pending(lake) == read_golden(lake)


def test_only_the_source_without_questions_gets_provisional_ones(
    lake: Lake, user_file: Path
) -> None:
    write_documents(lake, VALVES, source="asked")
    write_documents(lake, PUMPS, source="young")
    curated = [
        GoldenItem(
            id=f"q{n}",
            question=f"Question {n} about valves?",
            reference="They set the flow.",
            uris=(VALVES[0], "a:///gone.html"),
            category="c",
            provisional=False,
        )
        for n in range(ENOUGH_CONFIRMED)
    ]
    stats = build_golden_set(lake, user_file, curated)
    assert (stats.curated, stats.provisional) == (ENOUGH_CONFIRMED, 1)
    assert {uri for item in read_golden(lake) for uri in item.uris} == {VALVES[0], PUMPS[0]}


def test_what_stands_in_for_a_duplicate_answers_for_it(lake: Lake, user_file: Path) -> None:
    copy = ("a:///old/valves.html", *VALVES[1:])
    write_documents(lake, PUMPS, VALVES, copy)
    row = {"uri": copy[0], "source": "a", "shard": "00", "cluster": VALVES[0]}
    row |= {"survivor": VALVES[0], "similarity": 1.0, "kind": "exact"}
    lake.overwrite("duplicates", rows_to_table("duplicates", [row]))
    asked = ("How is the flow set?", "They set the flow.")
    add(user_file, *asked, copy[0])
    build_golden_set(lake, user_file, [])
    confirmed, *provisional = read_golden(lake)
    assert confirmed.uris == (VALVES[0],)
    assert copy[0] not in {uri for item in provisional for uri in item.uris}


def test_an_unchanged_golden_set_is_not_written_again(lake: Lake, user_file: Path) -> None:
    write_documents(lake, PUMPS)
    first = build_golden_set(lake, user_file)
    version = lake.version("golden_set")
    assert build_golden_set(lake, user_file) == first
    assert lake.version("golden_set") == version


def test_an_empty_lake_gives_an_empty_table(lake: Lake, user_file: Path) -> None:
    stats = build_golden_set(lake, user_file)
    assert (stats.items, stats.dropped) == (0, len(QUESTIONS))
    assert lake.version("golden_set") is not None


# Review.


def test_accepting_and_rejecting_turns_provisional_questions_into_confirmed_ones(
    lake: Lake, user_file: Path
) -> None:
    write_documents(lake, PUMPS, VALVES)
    build_golden_set(lake, user_file)
    good, bad = pending(lake)
    accept(user_file, good)
    reject(user_file, bad.id)
    stats = build_golden_set(lake, user_file)
    assert (stats.confirmed, stats.provisional) == (1, 1)
    kept = {item.id: item.provisional for item in read_golden(lake)}
    assert kept[good.id] is False
    assert bad.id not in kept

    reject(user_file, good.id)
    assert build_golden_set(lake, user_file).confirmed == 0
    accept(user_file, good)
    assert build_golden_set(lake, user_file).confirmed == 1


def test_adding_a_question_of_ones_own(lake: Lake, user_file: Path) -> None:
    write_documents(lake, PUMPS)
    known = document_sources(lake)
    item = add(
        user_file, "Why does it knock?", "It draws air: “leak”.", "a:///pumps.html", known=known
    )
    build_golden_set(lake, user_file)
    assert item in read_golden(lake)
    with pytest.raises(HeadwaterError, match=r"such as a:///pumps\.html"):
        add(user_file, "Why does it knock?", "It draws air.", "b:///pumps.html", known=known)
    with pytest.raises(HeadwaterError, match="reference"):
        add(user_file, "Why does it knock?", " ", "a:///pumps.html", known=known)


def test_a_confirmed_question_must_not_take_a_curated_id(lake: Lake, user_file: Path) -> None:
    curated = load_curated()[0]
    accept(user_file, curated)
    with pytest.raises(HeadwaterError, match=curated.id):
        build_golden_set(lake, user_file)


def test_a_confirmed_question_whose_document_is_gone_is_dropped_and_told(
    lake: Lake, user_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_documents(lake, PUMPS)
    item = add(user_file, "What is a valve?", "It sets the flow.", VALVES[0])
    stats = build_golden_set(lake, user_file, curated=[])
    assert (stats.confirmed, stats.dropped) == (0, 1)
    assert item.id in caplog.text
