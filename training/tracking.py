"""A training as an MLflow run: parameters, metrics, data and code versions, energy, pictures.

Knows what a training reports; the files that serve lie elsewhere, MLflow shows people how they
came to be.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headwater.base_model import BaseModel
from headwater.records import short
from headwater.settings import Settings, quiet_libraries
from training.adapter import CARD, TRAINING_VERSION, Adapter
from training.data import Examples
from training.parity import ParityReport
from training.plots import loss_curve
from training.progress import TrainingResult
from training.recipe import Recipe

EXPERIMENT = "headwater-training"
#: A finished run is found again by the adapter it made.
ADAPTER_TAG = "headwater.adapter"


def record_run(
    settings: Settings,
    base: BaseModel,
    recipe: Recipe,
    examples: Examples,
    *,
    adapter: Adapter,
    result: TrainingResult,
    parity: ParityReport,
    identity: Mapping[str, str],
) -> str:
    """Log one training; returns the run's id. Repeated for the same adapter, logs nothing new.

    Args:
        identity: further tags, such as the run of the orchestrator.
    """
    quiet_libraries()
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput

    (settings.root / "mlflow").mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiment = _experiment(client, settings)
    wanted = f"tags.`{ADAPTER_TAG}` = '{adapter.id}' and attributes.status = 'FINISHED'"
    if known := client.search_runs([experiment], wanted, max_results=1):
        return str(known[0].info.run_id)
    tags = {
        **identity,
        ADAPTER_TAG: adapter.id,
        "headwater.weights": adapter.weights_digest,
        "headwater.base_model": base.digest,
        "headwater.dataset": adapter.dataset_digest,
        "headwater.recipe": adapter.recipe_digest,
        "headwater.training_version": str(TRAINING_VERSION),
    }
    if commit := code_version():
        tags["mlflow.source.git.commit"] = commit
    name = f"{recipe.name} {short(adapter.id)}"
    run = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    # MLflow's own limit is 36 characters.
    dataset = Dataset("sft_dataset", adapter.dataset_digest[:32], "headwater", json.dumps({}))
    client.log_inputs(run, [DatasetInput(dataset)])
    client.log_batch(
        run,
        params=_params(base, recipe, examples, settings.threads),
        metrics=_metrics(result, parity),
    )
    client.log_text(run, json.dumps(asdict(parity), indent=2), "parity.json")
    client.log_artifact(run, str(adapter.folder / CARD))
    _log_png(client, run, loss_curve(result.losses), "loss.png")
    client.set_terminated(run)
    return str(run)


def code_version() -> str | None:
    """The git commit of this code, with "+changes" where files differ; None outside a clone."""
    folder = str(Path(__file__).parent)

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", folder, *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and git("status", "--porcelain", "-uno") else commit


def _experiment(client: Any, settings: Settings) -> str:
    """Id of the experiment; its artifacts lie beside the database."""
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return str(known.experiment_id)
    artifacts = (settings.root / "mlflow" / "artifacts" / EXPERIMENT).as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))


def _params(base: BaseModel, recipe: Recipe, examples: Examples, threads: int) -> list[Any]:
    from mlflow.entities import Param

    values = {
        **asdict(recipe),
        "base_model": base.name,
        "train_rows": len(examples.train),
        "validation_rows": len(examples.validation),
        "threads": threads,
    }
    return [Param(key, str(value)) for key, value in values.items()]


def _metrics(result: TrainingResult, parity: ParityReport) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = []
    for point in result.losses:
        for key, value in (("loss", point.loss), ("validation_loss", point.validation)):
            if value is not None:
                metrics.append(Metric(key, value, now, point.step))
    finals = {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens_per_second,
        "energy_kwh": result.energy_kwh,
        "emissions_kg": result.emissions_kg,
        "parity": parity.agreement,
        "parity_without_adapter": parity.without,
    }
    metrics += [
        Metric(key, float(value), now, result.steps)
        for key, value in finals.items()
        if value is not None
    ]
    return metrics


def _log_png(client: Any, run: str, png: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="headwater-plot-") as folder:
        path = Path(folder) / name
        path.write_bytes(png)
        client.log_artifact(run, str(path))
