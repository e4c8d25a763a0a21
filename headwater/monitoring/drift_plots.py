"""Pictures of the drift report, as PNG bytes. Knows samples and figures only."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.monitoring.drift_state import WindowFigures
from headwater.monitoring.features import NUMBERS, Sample
from headwater.monitoring.panels import PANELS

_OLD, _NEW, _LIMIT = "#4c78a8", "#f58518", "#e45756"
_BINS = 24


def evidence_plot(history: Sequence[WindowFigures], threshold: float) -> bytes:
    """Evidence of each panel and of all together over windows, logarithmic, with the threshold."""
    figure, axes = _figure(1, 1, width=9.2)
    numbers = [figures.number for figures in history]
    for name in PANELS:
        values = [figures.evidence[name] for figures in history]
        axes.plot(numbers, values, linewidth=1, alpha=0.7, label=name)
    axes.plot(numbers, [f.combined for f in history], "k", linewidth=2, marker=".", label="all")
    axes.axhline(threshold, color=_LIMIT, linestyle="--", linewidth=1)
    axes.set(yscale="log", xlabel="window", title="evidence; all together decide (dashed)")
    axes.legend(loc="upper left", fontsize=8)
    return _png(figure)


def topics_plot(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], limit: float) -> bytes:
    """Cosine of each question and the nearest of the reference, with the limit of `unlike`."""
    figure, axes = _figure(1, 1, width=9.2)
    _overlaid(axes, old, new)
    axes.axvline(limit, color=_LIMIT, linestyle="--", linewidth=1)
    axes.set(title="cosine to the nearest question of the reference; unlike is left of the line")
    axes.legend(loc="upper left", fontsize=8)
    return _png(figure)


def numbers_plot(reference: Sample, current: Sample) -> bytes:
    """Distributions of all numbers, one small picture each."""
    columns = 3
    rows = -(-len(NUMBERS) // columns)
    figure, grid = _figure(rows, columns, width=9.2)
    for axes, name in zip(np.ravel(grid), NUMBERS, strict=False):
        old, new = (s.column(name)[~np.isnan(s.column(name))] for s in (reference, current))
        if len(old) and len(new):
            _overlaid(axes, old, new)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    return _png(figure)


def _overlaid(axes: Any, old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> None:
    """Two histograms over common bins, each as shares."""
    bins = np.histogram_bin_edges(np.concatenate([old, new]), bins=_BINS)
    for values, colour, label in ((old, _OLD, "reference"), (new, _NEW, "current")):
        shares = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=bins, weights=shares, color=colour, alpha=0.5, label=label)


def _figure(rows: int, columns: int, *, width: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.4 if rows == 1 else 2.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
    return buffer.getvalue()
