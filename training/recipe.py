"""Recipes: the choices of a training, as data. Mechanism lives in the other modules.

A recipe is a YAML file in `training/recipes` (or anywhere, by its path). Unknown keys are errors,
so a misspelt choice never trains with a default in silence.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from headwater.errors import HeadwaterError
from headwater.records import digest_of

#: Every linear layer of a llama block.
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FOLDER = Path(__file__).parent / "recipes"
#: Choices that never move a weight, so they are not part of what names an adapter.
_NOT_NAMING = ("name", "save_every", "parity_threshold", "dataset", "evaluation")
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DatasetChoices:
    """How many supervised rows to make, and of how many the base model writes the question."""

    max_rows: PositiveInt
    written_questions: int

    @property
    def digest(self) -> str:
        return digest_of(asdict(self))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EvaluationChoices:
    """How many golden questions are answered by generation, and how long an answer may be."""

    generation_items: PositiveInt
    max_new_tokens: PositiveInt

    @property
    def digest(self) -> str:
        return digest_of(asdict(self))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Recipe:
    """Everything that decides an adapter, given a base model and rows.

    Attributes:
        base: a base model in place of the installation's, as HEADWATER_BASE_MODEL names one.
        layers: adapt this many layers, counted from the top; None for all.
        warmup: share of the steps over which the learning rate rises.
        max_steps: end the plan of `epochs` early.
        rows_per_step: rows of one optimizer step.
        max_tokens: longer rows (prompt and answer) are left out.
        context_tokens: narrows the prompt's context while training; None for as it is served.
        evaluations: times the validation loss is taken, after the one before the first step.
        save_every: optimizer steps between two checkpoints.
        parity_threshold: least share of greedy tokens that PyTorch and the engine must share.
    """

    name: str
    dataset: DatasetChoices
    evaluation: EvaluationChoices
    base: str | None = None
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16
    targets: tuple[str, ...] = ALL_LINEAR
    layers: PositiveInt | None = None
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: PositiveFloat = 1.0
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    rows_per_step: PositiveInt = 8
    max_tokens: PositiveInt = 768
    context_tokens: PositiveInt | None = None
    evaluations: PositiveInt = 2
    save_every: PositiveInt = 4
    parity_threshold: float = 0.9
    seed: int = 0

    @property
    def digest(self) -> str:
        """Names the choices that decide the adapter's weights."""
        choices = asdict(self)
        return digest_of({key: choices[key] for key in choices if key not in _NOT_NAMING})


def load_recipe(name: str) -> Recipe:
    """The recipe of a name in `training/recipes`, or of a YAML file's path.

    Raises:
        HeadwaterError: there is none, or a choice is unknown or impossible.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else _FOLDER / f"{name}.yaml"
    try:
        choices = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.yaml")))
        raise HeadwaterError(
            f"There is no recipe {name!r}.", mend=f"Use one of {known}, or a YAML file's path."
        ) from error
    except yaml.YAMLError as error:
        raise HeadwaterError(f"{path} is not YAML: {error}.", mend="Mend the file.") from error
    try:
        return TypeAdapter(Recipe).validate_python({"name": path.stem, **(choices or {})})
    except (ValidationError, TypeError) as error:
        raise HeadwaterError(
            f"The recipe {path.name} is wrong: {error}.", mend="Mend the choices it names."
        ) from error
