"""Releases in MLflow's registry: adapter and prompt as versions, the alias `champion` on both.

The files under `Settings.releases` are what serves; MLflow shows people what is there and how it
came to be. Every function may be repeated after a kill, and registers nothing twice.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.datasets.prompt_registry import CHAMPION, mlflow_client
from headwater.datasets.prompt_registry import NAME as PROMPT
from headwater.datasets.prompt_registry import register as register_prompt
from headwater.files import read_json
from headwater.release.manifest import AdapterPin, Release, manifest_path
from headwater.settings import Settings

EXPERIMENT = "headwater-releases"
MODEL = "headwater"
#: Tags by which a thing is found again.
RELEASE_TAG, ADAPTER_TAG, PROMPT_TAG = "headwater.release", "headwater.adapter", "headwater.prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Where MLflow has a release; `created` is False if it was there already."""

    model_version: int
    prompt_version: int
    run_id: str  # the MLflow run that holds the manifest and the evaluation
    created: bool


def register(settings: Settings, release: Release) -> Registered:
    """Make the release the champion: one model version per release, one prompt version per prompt.

    The adapter's folder is logged once, as plain artifacts (MLflow's transformers flavour would
    reload a PEFT model with random weights), and each release with that adapter points at it.
    """
    client = mlflow_client(settings)
    experiment = _experiment(client, settings)
    prompt, _ = register_prompt(settings, release.prompt)
    run_id = _release_run(client, experiment, settings, release)
    known = _find_version(client, MODEL, f"tags.`{RELEASE_TAG}` = '{release.id}'")
    version = known or _model_version(
        client,
        settings,
        release,
        experiment=experiment,
        run_id=run_id,
        prompt_version=prompt.number,
    )
    client.set_registered_model_alias(MODEL, CHAMPION, str(version))
    client.set_prompt_alias(PROMPT, CHAMPION, prompt.number)
    return Registered(
        model_version=version,
        prompt_version=prompt.number,
        run_id=run_id,
        created=known is None,
    )


def champion(settings: Settings) -> str | None:
    """Id of the release that MLflow calls champion, or None before the first."""
    from mlflow.exceptions import MlflowException

    try:
        version = mlflow_client(settings).get_model_version_by_alias(MODEL, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return str(version.tags[RELEASE_TAG])


def _experiment(client: Any, settings: Settings) -> str:
    """Id of the experiment; its artifacts lie beside the database, not in the current folder."""
    known = client.get_experiment_by_name(EXPERIMENT)
    if known is not None:
        return str(known.experiment_id)
    artifacts = (settings.root / "mlflow" / "artifacts" / EXPERIMENT).as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))


def _find_version(client: Any, name: str, condition: str) -> int | None:
    """The first version of a model (or prompt) that meets a condition."""
    found = client.search_model_versions(f"name = '{name}' and {condition}")
    return min((int(version.version) for version in found), default=None)


def _model_version(
    client: Any,
    settings: Settings,
    release: Release,
    *,
    experiment: str,
    run_id: str,
    prompt_version: int,
) -> int:
    """Create the version; its source is the adapter's artifacts, or the run's without one."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            MODEL, description="Releases of Headwater: LoRA adapters over a pinned base model."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = (
        _adapter_source(client, experiment, settings, release.adapter)
        if release.adapter
        else f"{client.get_run(run_id).info.artifact_uri}/release"
    )
    tags = {
        RELEASE_TAG: release.id,
        PROMPT_TAG: release.prompt.digest,
        "prompt_version": str(prompt_version),
        **_pins(release),
    }
    return int(client.create_model_version(MODEL, source, run_id=run_id, tags=tags).version)


def _adapter_source(client: Any, experiment: str, settings: Settings, adapter: AdapterPin) -> str:
    """URI of the adapter's artifacts, logged by the first release that has it."""
    run = _run(client, experiment, ADAPTER_TAG, adapter.digest, f"adapter {adapter.id[:12]}")
    uri = f"{run.info.artifact_uri}/adapter"
    if run.info.status != "FINISHED":
        folder = (settings.root / adapter.file).parent
        client.log_artifacts(run.info.run_id, str(folder), artifact_path="adapter")
        client.set_terminated(run.info.run_id)
    return uri


def _release_run(client: Any, experiment: str, settings: Settings, release: Release) -> str:
    """The run that holds a release's pins, figures and manifest."""
    run = _run(client, experiment, RELEASE_TAG, release.id, f"release {release.id[:12]}")
    run_id = str(run.info.run_id)
    if run.info.status != "FINISHED":
        for name, value in _pins(release).items():
            client.log_param(run_id, name, value)
        for name, figure in _flat(release.evaluation):
            client.log_metric(run_id, name, figure)
        manifest = read_json(manifest_path(settings, release.id)) or release.to_json()
        client.log_dict(run_id, manifest, "release/manifest.json")
        client.set_terminated(run_id)
    return run_id


def _run(client: Any, experiment: str, tag: str, value: str, name: str) -> Any:
    """The run with a tag: one that is there (perhaps of a killed process), or a new one."""
    found = client.search_runs([experiment], f"tags.`{tag}` = '{value}'")
    finished = [run for run in found if run.info.status == "FINISHED"]
    if found:
        return (finished or found)[0]
    return client.create_run(experiment, tags={tag: value}, run_name=name)


def _pins(release: Release) -> dict[str, str]:
    adapter = release.adapter
    return {
        "base_model": release.base_model.digest,
        "adapter": adapter.id if adapter else "",
        "index": release.index,
        "embedding_model": release.embedding_model,
        "retrieval": json.dumps(dict(release.retrieval), sort_keys=True),
        "guardrails": release.guardrails,
        "dagster_run": release.run_id,
        "commit": release.commit,
    }


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested figures, named by its path: `retrieval/ndcg_at_10/fused`."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
