"""One training from end to end: rows of the lake in, a published adapter and its report out.

This is what an asset, a notebook and `python -m training` call. Repeated with the same rows, base
and recipe it does nothing; killed anywhere it goes on where it was.
"""

import fcntl
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headwater.base_model import BaseModel, prepare, token_counter
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.monitoring.retraining import TrainingCost
from headwater.records import Prompt, short
from headwater.settings import Settings
from training.adapter import (
    CURRENT,
    Adapter,
    adapter_id,
    current_adapter,
    load_adapter,
    save_adapter,
)
from training.data import Examples
from training.parity import ParityReport, PromptParity, parity
from training.progress import LossPoint, OnStep, TrainingResult
from training.recipe import Recipe
from training.rows import load_examples
from training.tracking import record_run
from training.trainer import train

log = logging.getLogger("headwater")

#: What a training measured, beside the adapter it made. Not part of its identity.
REPORT = "training.json"
#: Prompts and tokens of each that PyTorch and the engine are compared on.
PARITY_PROMPTS, PARITY_TOKENS = 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRun:
    """An adapter and how it was made; `computed_steps` is 0 where it was there already."""

    adapter: Adapter
    result: TrainingResult
    parity: ParityReport
    mlflow_run: str
    computed_steps: int


def fit_adapter(
    settings: Settings,
    lake: Lake,
    recipe: Recipe,
    *,
    prompt: Prompt = DEFAULT_PROMPT,
    identity: Mapping[str, str] | None = None,
    on_step: OnStep | None = None,
) -> AdapterRun:
    """Train the adapter that the lake's rows, the base model and the recipe name, if it is missing.

    Args:
        prompt: the one that serving uses.
        identity: tags of the MLflow run, for example the Dagster run.
        on_step: called after each optimizer step.

    Raises:
        HeadwaterError: there are no rows, or the base model is missing.
        TrainingError: the training cannot go on.
    """
    base = prepare(settings, recipe.base)
    examples = load_examples(
        lake, prompt, token_counter(base), context_tokens=recipe.context_tokens
    )
    id_ = adapter_id(base, examples.digest, recipe)
    work = settings.training / id_[:16]
    with one_training(settings.training):
        if (run := _published(settings.adapters / id_)) is not None:
            log.info("training: adapter %s is there", short(id_))
        else:
            run = _train(
                settings, base, recipe, examples, work=work, identity=identity, on_step=on_step
            )
        write_json(settings.adapters / CURRENT, {"id": id_})
        shutil.rmtree(work, ignore_errors=True)
    return run


def current_run(settings: Settings) -> AdapterRun:
    """The adapter that the last training made or found, with what it measured then.

    Raises:
        HeadwaterError: nothing was trained yet.
    """
    run = _published(current_adapter(settings).folder)
    if run is None:
        raise HeadwaterError("The last training is not finished.", mend="Run `headwater build`.")
    return run


def past_costs(settings: Settings) -> list[TrainingCost]:
    """What each training of this installation took, as it was measured then."""
    reports = (read_json(path) for path in sorted(settings.adapters.glob(f"*/{REPORT}")))
    return [
        TrainingCost(
            seconds=report["result"]["seconds"],
            kwh=report["result"]["energy_kwh"],
            kg_co2=report["result"]["emissions_kg"],
        )
        for report in reports
        if report is not None
    ]


def _train(
    settings: Settings,
    base: BaseModel,
    recipe: Recipe,
    examples: Examples,
    *,
    work: Path,
    identity: Mapping[str, str] | None,
    on_step: OnStep | None,
) -> AdapterRun:
    """Every step may be repeated after a kill: the last checkpoint holds the finished training."""
    threads = settings.threads
    trained = train(
        examples.train, examples.validation, base, recipe,
        work=work, threads=threads, on_step=on_step,
    )  # fmt: skip
    adapter = save_adapter(trained.model, base, examples.digest, recipe, settings.adapters)
    shown = (examples.validation or examples.train)[:PARITY_PROMPTS]
    same = parity(
        trained.model,
        trained.tokenizer,
        base,
        adapter,
        [example.prompt for example in shown],
        threads=threads,
        n_tokens=PARITY_TOKENS,
    )
    run = record_run(
        settings,
        base,
        recipe,
        examples,
        adapter=adapter,
        result=trained.result,
        parity=same,
        identity=identity or {},
    )
    report = {"result": asdict(trained.result), "parity": asdict(same), "mlflow_run": run}
    write_json(adapter.folder / REPORT, report)
    return AdapterRun(
        adapter=adapter,
        result=trained.result,
        parity=same,
        mlflow_run=run,
        computed_steps=trained.result.computed_steps,
    )


def _published(folder: Path) -> AdapterRun | None:
    """The finished adapter in a folder, its files checked; None where it is missing or half done."""
    report: dict[str, Any] | None = read_json(folder / REPORT)
    if report is None:
        return None
    losses = tuple(LossPoint(**point) for point in report["result"].pop("losses"))
    prompts = tuple(
        PromptParity(torch=tuple(shown["torch"]), engine=tuple(shown["engine"]))
        for shown in report["parity"].pop("prompts")
    )
    return AdapterRun(
        adapter=load_adapter(folder),
        result=TrainingResult(losses=losses, **report["result"]),
        parity=ParityReport(prompts=prompts, **report["parity"]),
        mlflow_run=report["mlflow_run"],
        computed_steps=0,
    )


@contextmanager
def one_training(folder: Path) -> Iterator[None]:
    """Hold the installation's training lock, which dies with the process.

    Two trainings must not write the same checkpoints, nor share the machine. Dagster's pool alone
    does not hold that: on SQLite two processes can claim its one slot in the same moment.

    Args:
        folder: of the trainings' checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("training: waiting for another process that trains")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
