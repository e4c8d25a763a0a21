"""What is worse than the champion is blocked, what is not is rarely, and what is unlike is left out."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binom

from benchmarks import gates_aa
from headwater.evaluation.gates import GateResult, RelativeGate, load_policy
from headwater.evaluation.relative import (
    GENERATION_GATES,
    RETRIEVAL_GATES,
    Champion,
    generation_against,
    retrieval_against,
)
from tests.evaluation.examples import generation_report, retrieval_report

POLICY = load_policy().relative
SIZE = 40
BASE = "b" * 64
NLL = tuple(np.linspace(1.0, 2.0, SIZE))


def ranked(fused: Sequence[int | None], *, provisional: bool = False):
    modes = {"dense": [1] * len(fused), "bm25": [1] * len(fused), "fused": fused}
    return retrieval_report(modes, provisional=provisional).rows


def written(adapter: Sequence[float] = NLL, cites: Sequence[bool] = (True,) * SIZE):
    nll = {"base": [9.0] * len(adapter), "adapter": adapter}
    return generation_report(nll, {"base": [True] * len(adapter), "adapter": cites}).rows


CHAMPION = Champion(
    id="c" * 64, base=BASE, retrieval=ranked([1, 2] * (SIZE // 2)), generation=written()
)


def gates(champion=CHAMPION, base=BASE, **changes) -> dict[str, GateResult]:
    """Results by name of a candidate that is the champion, with changes: fused, adapter, cites."""
    fused = changes.pop("fused", [1, 2] * (SIZE // 2))
    found = [
        *retrieval_against(ranked(fused), champion, POLICY),
        *generation_against(written(**changes), champion, POLICY, base=base),
    ]
    return {gate.name: gate for gate in found}


def blocked(results: dict[str, GateResult]) -> set[str]:
    return {name for name, gate in results.items() if not gate.passed}


def test_the_same_release_passes_at_once():
    results = gates()
    assert tuple(results) == RETRIEVAL_GATES + GENERATION_GATES
    for gate in results.values():
        assert gate.passed and gate.value == 0 and gate.against.p_value == 1
        assert gate.against.items == SIZE and gate.against.left_out == 0
    better = gates(fused=[1] * SIZE, adapter=[value - 0.3 for value in NLL])
    assert blocked(better) == set()


def test_lost_answers_are_blocked_by_name_amount_and_example():
    fused: list[int | None] = [1, 2] * (SIZE // 2)
    lost = [4, 6, 10, 14, 20, 24, 30, 36]
    for at in lost:
        fused[at] = None
    fused[7] = 1  # one that became better is no example
    results = gates(fused=fused)
    assert blocked(results) == {"champion_ndcg", "champion_recall_at_5"}
    gate = results["champion_recall_at_5"]
    assert gate.value == pytest.approx(-len(lost) / SIZE)
    assert gate.against.low < gate.value < gate.against.high < 0
    assert gate.against.p_value == pytest.approx(0.5 ** len(lost), abs=1e-5)
    assert gate.against.champion == CHAMPION.id and gate.against.level == 0.05 / 4
    assert "-0.200 [" in gate.detail and "cccccccccccc" in gate.detail
    assert [each["expected"] for each in gate.examples] == [f"doc://c{at}" for at in lost[:5]]
    assert gate.examples[0]["question"] == "What is c4?"
    assert gate.examples[0]["value"] == "rank 1 → rank > 10, first is doc://other1"
    assert json.loads(json.dumps(gate.as_mapping()))["against"]["items"] == SIZE


def test_likelihood_has_a_margin():
    assert blocked(gates(adapter=[value + 0.004 for value in NLL])) == set(), "certain, and small"
    results = gates(adapter=[*(value + 0.05 for value in NLL[:-1]), NLL[-1] + 0.4])
    assert blocked(results) == {"champion_nll"}
    gate = results["champion_nll"]
    assert gate.examples[0]["expected"] == f"doc://c{SIZE - 1}"
    assert gate.examples[0]["value"] == "2.000 → 2.400 nats per token (+0.400)"
    noise = np.random.default_rng(0).normal(0.02, 0.5, SIZE)
    assert blocked(gates(adapter=list(NLL + noise))) == set(), "worse, and not shown to be"


def test_citations_need_seven_lost_and_none_won():
    assert blocked(gates(cites=[False] * 6 + [True] * (SIZE - 6))) == set()
    results = gates(cites=[False] * 7 + [True] * (SIZE - 7))
    assert blocked(results) == {"champion_citations"}
    assert results["champion_citations"].examples[0]["value"] == (
        "doc://c0 → doc://wrong: Answer of adapter"
    )


def test_without_an_adapter_the_base_is_the_releases_own_model():
    plain = generation_report({"base": list(NLL)}, {"base": [True] * SIZE}).rows
    champion = replace(CHAMPION, generation=plain)
    (nll, _) = generation_against(written(), champion, POLICY, base=BASE)
    assert nll.passed and nll.value == 0
    (nll, _) = generation_against(plain, CHAMPION, POLICY, base=BASE)
    assert nll.passed and nll.value == 0


def test_only_what_both_were_asked_alike_is_compared():
    rows = list(written([value + 0.1 for value in NLL]))
    rows[0] = replace(rows[0], reference="Edited.")
    rows[1] = replace(rows[1], question="Reworded?")
    rows[2] = replace(rows[2], id="new")
    (nll, _) = generation_against(rows, CHAMPION, POLICY, base=BASE)
    assert nll.against.items == SIZE - 3
    assert nll.against.left_out == 4, "two edited, one only old, one only new"
    assert "4 left out" in nll.detail and not nll.passed


def test_what_cannot_be_judged_passes_and_says_why():
    first = gates(champion=None)
    assert blocked(first) == set()
    assert {gate.detail for gate in first.values()} == {
        "not judged: no release is in production yet"
    }
    few = gates(champion=replace(CHAMPION, retrieval=CHAMPION.retrieval[:9]))
    assert few["champion_ndcg"].detail == (
        "not judged: 9 questions in common with cccccccccccc, needs 10"
    )
    forgotten = gates(champion=replace(CHAMPION, generation=None, why="nothing is kept"))
    assert forgotten["champion_nll"].detail == "not judged: nothing is kept"
    assert forgotten["champion_ndcg"].value == 0
    other = gates(base="o" * 64, adapter=[value + 1 for value in NLL])
    assert other["champion_nll"].detail == "not judged: release cccccccccccc has another base model"
    assert other["champion_citations"].value == 0
    unanswered = [replace(row, answers={}) for row in written()]
    (_, cites) = generation_against(unanswered, CHAMPION, POLICY, base=BASE)
    assert cites.detail.startswith("not judged: 0 questions")


def test_provisional_questions_are_compared_where_curated_ones_are_few():
    both = [*ranked([1] * 12), *ranked([1] * 20, provisional=True)]
    champion = replace(CHAMPION, retrieval=both)
    worse = [*ranked([1] * 12), *ranked([None] * 20, provisional=True)]
    assert all(gate.passed for gate in retrieval_against(worse, champion, POLICY))
    champion = replace(champion, retrieval=both[4:])
    (ndcg, _) = retrieval_against(worse, champion, POLICY)
    assert not ndcg.passed and ndcg.against.items == 20 and "provisional" in ndcg.detail


def test_a_margin_without_a_test_is_refused():
    gate = {"name": "x", "measure": "cites_right", "worse_than": 0.1}
    with pytest.raises(ValidationError, match="McNemar"):
        RelativeGate.model_validate(gate)
    with pytest.raises(ValidationError):
        RelativeGate.model_validate(gate | {"measure": "nll", "worse_than": -0.1})


@pytest.mark.parametrize("draw", [gates_aa.swapped, gates_aa.centred])
def test_what_is_not_worse_is_blocked_as_rarely_as_stated(draw):
    pairs = 300
    values = draw(gates_aa.simulated(), pairs, np.random.default_rng(0))
    p_values = gates_aa.p_values(values, POLICY)
    count = np.any([p < POLICY.level for p in p_values.values()], axis=0).sum()
    assert count <= binom.ppf(0.999, pairs, POLICY.false_block)


def test_what_is_worse_is_blocked():
    for name, gate in (
        ("nll +0.05 nats per token", "champion_nll"),
        ("10% of answers not found", "champion_ndcg"),
        ("40% of citations wrong", "champion_citations"),
    ):
        values = gates_aa.swapped(gates_aa.simulated(), 100, np.random.default_rng(0))
        p = gates_aa.p_values(gates_aa.PLANTED[name](values), POLICY)[gate]
        assert (p < POLICY.level).mean() > 0.3, name
