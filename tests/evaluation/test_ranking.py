"""Every measure against scikit-learn's, over random ranked lists."""

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from headwater.evaluation import ranking

DEPTH = 10


def lists() -> list[tuple[list[str], set[str]]]:
    """Ranked URIs with repeats, and the relevant ones: found early, late, twice, or never."""
    random = np.random.default_rng(0)
    documents = [f"doc{number}" for number in range(12)]
    return [
        (
            [str(uri) for uri in random.choice(documents, size=DEPTH)],
            {str(uri) for uri in random.choice(documents, size=random.integers(1, 4))},
        )
        for _ in range(300)
    ]


def judged(uris: list[str], relevant: set[str]) -> np.ndarray:
    """Gain 1 at the first relevant position; the last column stands for "not in the list"."""
    gains = np.zeros(DEPTH + 1)
    first = next((at for at, uri in enumerate(uris) if uri in relevant), DEPTH)
    gains[first] = 1
    return gains


SCORES = np.arange(DEPTH + 1, 0, -1, dtype=float)[None]


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_ndcg_is_scikit_learns(k: int) -> None:
    for uris, relevant in lists():
        expected = ndcg_score(judged(uris, relevant)[None], SCORES, k=k)
        rank = ranking.first_relevant(uris, relevant)
        assert ranking.ndcg_at(rank, k) == pytest.approx(expected, abs=1e-12)


def test_reciprocal_rank_is_scikit_learns_for_one_relevant_document() -> None:
    for uris, relevant in lists():
        rank = ranking.first_relevant(uris, relevant)
        gains = judged(uris, relevant)
        expected = 0.0 if gains[-1] else label_ranking_average_precision_score(gains[None], SCORES)
        assert ranking.reciprocal_rank(rank) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_mean_recall_is_scikit_learns_top_k_accuracy(k: int) -> None:
    truth = [int(judged(*one).argmax()) for one in lists()]
    scores = np.repeat(SCORES, len(truth), axis=0)
    expected = top_k_accuracy_score(truth, scores, k=k, labels=range(DEPTH + 1))
    ours = [ranking.recall_at(ranking.first_relevant(*one), k) for one in lists()]
    assert np.mean(ours) == pytest.approx(expected, abs=1e-12)


def test_a_document_found_twice_counts_once() -> None:
    rank = ranking.first_relevant(["a", "b", "b"], {"b"})
    assert rank == 2
    assert ranking.ndcg_at(rank, 10) == pytest.approx(1 / np.log2(3))


def test_nothing_found() -> None:
    rank = ranking.first_relevant([], {"a"})
    assert (rank, ranking.recall_at(rank, 5), ranking.reciprocal_rank(rank)) == (None, 0, 0)
