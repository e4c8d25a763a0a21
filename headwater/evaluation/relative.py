"""Is a candidate worse than the champion? Paired tests over the questions that both were asked.

Knows rows of reports and the policy; nothing of where they are kept or which release is champion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from headwater.evaluation import ranking
from headwater.evaluation.gates import (
    BINARY,
    EXAMPLES,
    Against,
    Example,
    GateResult,
    RelativeGate,
    RelativeMeasure,
    RelativePolicy,
    example_of,
    load_policy,
)
from headwater.evaluation.generation import GeneratedItem
from headwater.evaluation.likelihood import ADAPTER, BASE
from headwater.evaluation.paired import RESAMPLES, Floats, mcnemar, sign_flip
from headwater.evaluation.retrieval import DEPTH, RankedItem
from headwater.evaluation.statistics import bootstrap, rounded
from headwater.records import short

RETRIEVAL_MEASURES: tuple[RelativeMeasure, ...] = ("ndcg_at_10", "recall_at_5")
GENERATION_MEASURES: tuple[RelativeMeasure, ...] = ("nll", "cites_right")
_Row = TypeVar("_Row", RankedItem, GeneratedItem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The release that a candidate is compared with, and the rows that judged it.

    Rows are None where they are not kept; `why` says so.
    """

    id: str
    base: str  # digest of its base model
    retrieval: Sequence[RankedItem] | None
    generation: Sequence[GeneratedItem] | None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Common(Generic[_Row]):
    """Questions that both answered, champion's row first, and how many only one did."""

    pairs: Sequence[tuple[_Row, _Row]]
    left_out: int
    provisional: bool


@dataclass(frozen=True, slots=True)
class _Reading(Generic[_Row]):
    """How a question's value is read from its row, and how champion's and candidate's are shown."""

    value: Callable[[RelativeMeasure, _Row], float]
    show: Callable[[_Row, _Row], str]


def retrieval_against(
    rows: Sequence[RankedItem], champion: Champion | None, policy: RelativePolicy
) -> list[GateResult]:
    """The relative gates on retrieval: every one, judged or not, in the policy's order."""
    gates = [gate for gate in policy.gates if gate.measure in RETRIEVAL_MEASURES]
    if champion is None or champion.retrieval is None:
        return [_not_judged(gate, policy, _why_not(champion)) for gate in gates]
    common = _common(rows, champion.retrieval, policy.min_items)
    reading = _Reading(retrieval_value, _ranks)
    return [_judge(gate, policy, champion, common, reading) for gate in gates]


def generation_against(
    rows: Sequence[GeneratedItem], champion: Champion | None, policy: RelativePolicy, *, base: str
) -> list[GateResult]:
    """The relative gates on generation: every one, judged or not, in the policy's order.

    Args:
        base: digest of the candidate's base model; nats per token of another one, which may cut
            text into other tokens, say nothing.
    """
    gates = [gate for gate in policy.gates if gate.measure in GENERATION_MEASURES]
    if champion is None or champion.generation is None:
        return [_not_judged(gate, policy, _why_not(champion)) for gate in gates]
    scored = _common(rows, champion.generation, policy.min_items)
    new, old = ([row for row in side if row.answers] for side in (rows, champion.generation))
    answered = _common(new, old, policy.min_items)
    results = []
    for gate in gates:
        if gate.measure == "cites_right":
            reading = _Reading(generation_value, _citation)
            results.append(_judge(gate, policy, champion, answered, reading))
        elif champion.base == base:
            reading = _Reading(generation_value, _nats)
            results.append(_judge(gate, policy, champion, scored, reading))
        else:
            why = f"release {short(champion.id)} has another base model"
            results.append(_not_judged(gate, policy, why))
    return results


