"""Group `training`: the pinned base model and the adapter tuned on it."""

from typing import Any

import dagster as dg

from assets.datasets import prompt_template, sft_dataset
from assets.partitions import settings
from assets.policies import ML, TRAINING_POOL, on_change, picture, version
from headwater.base_model import BASE_MODEL_VERSION
from resources.environment import SettingsResource, git_commit
from resources.lake import LakeResource
from resources.models import ModelsResource
from training import adapter as adapters
from training.recipe import load_recipe

_recipe = load_recipe(settings.recipe)


@dg.asset(
    group_name="training",
    automation_condition=on_change,
    kinds={"huggingface"},
    owners=[ML],
    code_version=version(f"base/{BASE_MODEL_VERSION}", _recipe.base or settings.base_model),
)
def base_model(models: ModelsResource) -> Any:
    """The pre-trained model everything builds on, pinned by the digest of its file.

    A copy requantized to Q8_0, for which the engine has fast kernels, is made once and checked
    by digest before each load.
    """
    base = models.base()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(base.digest),
        metadata={
            "name": base.name,
            "digest": base.digest,
            "licence": base.licence,
            "parameters": base.parameters,
        },
    )


@dg.asset(
    deps=[base_model, sft_dataset, prompt_template],
    group_name="training",
    kinds={"pytorch", "mlflow"},
    owners=[ML],
    pool=TRAINING_POOL,
    code_version=version(f"training/{adapters.TRAINING_VERSION}", _recipe.digest),
)
def lora_adapter(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """LoRA weights tuned on `sft_dataset`: safetensors, and a GGUF adapter for the engine.

    A killed training goes on from its last checkpoint and ends with the same weights. The MLflow
    run holds parameters, metrics, data and code versions, energy and carbon.
    """
    from headwater.datasets.prompt_store import current_prompt
    from training.plots import loss_curve
    from training.run import fit_adapter

    choices = settings.get()
    run = fit_adapter(
        choices,
        lake.get(),
        _recipe,
        prompt=current_prompt(choices),
        identity={"dagster.run": context.run_id, "commit": git_commit()},
    )
    result = run.result
    losses = [point.validation for point in result.losses if point.validation is not None]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(run.adapter.id),
        metadata={
            "loss_curve": picture(loss_curve(result.losses), "training and validation loss"),
            "adapter": run.adapter.id,
            "weights": run.adapter.weights_digest,
            "steps": run.computed_steps,
            "steps_of_training": result.steps,
            "rows": result.rows,
            "tokens": result.tokens,
            "tokens_per_second": round(result.tokens_per_second, 1),
            "seconds": round(result.seconds, 1),
            "validation_loss_before": losses[0] if losses else None,
            "validation_loss_after": losses[-1] if losses else None,
            "energy_kwh": result.energy_kwh,
            "emissions_kg_co2": result.emissions_kg,
            "mlflow_run": run.mlflow_run,
        },
    )
