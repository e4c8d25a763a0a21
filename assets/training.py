"""Group `training`: the pinned base model and the adapter tuned on it."""

from typing import Any

import dagster as dg
from resources.tracking import TrackingResource

from assets.datasets import prompt_template, sft_dataset
from assets.partitions import settings
from assets.policies import ML, TRAINING_POOL, on_change, picture, version
from headwater import base_model as base_models
from resources.environment import SettingsResource, run_identity
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
    code_version=version(base_models.STAGE_VERSION, _recipe.base_model or settings.base_model),
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
    code_version=version(adapters.TRAINING_VERSION, _recipe.digest),
)
def lora_adapter(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    lake: LakeResource,
    models: ModelsResource,
    tracking: TrackingResource,
) -> Any:
    """LoRA weights tuned on `sft_dataset`: safetensors, and a GGUF adapter for the engine.

    A killed training goes on from its last checkpoint and ends with the same weights. The MLflow
    run holds parameters, metrics, data and code versions, energy and carbon.
    """
    from training.run import train_adapter

    trained = train_adapter(
        lake.get(),
        settings.get(),
        models.base(),
        _recipe,
        tracking_uri=tracking.uri,
        identity=run_identity(context),
    )
    result = trained.record
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result["id"]),
        metadata={
            "loss_curve": picture(trained.loss_curve, "training and validation loss"),
            "adapter": result["id"],
            "weights": result["weights_digest"],
            "steps": trained.steps,
            "tokens": result["training"]["tokens"],
            "seconds": result["training"]["seconds"],
            "final_loss": result["training"]["final_loss"],
            "energy_kwh": result["training"]["energy_kwh"],
            "emissions_kg_co2": result["training"]["emissions_kg"],
            "mlflow_run": trained.mlflow_run or "",
            "already_trained": trained.reused,
        },
    )
