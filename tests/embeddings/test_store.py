"""The contract of every vector store, run on both backends.

A Qdrant server is emulated by its client; TEST_QDRANT_URL names a real one to run the same on
(docs/search.md). What a run makes there has a prefix of its own, and is deleted afterwards.
"""

import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from headwater.embeddings import bm25
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.server import ServerStore
from headwater.embeddings.store import Index, Point, VectorStore
from headwater.errors import HeadwaterError
from tests.embeddings.examples import WordEncoder, chunk, contents, corpus

SERVER = os.environ.get("TEST_QDRANT_URL")
#: Runs at once on one server do not meet.
PREFIX = f"headwater-test-{uuid4().hex[:8]}-"
QUESTIONS = [
    "What does the with statement wrap?",
    "Which variable reserves space: __slots__?",
    "How is a generator function defined with yield?",
    "leave a function call",
]


def make(backend: str, tmp_path) -> VectorStore:
    if backend == "edge":
        return EdgeStore(tmp_path / "indexes")
    if SERVER:
        return ServerStore.connect(SERVER, os.environ.get("TEST_QDRANT_API_KEY"), PREFIX)
    from qdrant_client import QdrantClient

    return ServerStore(QdrantClient(":memory:"))


@pytest.fixture(params=["edge", "server"])
def store(request, tmp_path) -> Iterator[VectorStore]:
    made = make(request.param, tmp_path)
    yield made
    remove_all(made)


def remove_all(store: VectorStore) -> None:
    """Leave nothing on a server that is there after the run."""
    if not isinstance(store, ServerStore):
        return
    for version in store.versions():
        store.delete(version)
    for collection in store.client.get_collections().collections:  # those that were not finished
        if collection.name.startswith(store.prefix):
            store.client.delete_collection(collection.name)


@pytest.fixture
def index(store) -> Iterator[Index]:
    store.build("v1", contents(corpus()))
    opened = store.open("v1")
    yield opened
    opened.close()


def answers(index: Index) -> list:
    vectors = WordEncoder().encode(QUESTIONS)
    return [
        (index.dense(vector, 5), index.bm25(question, 5))
        for question, vector in zip(QUESTIONS, vectors, strict=True)
    ]


def opened_answers(store: VectorStore, version: str) -> list:
    index = store.open(version)
    try:
        return answers(index)
    finally:
        index.close()


def assert_same(ours: list, theirs: list) -> None:
    """Equal hits in equal order; scores to the precision of a float32 sum."""
    for one, other in zip(ours, theirs, strict=True):
        for mine, yours in zip(one, other, strict=True):
            assert [replace(hit, score=0) for hit in mine] == [replace(h, score=0) for h in yours]
            scores = [hit.score for hit in yours]
            assert [hit.score for hit in mine] == pytest.approx(scores, abs=1e-4)


def test_every_point_is_stored_with_what_answers_need(index):
    assert index.count() == len(corpus())
    (hit,) = index.bm25("anonymous", 5)
    row = next(row for row in corpus() if row["heading"] == "lambda")
    assert (hit.id, hit.uri, hit.text) == (row["id"], "doc://lambda", row["text"])
    assert (hit.title, hit.heading) == ("doc://lambda", "lambda")
    assert (hit.start, hit.end) == (row["start"], row["end"])


def test_dense_scores_are_cosine_similarities_best_first(index):
    rows = contents(corpus())
    points = list(rows.fetch(range(len(rows.points))))
    (vector,) = WordEncoder().encode(["the raise statement"])
    expected = sorted(((float(vector @ p.vector), p.id) for p in points), reverse=True)
    hits = index.dense(vector, 8)
    assert [hit.id for hit in hits] == [id for _, id in expected]
    assert [hit.score for hit in hits] == pytest.approx([s for s, _ in expected], abs=1e-5)


def test_bm25_scores_follow_the_formula(index):
    rows = corpus()
    words = [re.findall(r"[a-z0-9]+", f"{r['heading']} {r['text']}".lower()) for r in rows]
    having = sum("statement" in text for text in words)
    idf = math.log((len(rows) - having + 0.5) / (having + 0.5) + 1)
    hits = {hit.heading: hit.score for hit in index.bm25("statement", 8)}
    assert len(hits) == having
    for row, text in zip(rows, words, strict=True):
        if frequency := text.count("statement"):
            norm = bm25.K * (1 - bm25.B + bm25.B * len(text) / bm25.MEAN_WORDS)
            score = idf * frequency * (bm25.K + 1) / (frequency + norm)
            assert hits[row["heading"]] == pytest.approx(score, rel=1e-4)