def p_worse(
    gate: RelativeGate, worse: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """One-sided p-values that a candidate is worse than the champion by more than the gate allows.

    Args:
        worse: by how much it is on each question, shape (..., n).
        resamples, seed: of the sign flips.
    """
    if gate.measure in BINARY:
        return mcnemar(np.sum(worse > 0, axis=-1), np.sum(worse < 0, axis=-1))
    return sign_flip(worse, gate.worse_than, resamples=resamples, seed=seed)


def retrieval_value(measure: RelativeMeasure, row: RankedItem) -> float:
    """A question's value in fused retrieval."""
    rank = row.rank["fused"]
    return ranking.ndcg_at(rank, DEPTH) if measure == "ndcg_at_10" else ranking.recall_at(rank, 5)


def generation_value(measure: RelativeMeasure, row: GeneratedItem) -> float:
    """A question's value under the release's own model: with its adapter, where it has one."""
    arm = ADAPTER if ADAPTER in row.nll else BASE
    return row.nll[arm] if measure == "nll" else float(row.answers[arm].cites_right)


def is_better_low(measure: RelativeMeasure) -> bool:
    """Whether less is better."""
    return measure == "nll"


def _why_not(champion: Champion | None) -> str:
    return champion.why if champion else "no release is in production yet"


def _common(rows: Sequence[_Row], champions: Sequence[_Row], min_items: int) -> _Common[_Row]:
    """Pairs of equal id, question, expected document and, where there is one, reference.

    The curated questions, unless they are too few and the provisional ones are more.
    """
    found = []
    for provisional in (False, True):
        new = {_key(row): row for row in rows if row.provisional == provisional}
        old = {_key(row): row for row in champions if row.provisional == provisional}
        both = sorted(new.keys() & old.keys())
        asked = {key[0] for key in new.keys() | old.keys()}
        found.append(
            _Common(
                pairs=[(old[key], new[key]) for key in both],
                left_out=len(asked) - len(both),
                provisional=provisional,
            )
        )
    curated, provisional_ones = found
    enough = len(curated.pairs) >= min_items
    return curated if enough else max(curated, provisional_ones, key=lambda each: len(each.pairs))


def _key(row: RankedItem | GeneratedItem) -> tuple[str, ...]:
    reference = row.reference if isinstance(row, GeneratedItem) else ""
    return row.id, row.question, row.uri, reference


def _judge(
    gate: RelativeGate,
    policy: RelativePolicy,
    champion: Champion,
    common: _Common[_Row],
    read: _Reading[_Row],
) -> GateResult:
    items = len(common.pairs)
    if items < policy.min_items:
        few = f"{items} questions in common with {short(champion.id)}, needs {policy.min_items}"
        return _not_judged(gate, policy, few)
    change = np.array(
        [read.value(gate.measure, new) - read.value(gate.measure, old) for old, new in common.pairs]
    )
    worse = change if is_better_low(gate.measure) else -change
    p_value = float(p_worse(gate, worse))
    passed = p_value >= policy.level
    interval = bootstrap(change)
    detail = (
        f"{gate.measure} {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] against "
        f"{short(champion.id)}, p {p_value:.2g}, over {items} questions"
    )
    if common.provisional:
        detail += ", provisional"
    if common.left_out:
        detail += f", {common.left_out} left out"
    return GateResult(
        name=gate.name,
        passed=passed,
        value=interval.mean,
        threshold=_threshold(gate, policy),
        detail=detail,
        examples=() if passed else tuple(_worst(common.pairs, worse, read.show)),
        against=Against(
            champion=champion.id,
            low=interval.low,
            high=interval.high,
            p_value=rounded(p_value),
            level=policy.level,
            items=items,
            left_out=common.left_out,
        ),
    )


def _not_judged(gate: RelativeGate, policy: RelativePolicy, why: str) -> GateResult:
    return GateResult(
        name=gate.name,
        passed=True,
        value=None,
        threshold=_threshold(gate, policy),
        detail=f"not judged: {why}",
    )


def _threshold(gate: RelativeGate, policy: RelativePolicy) -> str:
    by = f" by more than {gate.worse_than:g}" if gate.worse_than else ""
    return f"not worse than the champion{by}, p >= {policy.level:g}"


def _worst(
    pairs: Sequence[tuple[_Row, _Row]], worse: Floats, show: Callable[[_Row, _Row], str]
) -> list[Example]:
    """The questions that lost most, worst first."""
    order = [at for at in np.argsort(-worse, kind="stable") if worse[at] > 0]
    rows = [pairs[at] for at in order[:EXAMPLES]]
    return [example_of(new.question, new.uri, show(old, new)) for old, new in rows]


def _ranks(old: RankedItem, new: RankedItem) -> str:
    before, after = (f"rank {row.rank['fused'] or f'> {DEPTH}'}" for row in (old, new))
    return f"{before} → {after}, first is {new.top['fused']}"


def _nats(old: GeneratedItem, new: GeneratedItem) -> str:
    before, after = (generation_value("nll", row) for row in (old, new))
    return f"{before:.3f} → {after:.3f} nats per token ({after - before:+.3f})"


def _citation(old: GeneratedItem, new: GeneratedItem) -> str:
    before, after = (row.answers[ADAPTER if ADAPTER in row.nll else BASE] for row in (old, new))
    return f"{before.cited} → {after.cited or 'nothing'}: {after.text}"


#: Names of the relative gates on each report, from the policy's file: what checks an asset declares.
RETRIEVAL_GATES, GENERATION_GATES = (
    tuple(gate.name for gate in load_policy().relative.gates if gate.measure in measures)
    for measures in (RETRIEVAL_MEASURES, GENERATION_MEASURES)
)
