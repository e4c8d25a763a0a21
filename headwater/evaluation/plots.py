"""Pictures of the evaluation, as PNG bytes. Knows the reports' figures only."""

import io
from collections.abc import Sequence
from typing import Any

from headwater.evaluation.generation import GenerationSlice
from headwater.evaluation.retrieval import CUTOFFS, RetrievalSlice
from headwater.evaluation.statistics import Interval

_COLOURS = {"dense": "#4c78a8", "bm25": "#f58518", "fused": "#54a24b"}
_ARM_COLOURS = ("#9aa5b1", "#54a24b")


def retrieval_plot(figures: RetrievalSlice) -> bytes:
    """nDCG@10 with intervals, and recall over k, for each mode."""
    figure, (left, right) = _figure(2)
    for at, (mode, shown) in enumerate(figures.modes.items()):
        value = shown.ndcg_at_10
        left.bar(at, value.mean, color=_COLOURS[mode], yerr=_whiskers([value]), capsize=6)
        recall = [shown.recall[k] for k in CUTOFFS]
        right.plot(CUTOFFS, recall, marker="o", color=_COLOURS[mode], label=mode)
    left.set(title="nDCG@10, 95 % interval", xticks=range(len(figures.modes)), ylim=(0, 1.05))
    left.set_xticklabels(list(figures.modes))
    right.set(title="recall@k", xticks=CUTOFFS, ylim=(0, 1.05), xlabel="k")
    right.legend(loc="lower right")
    return _png(figure)


def generation_plot(figures: GenerationSlice, deltas: Sequence[float]) -> bytes:
    """NLL per token of both arms, and each question's difference, sorted.

    Args:
        deltas: adapter - base of every question, nats per token; empty without an adapter.
    """
    figure, (left, right) = _figure(2)
    for at, shown in enumerate(figures.arms.values()):
        whiskers = _whiskers([shown.nll])
        left.bar(at, shown.nll.mean, color=_ARM_COLOURS[at], yerr=whiskers, capsize=6)
    left.set(title="NLL of references, nats per token", xticks=range(len(figures.arms)))
    left.set_xticklabels(list(figures.arms))
    ordered = sorted(deltas)
    colours = ["#54a24b" if delta < 0 else "#e45756" for delta in ordered]
    right.bar(range(len(ordered)), ordered, color=colours)
    right.axhline(0, color="#1c2430", linewidth=0.8)
    right.set(title="adapter - base, by question (below 0 is better)", xlabel="questions")
    return _png(figure)


def _figure(panels: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels, 3.4), layout="constrained")
    return figure, figure.subplots(1, panels)


def _whiskers(values: Sequence[Interval]) -> list[list[float]]:
    """Distances below and above the means, as matplotlib wants them."""
    return [[v.mean - v.low for v in values], [v.high - v.mean for v in values]]


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
