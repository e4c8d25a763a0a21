"""LoRA fine-tuning: from examples, a base model and a recipe to a PEFT model.

Knows nothing about the lake, Dagster or MLflow. Everything random (first weights, order of rows)
comes from the recipe's seed, and each step's arithmetic depends on its rows alone, so a training
that was killed and resumed ends with the weights of one that was not, bit for bit, on the same
machine and number of threads.
"""

import logging
import random
import warnings
from collections.abc import Sequence
from pathlib import Path

from headwater.base_model import BaseModel, load_torch
from headwater.settings import quiet_libraries
from training import checkpoint
from training.data import Encoded, Example, encode
from training.energy import EnergyMeter
from training.errors import TrainingError
from training.model import add_lora
from training.progress import OnStep, Trained, TrainingResult
from training.recipe import Recipe

log = logging.getLogger("headwater")


def plan_steps(rows: Sequence[Encoded], recipe: Recipe) -> list[list[Encoded]]:
    """The rows of every optimizer step, over all epochs: a function of rows and recipe alone."""
    ordered = sorted(rows, key=lambda row: row.id)
    size = recipe.rows_per_step
    plan = []
    for epoch in range(recipe.epochs):
        shuffled = random.Random(f"{recipe.seed}/{epoch}").sample(ordered, len(ordered))
        plan += [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    return plan[: recipe.max_steps]


def train(
    examples: Sequence[Example],
    validation: Sequence[Example],
    base: BaseModel,
    recipe: Recipe,
    *,
    work: Path,
    threads: int,
    on_step: OnStep | None = None,
) -> Trained:
    """Fit LoRA weights to examples; goes on where `work` holds checkpoints of this training.

    Args:
        examples: what to learn from.
        validation: what the loss is also taken on; may be empty.
        base: the frozen model.
        recipe: the choices.
        work: folder of checkpoints, which must belong to these examples, base and recipe (its
            name is their digest); it need not exist.
        threads: of PyTorch. The last bit of a weight depends on it.
        on_step: called after each optimizer step.

    Raises:
        TrainingError: no row is short enough, or the loss is no longer a number.
    """
    quiet_libraries()
    import torch

    from training.loop import LoraTrainer

    torch.set_num_threads(threads)
    model, tokenizer = load_torch(base)
    rows = encode(examples, tokenizer, max_tokens=recipe.max_tokens)
    held_out = encode(validation, tokenizer, max_tokens=recipe.max_tokens)
    if not rows:
        raise TrainingError(
            f"None of {len(examples)} training rows has at most {recipe.max_tokens} tokens.",
            mend="Raise max_tokens in the recipe, or add documents.",
        )
    plan = plan_steps(rows, recipe)
    found = checkpoint.latest(work)
    done = checkpoint.progress_of(found)["step"] if found else 0
    if found:
        log.info("training: resuming after step %d of %d", done, len(plan))
    with warnings.catch_warnings(), EnergyMeter() as meter:
        # PEFT and Trainer ask transformers by a name that it renames in version 6.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        trainer = LoraTrainer(
            add_lora(model, recipe), plan, held_out, recipe, work=work, meter=meter, on_step=on_step
        )
        trainer.train(resume_from_checkpoint=str(found) if found else None)
        tally = trainer.tally()
    result = TrainingResult(
        steps=len(plan),
        computed_steps=len(plan) - done,
        rows=len(rows),
        losses=tuple(tally.losses),
        seconds=tally.seconds,
        tokens=tally.tokens,
        energy_kwh=tally.energy_kwh,
        emissions_kg=tally.emissions_kg,
    )
    return Trained(model=trainer.model.eval(), tokenizer=tokenizer, result=result)
