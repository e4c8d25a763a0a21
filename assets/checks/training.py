"""What must hold of an adapter before anything is built on it."""

import dagster as dg
from headwater.datasets.sft import read_rows

from assets.partitions import settings as choices
from assets.policies import table
from assets.training import lora_adapter
from headwater.datasets.prompt import DEFAULT_PROMPT
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from training.recipe import load_recipe

#: Share of greedy tokens that must agree, from the first on, between PEFT on the dequantized
#: weights and llama.cpp on Q8_0; measured in docs/experiments.md.
PARITY_THRESHOLD = load_recipe(choices.recipe).parity_threshold


@dg.asset_check(asset=lora_adapter, blocking=True)
def engine_agrees_with_peft(
    settings: SettingsResource, lake: LakeResource, models: ModelsResource
) -> dg.AssetCheckResult:
    """The GGUF adapter in llama.cpp writes the tokens that PEFT writes from the safetensors."""
    from training.adapter import current_adapter, parity
    from training.data import parity_prompts

    report = parity(
        models.base(),
        current_adapter(settings.get()),
        parity_prompts(read_rows(lake.get()), DEFAULT_PROMPT),
        threads=settings.get().threads,
    )
    return dg.AssetCheckResult(
        passed=report.agreement >= PARITY_THRESHOLD,
        metadata={
            "agreement": report.agreement,
            "threshold": PARITY_THRESHOLD,
            "prompts": table(report.rows(), ["prompt", "peft", "engine", "agreement"]),
        },
    )
