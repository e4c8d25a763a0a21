from collections.abc import Iterator

import pytest

from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.retrieve import (
    RetrievalSettings,
    Retriever,
    fuse,
    open_retriever,
    relevant,
)
from headwater.errors import HeadwaterError
from headwater.records import Hit
from tests.embeddings.examples import WordEncoder, chunk, contents, corpus


def hit(id: str, text: str | None = None, score: float = 0.0) -> Hit:
    return Hit(
        id=id, score=score, uri=id, title="", heading="", start=0, end=1, text=text or f"text {id}"
    )


@pytest.fixture
def retriever(tmp_path) -> Iterator[Retriever]:
    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", contents(corpus()))
    with open_retriever(store, WordEncoder()) as retriever:
        yield retriever


def test_fusion_is_weighted_reciprocal_rank():
    settings = RetrievalSettings(rrf_k=10, dense_weight=0.75)
    fused = fuse([hit("a"), hit("b")], [hit("b"), hit("c")], settings)
    assert [(h.id, h.score) for h in fused] == [
        ("b", pytest.approx(0.75 * 11 / 12 + 0.25, abs=1e-6)),
        ("a", 0.75),
        ("c", pytest.approx(0.25 * 11 / 12, abs=1e-6)),
    ]


def test_first_in_both_rankings_scores_one():
    assert fuse([hit("a")], [hit("a")], RetrievalSettings())[0].score == 1


def test_fused_ties_are_in_order_of_id():
    fused = fuse([hit("z"), hit("b")], [hit("b"), hit("z")], RetrievalSettings())
    assert [h.id for h in fused] == ["b", "z"]


def test_a_passage_in_two_documents_counts_once():
    dense = [hit("a", "The same  words."), hit("x"), hit("b", "the same words.")]
    fused = fuse(dense, [hit("b", "The same words."), hit("y")], RetrievalSettings())
    assert [h.id for h in fused] == ["a", "x", "y"]
    assert fused[0].score == 1


def test_modes_rank_by_their_own_scores(retriever):
    question = "What is reserved by the variable __slots__ ?"
    dense = retriever.retrieve(question, "dense", 3)
    bm25 = retriever.retrieve(question, "bm25", 3)
    fused = retriever.retrieve(question, limit=3)
    assert dense[0].score <= 1 < bm25[0].score
    assert {hits[0].heading for hits in (dense, bm25, fused)} == {"slots"}
    assert fused[0].score == 1
    for hits in (dense, bm25, fused):
        assert len(hits) == 3
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_bm25_alone_encodes_nothing(retriever):
    retriever.retrieve("generator", "bm25")
    assert retriever.encoder.encoded == []


def test_many_questions_are_encoded_together_and_answered_alike(retriever):
    questions = ["What is a lambda?", "How does yield work?"]
    assert retriever.retrieve_many(questions) == [retriever.retrieve(q) for q in questions]
    assert retriever.encoder.encoded[:2] == questions


def test_passages_far_from_the_question_are_not_shown():
    dense = [hit("a", score=0.6), hit("b", score=0.5), hit("c", score=0.2)]
    fused = [hit("c"), hit("a"), hit("far"), hit("b")]
    # The first stays, whatever its similarity: an exact word may have found it.
    assert [h.id for h in relevant(fused, dense, 0.6)] == ["c", "a", "b"]
    assert [h.id for h in relevant(fused, [], 0.6)] == ["c", "a", "far", "b"]


def test_passages_are_the_near_ones_of_the_fused_ranking(retriever):
    question = "What is reserved by the variable __slots__ ?"
    shown = retriever.find(question, limit=3).hits
    found = retriever.retrieve(question, limit=3)
    assert shown[0] == found[0] and len(shown) < len(found)
    assert [h for h in found if h in shown] == shown
    assert retriever.passages_many([question, question], limit=3) == [shown, shown]


def test_a_question_without_words_still_has_dense_hits(retriever):
    assert retriever.retrieve("?", "bm25") == []
    assert len(retriever.retrieve("?", limit=2)) == 2


def test_repeated_passages_do_not_crowd_out_others(tmp_path):
    """Sixty documents repeat one passage; the others are found behind it."""
    copies = [chunk(f"doc://copy/{n}", "The with statement wraps a block.") for n in range(60)]
    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", contents([*copies, *corpus()]))
    settings = RetrievalSettings(limit=5, depth=5)
    for mode in ("dense", "bm25", "fused"):
        with open_retriever(store, WordEncoder(), settings=settings) as retriever:
            hits = retriever.retrieve("the with statement wraps a block", mode)
        assert len(hits) == len({h.text for h in hits}) == 5
        assert hits[0].id == min(row["id"] for row in copies)


def test_opens_the_newest_version_unless_told(tmp_path):
    store = EdgeStore(tmp_path / "indexes")
    with pytest.raises(HeadwaterError, match="headwater build"), open_retriever(store, None):
        pass
    store.build("v1", contents(corpus()))
    store.build("v2", contents(corpus()[:2]), base="v1")
    with open_retriever(store, WordEncoder()) as newest:
        assert newest.index.version == "v2"
    with open_retriever(store, WordEncoder(), "v1") as named:
        assert named.index.count() == 8
    assert list((store.root / ".open").iterdir()) == []


def test_the_digest_names_every_setting():
    digests = {
        RetrievalSettings(**change).digest
        for change in ({}, {"limit": 6}, {"depth": 9}, {"rrf_k": 9}, {"dense_weight": 0.9})
    }
    assert len(digests) == 5
    assert RetrievalSettings().digest == RetrievalSettings(limit=5).digest
