"""Backfills: a build that Dagster's daemon makes of many runs, asked for and followed from outside.

Knows assets by name and Dagster's records. Who starts the runs, and where, is the instance's choice.
"""

import time
from collections.abc import Callable, Sequence
from time import sleep
from typing import Any

import dagster as dg
from dagster._core.definitions.selector import PartitionsByAssetSelector
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.storage.tags import BACKFILL_ID_TAG
from dagster._core.utils import make_new_backfill_id

from headwater.errors import HeadwaterError

#: Between two looks at a backfill, and how long a daemon may take to begin its first run.
LOOK_SECONDS, BEGIN_SECONDS = 2.0, 900.0
_UNDER_WAY = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
_PAGE = 1000
#: Told of each event of each run: the run's id and the event.
Hear = Callable[[str, dg.EventLogEntry], None]


def ask(instance: dg.DagsterInstance, graph: Any, assets: Sequence[str]) -> str:
    """Ask the daemon for these assets, with all their partitions; returns the backfill's id."""
    backfill = PartitionBackfill.from_partitions_by_assets(
        backfill_id=make_new_backfill_id(),
        asset_graph=graph,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        partitions_by_assets=[
            PartitionsByAssetSelector(asset_key=dg.AssetKey(name.split("/"))) for name in assets
        ],
        title="headwater build",
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def under_way(instance: dg.DagsterInstance) -> list[str]:
    """Backfills that have not ended."""
    found = instance.get_backfills(filters=BulkActionsFilter(statuses=_UNDER_WAY))
    return [each.backfill_id for each in found]


def follow(instance: dg.DagsterInstance, backfill: str, hear: Hear) -> bool:
    """Tell of each event of a backfill's runs until it has ended; whether all of it succeeded.

    Raises:
        HeadwaterError: no daemon takes it up.
    """
    began = time.monotonic()
    heard: dict[str, str | None] = {}
    while True:
        found = instance.get_backfill(backfill)
        # Looked at before its runs are: no event comes after it has ended.
        ended = found is None or found.status in BULK_ACTION_TERMINAL_STATUSES
        runs = instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill}))
        for run in sorted(runs, key=lambda each: each.run_id):
            heard[run.run_id] = _tell(instance, run.run_id, heard.get(run.run_id), hear)
        if ended:
            return found is not None and found.status is BulkActionStatus.COMPLETED_SUCCESS
        if not runs and time.monotonic() - began > BEGIN_SECONDS:
            raise HeadwaterError(
                f"No daemon has begun a run of backfill {backfill} in {BEGIN_SECONDS / 60:.0f} minutes.",
                mend="Look whether dagster-daemon runs and loads the graph; it takes the backfill up"
                " when it does.",
            )
        sleep(LOOK_SECONDS)


def _tell(instance: dg.DagsterInstance, run: str, cursor: str | None, hear: Hear) -> str | None:
    while True:
        page = instance.get_records_for_run(run, cursor=cursor, limit=_PAGE)
        for record in page.records:
            hear(run, record.event_log_entry)
        cursor = page.cursor
        if not page.has_more:
            return cursor
