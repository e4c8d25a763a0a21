"""What a training says while it runs and when it is done."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """Mean loss over a step's supervised tokens, in nats; `validation` where it was taken.

    Step 0 is the untrained adapter: it has a validation loss only.
    """

    step: int
    loss: float | None
    validation: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands, for whoever watches."""

    step: int
    steps: int
    point: LossPoint
    tokens_per_second: float
    seconds_left: float


OnStep = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training did. Seconds, tokens and energy count all attempts that led to the result.

    `computed_steps` are those of this call: fewer than `steps` where it resumed. Energy and
    emissions are None where they cannot be measured.
    """

    steps: int
    computed_steps: int
    rows: int
    losses: tuple[LossPoint, ...]
    seconds: float
    tokens: int
    energy_kwh: float | None
    emissions_kg: float | None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The PEFT model in evaluation mode, its tokenizer, and how it came about."""

    model: Any
    tokenizer: Any
    result: TrainingResult


def log_step(progress: Progress) -> None:
    """One line of the log."""
    point = progress.point
    validation = "" if point.validation is None else f", validation {point.validation:.3f}"
    loss = "" if point.loss is None else f"loss {point.loss:.3f}"
    log.info(
        "training: step %d/%d, %s%s, %.0f tokens/s, %.0f s left",
        progress.step,
        progress.steps,
        loss,
        validation,
        progress.tokens_per_second,
        progress.seconds_left,
    )
