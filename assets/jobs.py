"""The jobs: build everything, retrain, and look at production. Schedules with them."""

import dagster as dg

from assets.partitions import days, shard_range_tags

#: Runs with this tag fill the machine, so the queue lets one through at a time.
MACHINE = {"headwater/machine": "all"}

_monitoring = dg.AssetSelection.assets("requests", "feedback", "drift_report")
#: dbt models on requests and feedback are refreshed with them, and so are the pairs.
_request_models = dg.AssetSelection.assets("requests", "feedback").downstream() & (
    dg.AssetSelection.groups("warehouse") | dg.AssetSelection.assets("preference_pairs")
)
_training = dg.AssetSelection.assets("sft_dataset", "lora_adapter")

build = dg.define_asset_job(
    "build",
    selection=dg.AssetSelection.all() - _monitoring,
    tags={**MACHINE, **shard_range_tags()},
    description="From the sources to the endpoint: every asset but monitoring, all shards.",
)
retrain = dg.define_asset_job(
    "retrain",
    selection=_training
    | dg.AssetSelection.assets("generation_report", "release_candidate", "release", "endpoint"),
    tags=MACHINE,
    description="New training rows, a new adapter, its evaluation, gates, release.",
)
monitor = dg.define_asset_job(
    "monitor",
    selection=_monitoring | _request_models,
    partitions_def=days,
    description="Read the logs of a day, refresh what is made of them, look for drift.",
)


@dg.schedule(
    job=monitor, cron_schedule="*/30 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
def monitor_production(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every half hour: today's requests, and drift against the reference window."""
    now = context.scheduled_execution_time
    return dg.RunRequest(run_key=now.isoformat(), partition_key=now.strftime("%Y-%m-%d"))


jobs = [build, retrain, monitor]
schedules = [monitor_production]