def test_bm25_finds_names_and_keywords(index):
    assert index.bm25("slots", 1)[0].heading == "slots"
    assert index.bm25("__SLOTS__", 1)[0].heading == "slots"
    assert index.bm25("with", 1)[0].heading == "with"


@pytest.mark.parametrize("question", ["", "?!", "zebra"])
def test_bm25_has_no_hits_without_a_common_word(index, question):
    assert index.bm25(question, 5) == []


def test_limit_bounds_the_hits(index):
    (vector,) = WordEncoder().encode(["statement"])
    assert len(index.dense(vector, 3)) == 3
    assert len(index.dense(vector, 100)) == len(corpus())
    assert len(index.bm25("the statement", 2)) == 2


def test_ties_are_in_order_of_id(store):
    rows = [chunk(f"doc://copy/{n}", "The same words everywhere.") for n in range(30)]
    store.build("ties", contents(rows))
    index = store.open("ties")
    (vector,) = WordEncoder().encode(["same words"])
    ids = sorted(row["id"] for row in rows)
    assert [hit.id for hit in index.dense(vector, 30)] == ids
    assert [hit.id for hit in index.bm25("same words", 30)] == ids
    index.close()


def test_a_changed_corpus_answers_like_a_full_build(store):
    rows = corpus()
    store.build("v1", contents(rows))
    edited = chunk(
        "doc://raise", "Raise now ends the statement with an anonymous zebra.", heading="raise"
    )
    moved = chunk("doc://yield", rows[4]["text"], heading="yield", start=700)
    new = chunk("doc://new", "The walrus statement assigns within an expression.", heading="new")
    changed = [rows[0], edited, rows[3], moved, *rows[5:], new]  # "slots" is gone
    stats = store.build("v2", contents(changed), base="v1")
    store.build("full", contents(changed))
    assert stats.points == len(changed)
    assert_same(opened_answers(store, "v2"), opened_answers(store, "full"))
    assert opened_answers(store, "v2") != opened_answers(store, "v1")
    index = store.open("v2")
    assert index.bm25("generator", 1)[0].start == 700
    assert index.bm25("slots", 5) == []
    assert index.bm25("zebra", 1)[0].uri == "doc://raise"
    index.close()


def test_a_version_is_built_once(store):
    store.build("v1", contents(corpus()))
    stats = store.build("v1", contents(corpus()))
    assert (stats.points, stats.added, stats.removed) == (len(corpus()), 0, 0)


def test_a_failed_build_publishes_nothing(store):
    good = contents(corpus())

    def fail(ids) -> Iterator[Point]:
        yield from list(good.fetch(ids))[:3]
        raise RuntimeError("the lake is gone")

    with pytest.raises(RuntimeError):
        store.build("v1", replace(good, fetch=fail))
    assert store.versions() == []
    with pytest.raises(HeadwaterError):
        store.open("v1")
    assert store.build("v1", good).points == len(corpus())
    store.verify("v1")


def test_versions_live_side_by_side_newest_last(store):
    rows = corpus()
    store.build("b", contents(rows[:4]))
    store.build("a", contents(rows[4:]), base="b")
    store.build("c", contents(rows), base="a")
    assert store.versions() == ["b", "a", "c"]
    store.renew("b")
    assert store.versions() == ["a", "c", "b"]
    first, second = store.open("b"), store.open("a")
    assert (first.count(), second.count()) == (4, 4)
    assert first.bm25("yield", 5) == [] and second.bm25("yield", 5)
    second.close()
    store.delete("a")
    assert store.versions() == ["c", "b"]
    assert first.bm25("raise", 1)[0].heading == "raise"
    first.close()
    store.delete("a")  # gone already


def test_an_unknown_version_is_an_error_with_a_mend(store):
    for call in (store.open, store.verify, store.renew):
        with pytest.raises(HeadwaterError, match="headwater build"):
            call("0" * 64)


def test_threads_share_an_index(index):
    expected = answers(index)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: answers(index), range(16)):
            assert_same(result, expected)


def test_backends_agree(tmp_path):
    stores = [make(backend, tmp_path) for backend in ("edge", "server")]
    for store in stores:
        store.build("v1", contents(corpus()))
    found = [opened_answers(store, "v1") for store in stores]
    remove_all(stores[1])
    assert_same(*found)
