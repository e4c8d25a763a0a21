"""The jobs: build everything, retrain, and look at production. Schedules with them."""

from datetime import timedelta

import dagster as dg

from assets.partitions import days, settings, shard_range_tags

#: Runs with this tag fill the machine, so the queue lets one through at a time.
MACHINE = {"headwater/machine": "all"}

_monitoring = dg.AssetSelection.assets(
    "requests", "feedback", "drift_report", "retraining_decision", "ab_report"
)
#: dbt models on requests and feedback are refreshed with them, and so are the pairs. What also needs
#: the corpus follows by its automation: production is watched before the first build, too.
_request_models = dg.AssetSelection.assets("requests", "feedback").downstream() & (
    dg.AssetSelection.groups("warehouse") | dg.AssetSelection.assets("preference_pairs")
) - dg.AssetSelection.assets("requests_by_source_day")
_retention = dg.AssetSelection.assets("lake_retention")
_training = dg.AssetSelection.assets("sft_dataset", "lora_adapter")

build = dg.define_asset_job(
    "build",
    selection=dg.AssetSelection.all() - _monitoring - _retention,
    tags={**MACHINE, **shard_range_tags()},
    description="From the sources to the endpoint: every asset but monitoring, all shards.",
)
retrain = dg.define_asset_job(
    "retrain",
    selection=_training
    # Both reports, for a candidate needs them to be of one index: the latest one on retrieval may
    # be older than the documents that came with the drift.
    | dg.AssetSelection.assets(
        "retrieval_report", "generation_report", "release_candidate", "release", "endpoint"
    ),
    tags=MACHINE,
    description="New training rows, a new adapter, both reports, gates, release.",
)
monitor = dg.define_asset_job(
    "monitor",
    selection=_monitoring | _request_models,
    partitions_def=days,
    description="Read the logs of a day, refresh what is made of them, look for drift, decide on it.",
)

retain = dg.define_asset_job(
    "retain",
    selection=_retention,
    # Not beside a build, which would find the tables taken.
    tags=MACHINE,
    description="Drop versions of tables that are old and that no release needs.",
)


@dg.schedule(
    job=monitor,
    cron_schedule=f"*/{settings.monitor_minutes} * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def monitor_production(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every half hour (HEADWATER_MONITOR_MINUTES): the requests since the last one, and drift.

    The day is that of the look before, so that a day's last requests are read at midnight.
    """
    now = context.scheduled_execution_time
    day = (now - timedelta(minutes=settings.monitor_minutes)).strftime("%Y-%m-%d")
    return dg.RunRequest(run_key=now.isoformat(), partition_key=day)


daily_retention = dg.ScheduleDefinition(
    name="daily_retention",
    job=retain,
    cron_schedule="40 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

jobs = [build, retrain, monitor, retain]
schedules = [monitor_production, daily_retention]
