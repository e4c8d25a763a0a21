from dataclasses import replace

import pytest

from headwater.evaluation.retrieval import evaluate_retrieval
from headwater.records import Hit
from tests.evaluation.examples import golden, hit, retrieval_report


def test_figures_by_mode() -> None:
    report = retrieval_report(
        {"dense": [1, 2, None, 1], "bm25": [3, 11, 1, 1], "fused": [1, 1, 4, 1]}
    )
    assert report.curated is not None
    assert report.provisional is None
    fused, dense = report.curated.modes["fused"], report.curated.modes["dense"]
    assert fused.recall == {1: 0.75, 3: 0.75, 5: 1.0, 10: 1.0}
    assert dense.recall == {1: 0.5, 3: 0.75, 5: 0.75, 10: 0.75}
    assert fused.mrr == pytest.approx((3 + 1 / 4) / 4)
    assert report.curated.modes["bm25"].recall[10] == 0.75, "rank 11 is beyond what is asked for"
    gain = report.curated.differences["fused-dense"]
    expected = fused.ndcg_at_10.mean - dense.ndcg_at_10.mean
    assert gain.mean == pytest.approx(expected, abs=2e-5)
    assert gain.low <= gain.mean <= gain.high


def test_any_document_that_holds_the_passage_counts() -> None:
    item = replace(golden(0), uris=("doc://a", "doc://b"))

    def retrieve(question: str, mode: str, limit: int) -> list[Hit]:
        return [hit("doc://x"), hit("doc://b"), hit("doc://a")]

    assert evaluate_retrieval([item], retrieve).rows[0].rank["fused"] == 2


def test_provisional_questions_are_reported_apart() -> None:
    items = [golden(0), golden(0, provisional=True), golden(1, provisional=True)]

    def retrieve(question: str, mode: str, limit: int) -> list[Hit]:
        return [hit("doc://c0")]

    report = evaluate_retrieval(items, retrieve)
    assert report.curated is not None
    assert report.provisional is not None
    assert (report.curated.items, report.provisional.items) == (1, 2)
    assert report.curated.modes["fused"].recall[1] == 1
    assert report.provisional.modes["fused"].recall[1] == 0
    assert report.headline is report.curated


def test_digest_ignores_the_order_of_the_questions() -> None:
    items = [golden(at) for at in range(5)]

    def retrieve(question: str, mode: str, limit: int) -> list[Hit]:
        return [hit("doc://c1"), hit("doc://c2")]

    assert (
        evaluate_retrieval(items, retrieve).digest
        == evaluate_retrieval(items[::-1], retrieve).digest
    )


def test_no_questions() -> None:
    report = evaluate_retrieval([], lambda question, mode, limit: [])
    assert (report.curated, report.provisional, report.headline) == (None, None, None)
