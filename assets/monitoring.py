"""Group `monitoring`: what production was asked, and whether it still is what we know."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.partitions import days
from assets.policies import (
    BUILD_POOL,
    DATA,
    ML,
    ONCALL,
    one_run,
    picture,
    table,
    watches_production,
)
from headwater.datasets.prompt_store import current_prompt
from headwater.evaluation.cache import ResultCache
from headwater.monitoring import arms, drift, retention, retraining
from headwater.monitoring import feedback as feedback_days
from headwater.monitoring import requests as request_days
from headwater.monitoring.days import IngestStats
from headwater.records import digest_of
from resources.alerts import ASSET, partitions
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource


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
    return _ingested(
        request_days.ingest_day(lake.get(), settings.get(), day) for day in context.partition_keys
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
    return _ingested(
        feedback_days.ingest_day(lake.get(), settings.get(), day) for day in context.partition_keys
    )


def _ingested(days: Iterable[IngestStats]) -> Any:
    """The result of an asset whose partitions are days of a log."""
    stats = list(days)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([day.digest for day in stats])),
        metadata={
            "dagster/row_count": sum(day.rows for day in stats),
            "torn_lines": sum(day.torn for day in stats),
        },
    )


@dg.asset(
    deps=[requests, feedback],
    group_name="monitoring",
    freshness_policy=watches_production,
    kinds={"evidently"},
    owners=[ONCALL],
    code_version=f"drift/{drift.DRIFT_VERSION}",
)
def drift_report(settings: SettingsResource, lake: LakeResource, models: ModelsResource) -> Any:
    """The requests since the adapter was new, window by window, against its first ones.

    Each panel gathers evidence over windows; all together decide. A drift is evidence that would
    come up for one adapter in a hundred if nothing had changed, however often one looks.
    """
    report = drift.drift_report(lake.get(), settings.get(), encode=models.encoder().encode)
    metadata: dict[str, Any] = {
        "status": report.status,
        "reference": report.reference,
        "evidence": report.evidence,
        "threshold": report.threshold,
        "windows": report.windows,
        "unlike_share": report.share,
        "panels": table(report.rows(), ["panel", "evidence", "p_value", "reference", "current"]),
        "examples": table(list(report.examples), ["trace", "question", "unlike"]),
        **{f"evidence_{name}": panel.evidence for name, panel in report.panels.items()},
    }
    if report.folder:
        metadata["report"] = dg.MetadataValue.md((report.folder / "report.md").read_text("utf-8"))
        metadata["page"] = dg.MetadataValue.path(str(report.folder / "index.html"))
        metadata["evidently"] = dg.MetadataValue.path(str(report.folder / "evidently.html"))
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


@dg.asset(
    deps=[drift_report],
    group_name="monitoring",
    owners=[ONCALL, ML],
    code_version=f"decision/{retraining.DECISION_VERSION}",
)
def retraining_decision(
    settings: SettingsResource, lake: LakeResource, models: ModelsResource, vectors: VectorsResource
) -> Any:
    """Whether a drift is worth a retraining: quality lost against seconds, energy and carbon.

    The drift sensor launches the job `retrain` when this says so. The policy is
    `headwater/monitoring/policy.yaml`.
    """
    from headwater.monitoring.likelihood_gap import nll_gap
    from training.run import past_costs

    choices, store = settings.get(), lake.get()

    def gap(questions: Sequence[str], adapter: str) -> tuple[float, float] | None:
        folder = choices.adapters / adapter
        with models.retriever(vectors.get()) as retriever:
            return nll_gap(
                store,
                questions,
                retriever=retriever,
                base=models.base(),
                adapter=folder if folder.exists() else None,
                prompt=current_prompt(choices),
                cache=ResultCache(choices.cache),
                threads=choices.threads,
            )

    decision = retraining.decide(
        store, choices, costs=past_costs(choices), now=datetime.now(UTC), nll_gap=gap
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(decision.digest),
        metadata={
            "reasoning": dg.MetadataValue.md(decision.to_markdown()),
            "retrain": decision.retrain,
            "verdict": decision.verdict,
            "drift": decision.drift,
            "decision": decision.digest,
            "reference": decision.reference,
            "panel": decision.panel,
            "evidence": decision.evidence,
            "gain": decision.gain,
            "cost": decision.cost,
            "reasons": dg.MetadataValue.json(list(decision.reasons)),
            "examples": dg.MetadataValue.json(list(decision.examples)),
        },
    )


@dg.asset(
    deps=[requests],
    group_name="monitoring",
    owners=[ML, ONCALL],
    code_version=f"arms/{arms.ARMS_VERSION}",
)
def ab_report(settings: SettingsResource, lake: LakeResource) -> Any:
    """The latest canary, A/B test or shadow against the champion, over the requests since it began.

    Means of each arm, and the difference with its 95 % interval. The endpoint's own judgement of
    a canary does not wait for it.
    """
    report = arms.compare_arms(lake.get(), settings.get())
    metadata: dict[str, Any] = {
        "champion": report.champion or "none",
        "challenger": report.challenger or "none",
        "arm": report.arm or "none",
        "measures": table(report.rows(), ["measure", *report.means, "difference", "low", "high"]),
        **{f"answers_{arm}": count for arm, count in report.answers.items()},
    }
    if report.differences:
        metadata["plot"] = picture(arms.plot(report), "Differences of the arms")
    return dg.MaterializeResult(data_version=dg.DataVersion(report.digest), metadata=metadata)


@dg.asset(
    group_name="monitoring",
    kinds={"deltalake"},
    owners=[DATA],
    pool=BUILD_POOL,
    code_version=retention.RETENTION_VERSION,
)
def lake_retention(settings: SettingsResource, lake: LakeResource) -> Any:
    """What the tables' versions take on disk; those that are old and that no release needs go.

    The policy is HEADWATER_RETAIN_DAYS. The newest version of a table is always kept, and so are
    those that the releases in use, or kept for a rollback, were made from.
    """
    choices = settings.get()
    found = retention.retain(lake.get(), choices, days=choices.retain_days)
    rows = [
        {
            "table": each.table,
            "versions": each.versions,
            "kept": each.kept,
            "live": each.live_bytes,
            "history": each.history_bytes,
            "freed": each.freed_bytes,
        }
        for each in found.tables
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of(found.to_json())),
        metadata={
            "retain_days": found.days,
            "bytes": table(rows, ["table", "versions", "kept", "live", "history", "freed"]),
            "live_bytes": found.live_bytes,
            "history_bytes": found.history_bytes,
            "freed_bytes": found.freed_bytes,
            "yearly_growth_bytes": found.grown_bytes,
            "yearly_kwh": found.kwh,
            "yearly_kg_co2e": found.kg_co2,
            "watts_per_terabyte": retention.WATTS_PER_TB,
        },
    )
