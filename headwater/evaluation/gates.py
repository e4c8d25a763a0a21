"""The one policy of what a release must show, and whether it does.

The thresholds are in gates.yaml; this module knows how to read each measure from the reports.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from operator import ge, le, lt
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from headwater.evaluation.generation import GeneratedItem, GenerationReport
from headwater.evaluation.likelihood import ADAPTER, BASE
from headwater.evaluation.retrieval import DEPTH, MODES, RankedItem, RetrievalReport, RetrievalSlice
from headwater.evaluation.statistics import Interval
from headwater.records import digest_of

#: Examples that a blocking gate shows, and the length to which their texts are cut.
EXAMPLES, EXAMPLE_CHARS = 5, 200
Measure = Literal["recall_at_5", "fused_minus_best", "nll_delta", "citation_delta"]
#: What a candidate is compared with the champion in: nats per token of the release's own model, and
#: of fused retrieval; the last two are right or wrong.
RelativeMeasure = Literal["nll", "ndcg_at_10", "recall_at_5", "cites_right"]
BINARY: tuple[RelativeMeasure, ...] = ("recall_at_5", "cites_right")
RETRIEVAL_MEASURES: tuple[Measure, ...] = ("recall_at_5", "fused_minus_best")
GENERATION_MEASURES: tuple[Measure, ...] = ("nll_delta", "citation_delta")
#: The gate that there was something to ask.
GOLDEN_SET = "golden_set"
Example = Mapping[str, str]
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">=": ge, "<=": le, "<": lt}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gate(_Model):
    """One comparison; `bound` is the end of the measure's interval that is compared."""

    name: str
    measure: Measure
    bound: Literal["mean", "low", "high"] = "mean"
    must_be: Literal[">=", "<=", "<"]
    limit: float


class SlicePolicy(_Model):
    """Gates over the curated or the provisional questions."""

    min_items: int = Field(ge=1, description="With fewer questions nothing is judged.")
    gates: tuple[Gate, ...]


class RelativeGate(_Model):
    """One comparison with the champion; it blocks what is shown to be worse by more than this."""

    name: str
    measure: RelativeMeasure
    worse_than: float = Field(ge=0, description="A difference that does not matter.")

    @model_validator(mode="after")
    def _margin_has_a_test(self) -> Self:
        if self.measure in BINARY and self.worse_than:
            raise ValueError(f"{self.measure} is tested by McNemar, which knows no margin but 0")
        return self


class RelativePolicy(_Model):
    """Gates against the champion, and how often they may block one that is not worse."""

    false_block: float = Field(gt=0, lt=1, description="Of a candidate, by all gates together.")
    min_items: int = Field(ge=1, description="With fewer common questions nothing is judged.")
    gates: tuple[RelativeGate, ...]

    @property
    def level(self) -> float:
        """The level of each test: Bonferroni, so that a gate needs no other to be judged."""
        return self.false_block / max(len(self.gates), 1)


