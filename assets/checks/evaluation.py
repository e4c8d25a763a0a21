"""The gates, as blocking checks on the reports; their thresholds are in one policy file."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from assets.evaluation import generation_report, retrieval_report
from assets.policies import table
from headwater.evaluation import gates, relative
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
                **_against(result.against),
                "examples": table(list(result.examples), ["question", "expected", "value"]),
            },
        )


def _against(against: gates.Against | None) -> dict[str, Any]:
    """What a comparison with the champion adds to a check."""
    if against is None:
        return {}
    return {
        "champion": against.champion,
        "interval": f"{against.low:+.3f} to {against.high:+.3f}",
        "p_value": against.p_value,
        "level": against.level,
        "questions": against.items,
        "questions_left_out": against.left_out,
    }


def _specs(asset: dg.AssetsDefinition, names: Iterable[str]) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=asset, blocking=True) for name in names]


@dg.multi_asset_check(
    specs=_specs(retrieval_report, (*gates.RETRIEVAL_GATES, *relative.RETRIEVAL_GATES))
)
def retrieval_gates(settings: SettingsResource) -> Iterable[dg.AssetCheckResult]:
    """Recall@5 and fusion against the policy, and retrieval against the champion's."""
    from headwater.evaluation.store import latest_retrieval
    from headwater.release.champion import find_champion

    choices, policy = settings.get(), gates.load_policy()
    report, champion = latest_retrieval(choices), find_champion(choices)
    yield from _results(
        retrieval_report,
        [
            *gates.retrieval_gates(report, policy),
            *relative.retrieval_against(report.rows, champion, policy.relative),
        ],
    )


@dg.multi_asset_check(
    specs=_specs(generation_report, (*gates.GENERATION_GATES, *relative.GENERATION_GATES))
)
def generation_gates(settings: SettingsResource) -> Iterable[dg.AssetCheckResult]:
    """The adapter against the base, and the release's own model against the champion's."""
    from headwater.evaluation.store import judged_base, latest_generation
    from headwater.release.champion import find_champion

    choices, policy = settings.get(), gates.load_policy()
    report, champion = latest_generation(choices), find_champion(choices)
    base = judged_base(choices)
    yield from _results(
        generation_report,
        [
            *gates.generation_gates(report, policy),
            *relative.generation_against(report.rows, champion, policy.relative, base=base),
        ],
    )
