"""The two ways work is cut: documents by shard, monitoring by day."""

import math

import dagster as dg

from headwater.settings import Settings
from resources.pods import pods

settings = Settings()

#: A document's shard is a hash of its URI; see `headwater.records.shard_of`.
shards = dg.StaticPartitionsDefinition(settings.shard_keys())
#: Requests are kept by the UTC day they were answered on.
days = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_offset=1)


def shard_range_tags() -> dict[str, str]:
    """Run tags that ask one run to take every shard (unpartitioned assets ignore them)."""
    keys = settings.shard_keys()
    return {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }


def in_runs(settings: Settings) -> dg.BackfillPolicy:
    """How the shards of a backfill are cut into runs: all in one, or as many as there are pods.

    One local run pays for heavy imports once; a run that is a pod has a range of shards.
    """
    if settings.executor != "pods":
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(
        max_partitions_per_run=math.ceil(settings.shards / pods(settings))
    )
