"""The gates, as blocking checks on the reports; their thresholds are in one policy file."""

from collections.abc import Iterable

import dagster as dg

from assets.evaluation import generation_report, retrieval_report
from assets.policies import table
from headwater.evaluation import gates
from resources.environment import SettingsResource


def _results(
    asset: dg.AssetsDefinition, results: Iterable[gates.GateResult]
) -> Iterable[dg.AssetCheckResult]:
    for result in results:
        yield dg.AssetCheckResult(
            asset_key=asset.key,
            check_name=result.name,
            passed=result.passed,
            description=result.detail,
            metadata={
                "value": result.value,
                "threshold": result.threshold,
                "examples": table(list(result.examples), ["question", "expected", "value"]),
            },
        )


def _specs(asset: dg.AssetsDefinition, names: Iterable[str]) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=asset, blocking=True) for name in names]


@dg.multi_asset_check(specs=_specs(retrieval_report, gates.RETRIEVAL_GATES))
def retrieval_gates(settings: SettingsResource) -> Iterable[dg.AssetCheckResult]:
    """Recall@5 and fusion against the policy."""
    from headwater.evaluation.store import latest_retrieval

    report = latest_retrieval(settings.get())
    yield from _results(retrieval_report, gates.retrieval_gates(report, gates.load_policy()))


@dg.multi_asset_check(specs=_specs(generation_report, gates.GENERATION_GATES))
def generation_gates(settings: SettingsResource) -> Iterable[dg.AssetCheckResult]:
    """The adapter against the base, by paired intervals."""
    from headwater.evaluation.store import latest_generation

    report = latest_generation(settings.get())
    yield from _results(generation_report, gates.generation_gates(report, gates.load_policy()))
