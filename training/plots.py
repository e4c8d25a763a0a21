"""The loss curve, as PNG bytes."""

import io
from collections.abc import Sequence

from training.progress import LossPoint


def loss_curve(losses: Sequence[LossPoint]) -> bytes:
    """Training loss by step, and the validation loss where it was taken; nats per token."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    trained = [(point.step, point.loss) for point in losses if point.loss is not None]
    held_out = [(point.step, point.validation) for point in losses if point.validation is not None]
    if trained:
        axes.plot(*zip(*trained, strict=True), color="#9aa5b1", marker=".", label="training")
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color="#4c78a8", marker="o", label="validation")
    axes.set(xlabel="optimizer step", ylabel="loss, nats per token", title="LoRA training")
    axes.grid(alpha=0.3)
    if trained or held_out:
        axes.legend()
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()