class Policy(_Model):
    """All gates of a release."""

    curated: SlicePolicy
    provisional: SlicePolicy
    relative: RelativePolicy

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))

    def gates_on(self, measures: Collection[Measure]) -> Iterator[tuple[Gate, bool, int]]:
        """Gates on some measures: the gate, whether on provisional questions, and `min_items`."""
        for part, provisional in ((self.curated, False), (self.provisional, True)):
            for gate in part.gates:
                if gate.measure in measures:
                    yield gate, provisional, part.min_items


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A comparison with the champion: candidate - champion with its 95 % interval, and the test.

    `left_out` counts questions that one of the two was not asked, or asked otherwise.
    """

    champion: str  # id of a release
    low: float
    high: float
    p_value: float
    level: float
    items: int
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one gate found; `examples` are the questions behind a failure, worst first.

    An example has three texts: "question", "expected" (the document), "value" (what was found; of a
    relative gate, by the champion and by the candidate).
    """

    name: str
    passed: bool
    value: float | None  # None: not judged
    threshold: str
    detail: str
    examples: tuple[Example, ...] = ()
    against: Against | None = None  # of a relative gate that was judged

    def as_mapping(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {**asdict(self), "examples": [dict(example) for example in self.examples]}


def load_policy() -> Policy:
    """The policy of gates.yaml."""
    text = resources.files(__package__).joinpath("gates.yaml").read_text("utf-8")
    return Policy.model_validate(yaml.safe_load(text))


def evaluate_gates(
    retrieval: RetrievalReport, generation: GenerationReport, policy: Policy
) -> list[GateResult]:
    """Judge a candidate by the reports over one golden set; every gate, in the policy's order.

    A gate with too few questions, or whose measure needs an adapter that is not there, passes and
    says that it was not judged.
    """
    return [*retrieval_gates(retrieval, policy), *generation_gates(generation, policy)]


def retrieval_gates(report: RetrievalReport, policy: Policy) -> list[GateResult]:
    """The gates on retrieval; `golden_set` fails where there was nothing to ask."""
    asked = len(report.rows)
    some = GateResult(
        name=GOLDEN_SET,
        passed=asked > 0,
        value=float(asked),
        threshold="> 0",
        detail=f"{asked} questions were asked",
    )
    judged = []
    for gate, provisional, min_items in policy.gates_on(RETRIEVAL_MEASURES):
        figures = report.provisional if provisional else report.curated
        interval = _retrieval_measure(gate.measure, figures) if figures else None
        asked = figures.items if figures else 0
        rows = [row for row in report.rows if row.provisional == provisional]
        other = _best_single(figures) if figures and gate.measure == "fused_minus_best" else None
        judged.append(_judge(gate, interval, asked, min_items, _misranked(rows, other)))
    return [some, *judged]


def generation_gates(report: GenerationReport, policy: Policy) -> list[GateResult]:
    """The gates on the adapter against the base."""
    judged = []
    for gate, provisional, min_items in policy.gates_on(GENERATION_MEASURES):
        figures = report.provisional if provisional else report.curated
        rows = [row for row in report.rows if row.provisional == provisional and ADAPTER in row.nll]
        if gate.measure == "nll_delta":
            measure, asked, examples = "nll", figures.items if figures else 0, _less_likely(rows)
        else:
            measure, examples = "cites_right", _cited_worse(rows)
            asked = figures.answered if figures else 0
        interval = figures.deltas.get(measure) if figures else None
        judged.append(_judge(gate, interval, asked, min_items, examples))
    return judged


def is_provisional(retrieval: RetrievalReport, policy: Policy) -> bool:
    """Whether too few questions that a person wrote or confirmed have judged the candidate."""
    return retrieval.curated is None or retrieval.curated.items < policy.curated.min_items


def _judge(
    gate: Gate, interval: Interval | None, asked: int, min_items: int, examples: Sequence[Example]
) -> GateResult:
    threshold = f"{gate.bound} {gate.must_be} {gate.limit:g}"
    if interval is None or asked < min_items:
        why = f"{asked} questions, needs {min_items}" if asked < min_items else "no adapter"
        return GateResult(
            name=gate.name,
            passed=True,
            value=None,
            threshold=threshold,
            detail=f"not judged: {why}",
        )
    value = float(getattr(interval, gate.bound))
    passed = _COMPARE[gate.must_be](value, gate.limit)
    detail = f"{gate.measure} {interval.mean:.3f}"
    if interval.low != interval.high:
        detail += f" [{interval.low:.3f}, {interval.high:.3f}]"
    return GateResult(
        name=gate.name,
        passed=passed,
        value=value,
        threshold=threshold,
        detail=f"{detail} over {asked} questions",
        examples=() if passed else tuple(examples[:EXAMPLES]),
    )


def _retrieval_measure(measure: Measure, figures: RetrievalSlice) -> Interval:
    """The measure with its interval, of no width where none is computed."""
    if measure == "fused_minus_best":
        return figures.differences[f"fused-{_best_single(figures)}"]
    recall = figures.modes["fused"].recall[5]
    return Interval(mean=recall, low=recall, high=recall)


def _best_single(figures: RetrievalSlice) -> str:
    """The better of dense and BM25 in nDCG@10."""
    single = [mode for mode in MODES if mode != "fused"]
    return max(single, key=lambda mode: figures.modes[mode].ndcg_at_10.mean)


def _misranked(rows: Sequence[RankedItem], other: str | None) -> list[Example]:
    """Questions that fused retrieval ranks below 5, or below where `other` ranks them."""

    def rank(row: RankedItem, mode: str) -> int:
        found = row.rank[mode]
        return DEPTH + 1 if found is None else found

    bad = [row for row in rows if rank(row, "fused") > (rank(row, other) if other else 5)]
    return [
        example_of(
            row.question,
            row.uri,
            f"rank {row.rank['fused'] or f'> {DEPTH}'}, first is {row.top['fused']}",
        )
        for row in sorted(bad, key=lambda row: -rank(row, "fused"))
    ]


def _less_likely(rows: Sequence[GeneratedItem]) -> list[Example]:
    """Questions by how much less likely the adapter finds their reference than the base does."""

    def delta(row: GeneratedItem) -> float:
        return row.nll[ADAPTER] - row.nll[BASE]

    worse = sorted(rows, key=lambda row: -delta(row))
    return [example_of(row.question, row.uri, f"{delta(row):+.3f} nats per token") for row in worse]


def _cited_worse(rows: Sequence[GeneratedItem]) -> list[Example]:
    """Questions where the base's answer cites the right document and the adapter's does not."""
    return [
        example_of(
            row.question, row.uri, f"{row.answers[ADAPTER].cited}: {row.answers[ADAPTER].text}"
        )
        for row in rows
        if row.answers and row.answers[BASE].cites_right and not row.answers[ADAPTER].cites_right
    ]


def example_of(question: str, expected: str, value: str) -> Example:
    """One example, its texts cut to what a table holds."""
    return {"question": _cut(question), "expected": expected, "value": _cut(value)}


def _cut(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARS else text[: EXAMPLE_CHARS - 1] + "…"


def _names(policy: Policy, measures: Collection[Measure]) -> tuple[str, ...]:
    return tuple(gate.name for gate, _, _ in policy.gates_on(measures))


#: Names of all gates on a report, whether or not there is something to judge: what checks an asset
#: declares. Read from the policy's file, which is small, so that the two cannot disagree.
RETRIEVAL_GATES = (GOLDEN_SET, *_names(load_policy(), RETRIEVAL_MEASURES))
GENERATION_GATES = _names(load_policy(), GENERATION_MEASURES)
