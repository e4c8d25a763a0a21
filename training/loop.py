"""The steps: transformers' Trainer with our loss, our order of rows and our checkpoints.

Imports PyTorch and transformers at once; import this module where a training starts, not before.
What Trainer gives: optimizer, schedule, clipping, the loop. One of its batches is one optimizer
step here, and its one epoch is the whole plan, so that its own resuming skips exactly the steps
that are done.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from training import checkpoint
from training.data import Encoded
from training.energy import EnergyMeter
from training.errors import TrainingError
from training.model import SupervisedModel
from training.progress import LossPoint, OnStep, Progress, log_step
from training.recipe import Recipe

#: Seconds between two lines of progress.
LOG_EVERY = 5.0
#: Our names of schedules, and transformers'.
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def warmup_steps(recipe: Recipe, steps: int) -> int:
    """Steps over which the learning rate rises."""
    return math.ceil(recipe.warmup * steps)


@dataclass(kw_only=True)
class Tally:
    """What adds up over steps and attempts."""

    losses: list[LossPoint] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    energy_kwh: float | None = None
    emissions_kg: float | None = None


class LoraTrainer(Trainer):  # type: ignore[misc]
    """Runs a plan of steps over a PEFT model.

    Args:
        model: with LoRA, as `training.model.add_lora` makes it.
        plan: rows of each optimizer step.
        held_out: rows of the validation loss.
        recipe: optimizer, schedule, when to save and to validate.
        work: folder of checkpoints.
        meter: running; read at each checkpoint and at the end.
        on_step: called after each optimizer step.
    """

    def __init__(
        self,
        model: Any,
        plan: Sequence[list[Encoded]],
        held_out: Sequence[Encoded],
        recipe: Recipe,
        *,
        work: Path,
        meter: EnergyMeter,
        on_step: OnStep | None,
    ) -> None:
        arguments = TrainingArguments(
            output_dir=str(work),
            use_cpu=True,
            num_train_epochs=1,
            per_device_train_batch_size=1,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type=SCHEDULES[recipe.schedule],
            warmup_steps=warmup_steps(recipe, len(plan)),
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
            optim="adamw_torch",
            save_strategy="steps",
            save_steps=recipe.save_every,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            report_to="none",
            disable_tqdm=True,
            seed=recipe.seed,
        )
        super().__init__(model=model, args=arguments, train_dataset=list(plan))
        self.remove_callback(PrinterCallback)
        self.add_callback(_Watch(self))
        self.plan, self.held_out, self.recipe = plan, held_out, recipe
        self.work, self.meter, self.on_step = work, meter, on_step
        adapted = recipe.layers or model.config.num_hidden_layers
        self.supervised = SupervisedModel(model, first=model.config.num_hidden_layers - adapted)
        every = len(plan) / recipe.evaluations
        self.evaluate_at = {round(every * (i + 1)) for i in range(recipe.evaluations)}
        self._before = Tally()
        self._tally = Tally()
        self._step_loss = math.nan
        self._started = self._said = time.perf_counter()

    def tally(self) -> Tally:
        """All that has added up, over this attempt and the ones it resumed."""
        now, before, energy = self._tally, self._before, self.meter.read()
        return Tally(
            losses=before.losses + now.losses,
            seconds=before.seconds + time.perf_counter() - self._started,
            tokens=before.tokens + now.tokens,
            energy_kwh=energy and (before.energy_kwh or 0.0) + energy[0],
            emissions_kg=energy and (before.emissions_kg or 0.0) + energy[1],
        )

    # What Trainer asks for.

    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=_only)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Mean loss of a step's supervised tokens, with its gradient, row by row."""
        model.train()
        supervised = sum(row.supervised for row in inputs)
        total = torch.zeros(())
        for row in inputs:
            loss = self.supervised.loss(row) / supervised
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"The loss is {loss.item()} at step {self.state.global_step + 1}, row {row.id}.",
                    mend="Lower learning_rate in the recipe, or delete a damaged base model.",
                )
            loss.backward()
            total += loss.detach()
        self._step_loss = total.item()
        self._tally.tokens += sum(len(row.ids) for row in inputs)
        return total

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        extra = {"tally": asdict(self.tally()), "schedule": self.lr_scheduler.state_dict()}
        checkpoint.save(self.work, self.model, self.optimizer, self.state, extra)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        checkpoint.load_weights(folder, self.model)
        tally = checkpoint.progress_of(folder)["tally"]
        losses = [LossPoint(**point) for point in tally.pop("losses")]
        self._before = Tally(losses=losses, **tally)

    def _load_optimizer_and_scheduler(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is None:
            return
        folder = Path(checkpoint_folder)
        schedule = checkpoint.progress_of(folder)["schedule"]
        checkpoint.load_optimizer(folder, self.model, self.optimizer)
        self.lr_scheduler.load_state_dict(schedule)
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing is drawn once training has begun."""

    # What the callback reports.

    def validation_loss(self) -> float | None:
        """Mean loss over the supervised tokens of all held-out rows, in nats."""
        if not self.held_out:
            return None
        with torch.no_grad():
            total = sum(self.supervised.loss(row).item() for row in self.held_out)
        return total / sum(row.supervised for row in self.held_out)

    def before_first_step(self) -> None:
        if self.state.global_step == 0:
            first = LossPoint(step=0, loss=None, validation=self.validation_loss())
            self._tally.losses.append(first)

    def after_step(self) -> None:
        step, steps = self.state.global_step, len(self.plan)
        validation = self.validation_loss() if step in self.evaluate_at else None
        point = LossPoint(step=step, loss=self._step_loss, validation=validation)
        self._tally.losses.append(point)
        seconds = time.perf_counter() - self._started
        rate = self._tally.tokens / seconds
        left = sum(len(row.ids) for rows in self.plan[step:] for row in rows) / rate
        progress = Progress(
            step=step, steps=steps, point=point, tokens_per_second=rate, seconds_left=left
        )
        if time.perf_counter() - self._said >= LOG_EVERY or step == steps:
            self._said = time.perf_counter()
            log_step(progress)
        if self.on_step:
            self.on_step(progress)


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Hands Trainer's events to ours."""

    def __init__(self, trainer: LoraTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainer.before_first_step()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.trainer.after_step()


def _only(items: list[Any]) -> Any:
    return items[0]
