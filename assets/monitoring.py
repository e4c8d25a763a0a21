"""Group `monitoring`: what production was asked, and whether it still is what we know."""

from pathlib import Path
from typing import Any

import dagster as dg

from assets.partitions import days
from assets.policies import DATA, ONCALL, one_run, table, watches_production
from headwater.monitoring import drift
from headwater.monitoring import feedback as feedback_days
from headwater.monitoring import requests as request_days
from headwater.records import digest_of
from resources.alerts import ASSET, partitions
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource


@dg.asset(
    group_name="monitoring",
    partitions_def=days,
    backfill_policy=one_run,
    freshness_policy=watches_production,
    kinds={"deltalake"},
    owners=[DATA, ONCALL],
    code_version=request_days.STAGE_VERSION,
)
def requests(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """Every request of a day with its release, retrieved chunks, answer and timings.

    Read from the endpoint's durable log; reading a day again replaces it.
    """
    stats = [
        request_days.ingest_day(lake.get(), settings.get(), day) for day in context.partition_keys
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([day.digest for day in stats])),
        metadata={
            "dagster/row_count": sum(day.rows for day in stats),
            "torn_lines": sum(day.torn for day in stats),
        },
    )


@dg.asset(
    group_name="monitoring",
    partitions_def=days,
    backfill_policy=one_run,
    freshness_policy=watches_production,
    kinds={"deltalake"},
    owners=[DATA, ONCALL],
    code_version=feedback_days.STAGE_VERSION,
)
def feedback(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """What people said of answers on a day: thumbs, corrections, tags, and choices between two.

    Read from the endpoint's durable log; reading a day again replaces it.
    """
    stats = [
        feedback_days.ingest_day(lake.get(), settings.get(), day) for day in context.partition_keys
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([day.digest for day in stats])),
        metadata={
            "dagster/row_count": sum(day.rows for day in stats),
            "torn_lines": sum(day.torn for day in stats),
        },
    )


@dg.asset(
    deps=[requests],
    group_name="monitoring",
    freshness_policy=watches_production,
    kinds={"evidently"},
    owners=[ONCALL],
    code_version=f"drift/{drift.DRIFT_VERSION}",
)
def drift_report(settings: SettingsResource, lake: LakeResource, models: ModelsResource) -> Any:
    """The latest requests against the reference window, panel by panel.

    Evidently judges lengths, scores, citations and refusals; a domain classifier's AUC judges
    the questions' embeddings.
    """
    report = drift.drift_report(lake.get(), settings.get(), encode=models.encoder().encode)
    metadata: dict[str, Any] = {
        "status": report.status,
        "reference": report.reference,
        "drifted_share": report.share,
        "panels": table(report.rows(), ["panel", "score", "threshold", "drifted"]),
        "examples": dg.MetadataValue.json(report.examples),
    }
    if report.html_path:
        metadata["page"] = dg.MetadataValue.path(str(Path(report.html_path)))
    return dg.MaterializeResult(data_version=dg.DataVersion(report.digest), metadata=metadata)


alerts = dg.AssetSpec(
    ASSET,
    description="What somebody must look at, an alert a partition: what changed, the failing"
    " examples and the runbook. Written by the sensor `alert_delivery`; `headwater alerts` lists"
    " the same.",
    partitions_def=partitions,
    group_name="monitoring",
    owners=[ONCALL],
)
