"""What is told of a search is what the search did: the figures add up to the scores."""

from collections.abc import Iterator

import pytest

from headwater.embeddings import bm25
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.explain import explain
from headwater.embeddings.retrieve import RetrievalSettings, Retriever, open_retriever
from headwater.embeddings.server import ServerStore
from headwater.embeddings.store import VectorStore
from tests.embeddings.examples import WordEncoder, chunk, contents, corpus

QUESTION = "Which variable reserves space: __slots__ or zebra?"


@pytest.fixture(params=["edge", "server"])
def store(request: pytest.FixtureRequest, tmp_path) -> VectorStore:
    if request.param == "edge":
        return EdgeStore(tmp_path / "indexes")
    from qdrant_client import QdrantClient

    return ServerStore(QdrantClient(":memory:"))


@pytest.fixture
def retriever(tmp_path) -> Iterator[Retriever]:
    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", contents(corpus()))
    settings = RetrievalSettings(dense_weight=0.7, rrf_k=20)
    with open_retriever(store, WordEncoder(), settings=settings) as retriever:
        yield retriever


@pytest.mark.parametrize("mode", ["dense", "bm25", "fused"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_hits_are_those_of_the_search(retriever, mode, whole):
    found = explain(retriever, QUESTION, mode=mode, limit=4, whole=whole)
    assert [each.hit for each in found.hits] == retriever.retrieve(QUESTION, mode, 4)


def test_the_fusion_adds_up(retriever):
    found = explain(retriever, QUESTION, limit=8)
    rankings = retriever.rankings(QUESTION, limit=8)
    assert len(found.hits) == 8
    for each in found.hits:
        assert sum(each.shares.values()) == pytest.approx(each.hit.score, abs=1e-6)
        for name, place in each.places.items():
            at = rankings[name][place.rank - 1]
            assert (at.text, at.score) == (each.hit.text, place.score)
            weight = {"dense": 0.7, "bm25": 0.3}[name]
            assert each.shares[name] == pytest.approx(weight * 21 / (20 + place.rank))
    assert any("bm25" not in each.places for each in found.hits), "some share no word with it"


def test_the_words_add_up_to_the_bm25_score(store):
    store.build("v1", contents(corpus()))
    with open_retriever(store, WordEncoder()) as retriever:
        found = explain(retriever, "Does the statement wrap a block?", mode="bm25", limit=8)
    assert found.hits[0].hit.heading == "with"
    assert {term.word for term in found.hits[0].terms} == {"the", "statement", "wrap", "block", "a"}
    for each in found.hits:
        total = sum(term.score for term in each.terms)
        assert total == pytest.approx(each.places["bm25"].score, abs=5e-3)
        scores = [term.score for term in each.terms]
        assert scores == sorted(scores, reverse=True)


def test_words_are_told_with_their_rarity(retriever):
    found = explain(retriever, QUESTION, limit=3)
    assert list(found.words) == ["which", "variable", "reserves", "space", "slots", "or", "zebra"]
    assert found.words["zebra"] is None and found.words["which"] is None
    everywhere = explain(retriever, "the slots", limit=1).words
    assert 0 < everywhere["the"] < everywhere["slots"]


def test_words_of_one_stem_are_one_word():
    assert list(bm25.query_words("Slots of __slots__, slot").values()) == ["slots", "of"]
    assert bm25.query_words("?!") == {}


def test_the_rule_for_prompts_is_the_one_that_answers_apply(retriever):
    question = "What is reserved by the variable __slots__ ?"
    found = explain(retriever, question, limit=3)
    kept = [each.hit for each in found.hits if each.kept]
    assert kept == retriever.find(question, limit=3).hits and len(kept) < 3
    assert found.least is not None
    for rank, each in enumerate(found.hits):
        assert each.kept == (rank == 0 or each.similarity >= found.least)


def test_other_rankings_go_to_no_prompt(retriever):
    found = explain(retriever, QUESTION, mode="dense", limit=3)
    assert found.least is None and found.depth == 50
    assert all(each.kept is None and not each.shares for each in found.hits)
    assert all("dense" in each.places for each in found.hits), "the other ranking is looked into"


def test_bm25_alone_encodes_nothing_unless_the_whole_is_asked_for(retriever):
    found = explain(retriever, QUESTION, mode="bm25", limit=3, whole=False)
    assert retriever.encoder.encoded == [] and found.words == {}
    assert all(each.terms == () and list(each.places) == ["bm25"] for each in found.hits)
    explain(retriever, QUESTION, mode="bm25", limit=3)
    assert retriever.encoder.encoded == [QUESTION]


def test_a_passage_that_stands_under_two_headings_is_told_as_bm25_found_it(tmp_path):
    """The dense ranking shows one of the two, BM25 scores the other for its heading."""
    text = "The variable reserves space for instances."
    rows = [
        chunk("doc://a", text, heading="space"),
        chunk("doc://b", text, heading="rare"),
        chunk("doc://c", "Nothing of the kind."),
    ]
    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", contents(rows))
    with open_retriever(store, WordEncoder()) as retriever:
        found = explain(retriever, "space space space instances rare", limit=2)
    first = found.hits[0]
    total = sum(term.score for term in first.terms)
    assert total == pytest.approx(first.places["bm25"].score, abs=5e-3)
    assert {term.word for term in first.terms} >= {"space", "rare"}


def test_a_question_without_words_has_hits_by_meaning(retriever):
    found = explain(retriever, "?", limit=2)
    assert len(found.hits) == 2 and found.words == {}
    assert all(list(each.shares) == ["dense"] and each.terms == () for each in found.hits)
