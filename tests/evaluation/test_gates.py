"""Every gate with one report that passes and one that it blocks."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from pydantic import ValidationError

from headwater.evaluation.gates import (
    EXAMPLES,
    GENERATION_GATES,
    RETRIEVAL_GATES,
    Gate,
    GateResult,
    evaluate_gates,
    is_provisional,
    load_policy,
)
from headwater.evaluation.retrieval import RetrievalReport
from tests.evaluation.examples import generation_report, retrieval_report

POLICY = load_policy()
SIZE = 20
FIRST = [1] * SIZE
GOOD_NLL = {"base": [2.0] * SIZE, "adapter": [1.7, 1.8] * (SIZE // 2)}
GOOD_CITES = {"base": [True] * SIZE, "adapter": [True] * SIZE}


def retrieval(fused: Sequence[int | None], dense: Sequence[int | None] = FIRST) -> RetrievalReport:
    return retrieval_report({"dense": dense, "bm25": [None] * len(fused), "fused": fused})


def gates(**changes: object) -> dict[str, GateResult]:
    """Results by name for a good candidate with changes: fused, dense, nll, cites."""
    found = retrieval(changes.get("fused", FIRST), changes.get("dense", FIRST))  # type: ignore[arg-type]
    written = generation_report(
        changes.get("nll", GOOD_NLL),
        changes.get("cites", GOOD_CITES),  # type: ignore[arg-type]
    )
    return {gate.name: gate for gate in evaluate_gates(found, written, POLICY)}


def blocked(results: dict[str, GateResult]) -> set[str]:
    return {name for name, gate in results.items() if not gate.passed}


def test_a_good_candidate_passes_every_gate() -> None:
    results = gates()
    assert blocked(results) == set()
    assert tuple(results) == RETRIEVAL_GATES + GENERATION_GATES, "every gate, judged or not"
    curated = {"golden_set", "recall_at_5", "fused_ndcg", "nll_delta", "citations"}
    assert {name for name, gate in results.items() if gate.value is not None} == curated


def test_recall() -> None:
    assert blocked(gates(fused=[1] * 18 + [6, None])) == set(), "0.9 is enough"
    lost = [1] * 17 + [6, 7, None]
    results = gates(fused=lost, dense=lost)
    assert blocked(results) == {"recall_at_5"}
    gate = results["recall_at_5"]
    assert gate.value == pytest.approx(0.85)
    found = [example["value"].split(",")[0] for example in gate.examples]
    assert found == ["rank > 10", "rank 7", "rank 6"], "worst first"
    assert gate.examples[0]["expected"] == "doc://c19"


def test_fused_must_not_be_worse_than_the_better_single_mode() -> None:
    assert blocked(gates(fused=[1] * 18 + [2, 2], dense=[2, 2] + [1] * 18)) == set()
    results = gates(fused=[2] * 10 + [1] * 10)
    assert blocked(results) == {"fused_ndcg"}
    assert len(results["fused_ndcg"].examples) == EXAMPLES
    assert results["fused_ndcg"].value is not None
    assert results["fused_ndcg"].value < 0


@pytest.mark.parametrize(
    "adapter",
    [[2.0] * SIZE, [1.5, 2.6] * (SIZE // 2), [2.1] * SIZE],
    ids=["same", "noise", "worse"],
)
def test_likelihood_must_improve_beyond_doubt(adapter: list[float]) -> None:
    results = gates(nll={"base": [2.0] * SIZE, "adapter": adapter})
    assert blocked(results) == {"nll_delta"}
    worst = results["nll_delta"].examples[0]["value"]
    assert worst == f"{max(adapter) - 2.0:+.3f} nats per token"


def test_citations_may_vary_but_not_get_clearly_worse() -> None:
    one_lost = [True] * (SIZE - 1) + [False]
    assert blocked(gates(cites={"base": [True] * SIZE, "adapter": one_lost})) == set()
    half_lost = [True, False] * (SIZE // 2)
    results = gates(cites={"base": [True] * SIZE, "adapter": half_lost})
    assert blocked(results) == {"citations"}
    assert results["citations"].examples[0]["value"] == "doc://wrong: Answer of adapter"


def test_no_question_blocks() -> None:
    nothing = retrieval_report({"dense": [], "bm25": [], "fused": []})
    results = evaluate_gates(nothing, generation_report({"base": []}), POLICY)
    assert [gate.name for gate in results if not gate.passed] == ["golden_set"]
    assert all(gate.value is None for gate in results[1:])


def test_provisional_questions_only_stop_what_is_clearly_broken() -> None:
    ranks = [1] * 13 + [None] * 7
    found = retrieval_report({"dense": ranks, "bm25": ranks, "fused": ranks}, provisional=True)
    same = {"base": [2.0] * SIZE, "adapter": [1.5, 2.6] * (SIZE // 2)}
    results = evaluate_gates(found, generation_report(same, GOOD_CITES, provisional=True), POLICY)
    assert all(gate.passed for gate in results)
    assert {gate.name for gate in results if gate.value is not None} == {
        "golden_set",
        "provisional_recall_at_5", "provisional_nll_delta", "provisional_citations",
    }  # fmt: skip
    worse = {"base": [2.0] * SIZE, "adapter": [2.3, 2.4] * (SIZE // 2)}
    results = evaluate_gates(found, generation_report(worse, GOOD_CITES, provisional=True), POLICY)
    assert [gate.name for gate in results if not gate.passed] == ["provisional_nll_delta"]
    assert is_provisional(found, POLICY)
    assert not is_provisional(retrieval(FIRST), POLICY)


def test_few_questions_are_reported_and_not_judged() -> None:
    found = retrieval_report({"dense": [None] * 3, "bm25": [None] * 3, "fused": [None] * 3})
    results = evaluate_gates(found, generation_report({"base": [2.0] * 3}), POLICY)
    assert all(gate.passed for gate in results)
    assert all(gate.detail.startswith("not judged") for gate in results[1:])
    assert is_provisional(found, POLICY)


def test_without_an_adapter_its_gates_are_not_judged() -> None:
    results = gates(nll={"base": [2.0] * SIZE}, cites={"base": [True] * SIZE})
    assert results["nll_delta"].detail == "not judged: no adapter"
    assert blocked(results) == set()


def test_policy_is_strict() -> None:
    assert POLICY.curated.gates[0].limit == 0.9
    with pytest.raises(ValidationError, match="must_be"):
        Gate.model_validate({"name": "x", "measure": "nll_delta", "must_be": "=", "limit": 1})
    with pytest.raises(ValidationError, match="extra"):
        Gate.model_validate({**POLICY.curated.gates[0].model_dump(), "extra": 1})
    looser = POLICY.model_copy(
        update={"provisional": POLICY.curated},
    )
    assert looser.digest != POLICY.digest


def test_results_are_plain_json() -> None:
    for gate in gates(fused=[None] * SIZE).values():
        value = json.loads(json.dumps(gate.as_mapping()))
        assert value["name"] == gate.name
        assert value["examples"] == [dict(example) for example in gate.examples]


def test_examples_are_cut() -> None:
    found = retrieval([None] * SIZE, [None] * SIZE)
    long = replace(found, rows=tuple(replace(row, question="q" * 999) for row in found.rows))
    gate = evaluate_gates(long, generation_report(GOOD_NLL, GOOD_CITES), POLICY)[1]
    assert len(gate.examples[0]["question"]) == 200
