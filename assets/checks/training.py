"""What must hold of an adapter before anything is built on it."""

import dagster as dg

from assets.partitions import settings as choices
from assets.policies import table
from assets.training import lora_adapter
from resources.environment import SettingsResource
from training.recipe import load_recipe

_THRESHOLD = load_recipe(choices.recipe).parity_threshold


@dg.asset_check(asset=lora_adapter, blocking=True)
def engine_agrees_with_peft(settings: SettingsResource) -> dg.AssetCheckResult:
    """The GGUF adapter in llama.cpp writes the tokens that PEFT writes from the safetensors.

    Compared at the end of the training, on prompts that it held out; the recipe has the threshold.
    """
    from training.run import current_run

    report = current_run(settings.get()).parity
    rows = [
        {"torch": "".join(row.torch), "engine": "".join(row.engine), "equal": row.equal}
        for row in report.prompts
    ]
    return dg.AssetCheckResult(
        passed=report.agreement >= _THRESHOLD,
        metadata={
            "agreement": report.agreement,
            "agreement_without_adapter": report.without,
            "tokens": report.tokens,
            "threshold": _THRESHOLD,
            "answers": table(rows, ["torch", "engine", "equal"]),
        },
    )
