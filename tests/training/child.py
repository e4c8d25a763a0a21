"""Trains the tiny model in a process of its own, which a test kills; prints each step.

Arguments: home, checkpoint folder.
"""

import sys
from dataclasses import replace
from pathlib import Path

from headwater.base_model import TINY, prepare
from headwater.settings import Settings
from tests.training.conftest import make_examples
from training.progress import OnStep, Progress, Trained
from training.recipe import Recipe, load_recipe
from training.trainer import train

RECIPE: Recipe = replace(
    load_recipe("smoke"), epochs=4, max_steps=None, save_every=3, rows_per_step=4, layers=None
)
STEPS = 12  # 10 rows, 4 to a step, 4 epochs


def fit(home: Path, work: Path, on_step: OnStep | None = None) -> Trained:
    base = prepare(Settings(home=home), TINY)
    rows = make_examples(12)
    return train(rows[:10], rows[10:], base, RECIPE, work=work, threads=2, on_step=on_step)


def _say(progress: Progress) -> None:
    print(f"step {progress.step}", flush=True)


if __name__ == "__main__":
    fit(Path(sys.argv[1]), Path(sys.argv[2]), _say)
