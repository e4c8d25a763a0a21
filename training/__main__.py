"""`python -m training`: train the adapter of a recipe on the lake in HEADWATER_HOME."""

import argparse
import json
import logging
import sys

from headwater.datasets.prompt_store import current_prompt
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.settings import Settings
from training.recipe import load_recipe
from training.run import AdapterRun, fit_adapter


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed with a message; argparse exits with 2 on misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train the LoRA adapter of a recipe on the rows of sft_dataset.",
        epilog="Rows, adapters and checkpoints lie below HEADWATER_HOME (default .headwater).",
    )
    parser.add_argument(
        "--recipe", help="a name in training/recipes or a YAML file (default: HEADWATER_RECIPE)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("headwater").setLevel(logging.INFO)
    settings = Settings()
    try:
        recipe = load_recipe(options.recipe or settings.recipe)
        run = fit_adapter(settings, Lake(settings.lake), recipe, prompt=current_prompt(settings))
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        return 1
    summary = _summary(run)
    if options.json:
        print(json.dumps(summary))
    else:
        print("\n".join(f"{key}: {value}" for key, value in summary.items()))
    return 0


def _summary(run: AdapterRun) -> dict[str, object]:
    result = run.result
    first, last = (
        next((p.validation for p in points if p.validation is not None), None)
        for points in (result.losses, reversed(result.losses))
    )
    return {
        "adapter": run.adapter.id,
        "folder": str(run.adapter.folder),
        "steps": run.computed_steps,
        "validation_before": first,
        "validation_after": last,
        "tokens_per_second": round(result.tokens_per_second, 1),
        "seconds": round(result.seconds, 1),
        "energy_kwh": result.energy_kwh,
        "parity": run.parity.agreement,
        "mlflow_run": run.mlflow_run,
    }


if __name__ == "__main__":
    sys.exit(main())
