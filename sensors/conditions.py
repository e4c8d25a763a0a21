"""Looks at what lasts: stale assets, drift, stuck runs, failing sensors, a burning error budget.

Each function looks at the present state and tells the inbox of every subject, well or not; looking
again changes nothing.
"""

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.loader import LoadingContextForTest
from dagster._core.scheduler.instigation import InstigatorStatus, TickStatus

from headwater.monitoring.alerts import AlertInbox, Finding, iso
from headwater.monitoring.slo import Burn, burn_rates, read_traffic
from headwater.settings import Settings
from resources.failures import root_error
from sensors.facts import Facts

ONCALL = "team:oncall"
#: Reports on production: they are as old as their last look at it, whatever they saw.
BY_TIME = frozenset({"requests", "drift_report"})
#: Subject and errors of ticks that found no code server to run in.
CODE, _UNREACHABLE = "code location", frozenset({"_InactiveRpcError", "_MultiThreadedRendezvous"})
#: Ticks of one sensor that one look goes back over.
_TICKS = 50


def stale_assets(
    instance: dg.DagsterInstance,
    graph: Any,
    inbox: AlertInbox,
    facts: Facts,
    settings: Settings,
) -> None:
    """Assets whose freshness policy fails although there is something newer to make them from.

    Dagster measures the time since the last materialization. Work here follows content, so an
    asset whose inputs are what they were is as old as its sources, and as right: that is nobody's
    alert. Reports on production are stale by time alone.
    """
    keys = [k for k in graph.get_all_asset_keys() if graph.get(k).freshness_policy is not None]
    states = instance.get_freshness_state_records(keys)
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    for key in keys:
        name, state = key.to_user_string(), states.get(key)
        if state is None or state.freshness_state is FreshnessState.UNKNOWN:
            continue
        failing = state.freshness_state is FreshnessState.FAIL
        partitions: list[Any] = [None]
        if graph.get(key).is_partitioned:
            partitions = list(settings.shard_keys())
        behind = failing and (
            name in BY_TIME
            or any(
                resolver.get_status(key, partition) is not StaleStatus.FRESH
                for partition in partitions
            )
        )
        if not behind:
            inbox.well("stale_asset", name, facts=facts.of_asset(name))
            continue
        made = facts.last_made(name)
        when = iso(made)[:16].replace("T", " ") + " UTC" if made else "never"
        inbox.failed(
            Finding(
                kind="stale_asset",
                subject=name,
                cause="freshness policy",
                event=f"stale:{name}:{state.updated_at.timestamp()}",
                detail=f"Made last: {when}. What it is made from is newer, or not looked at.",
                owner=facts.owner(name),
                severity="warning",
                facts=facts.of_asset(name),
                place=f"/assets/{name}",
            )
        )


def drift(instance: dg.DagsterInstance, inbox: AlertInbox, facts: Facts) -> None:
    """What the latest decision on a drift says: of which panel, and whether it is worth anything."""
    event = instance.get_latest_materialization_event(dg.AssetKey("retraining_decision"))
    materialization = event.asset_materialization if event else None
    if event is None or materialization is None:
        return
    said: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
    moment = iso(event.timestamp)
    if said["drift"] != "drift":
        inbox.well("drift", "requests", facts=facts.general, time=moment)
        return
    inbox.failed(
        Finding(
            kind="drift",
            subject="requests",
            cause="differ from the reference",
            event=f"drift:{event.run_id}:{event.timestamp}",
            detail=f"Panel {said['panel']}, evidence {said['evidence']:.3g}."
            f" Decision: {said['verdict']}. {' '.join(said['reasons'])}",
            owner="team:ml",
            severity="warning",
            time=moment,
            examples=said["examples"],
            facts=facts.general,
            place="/assets/retraining_decision",
            run=event.run_id,
        )
    )


def stuck_runs(
    instance: dg.DagsterInstance, inbox: AlertInbox, facts: Facts, settings: Settings
) -> None:
    """Runs that say nothing for too long. A worker that is dead is found by run monitoring."""
    going = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    for run in going:
        latest = instance.event_log_storage.get_logs_for_run(run.run_id, limit=1, ascending=False)
        quiet = time.time() - latest[0].timestamp if latest else 0.0
        if quiet < settings.stuck_minutes * 60:
            inbox.well("stuck_run", run.run_id, facts=facts.general)
            continue
        inbox.failed(
            Finding(
                kind="stuck_run",
                subject=run.run_id,
                cause=f"no event for {settings.stuck_minutes:g} minutes",
                event=f"stuck:{run.run_id}:{latest[0].timestamp}",
                detail=f"Job {run.job_name}. The last it said: {latest[0].message}",
                owner=ONCALL,
                facts=facts.general,
                place=f"/runs/{run.run_id}",
                run=run.run_id,
            )
        )
    ids = {run.run_id for run in going}
    for alert in inbox.list("open"):
        if alert.kind == "stuck_run" and alert.subject not in ids:
            inbox.well("stuck_run", alert.subject, facts=facts.general)


def failing_sensors(
    instance: dg.DagsterInstance, inbox: AlertInbox, facts: Facts, names: Sequence[str]
) -> None:
    """Sensors and schedules whose latest finished tick failed.

    A code server that is gone fails all of them: that is one cause, with a subject of its own.
    """
    code_is_there = True
    for state in instance.all_instigator_state():
        name = state.instigator_name
        if name not in names or state.status is InstigatorStatus.STOPPED:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=_TICKS)
        ended = [tick for tick in ticks if tick.status is not TickStatus.STARTED]
        ended.sort(key=lambda tick: tick.timestamp, reverse=True)
        failed = list(itertools.takewhile(lambda tick: tick.status is TickStatus.FAILURE, ended))
        if ended and not failed:
            time_ = iso(ended[0].timestamp)
            inbox.well("sensor_error", name, facts=facts.general, time=time_)
        for tick in reversed(failed):
            error = root_error(tick.error)
            cause = (error.cls_name if error else None) or "failed"
            code_is_there = code_is_there and cause not in _UNREACHABLE
            inbox.failed(
                Finding(
                    kind="sensor_error",
                    subject=CODE if cause in _UNREACHABLE else name,
                    cause=cause,
                    event=f"tick:{tick.tick_id}",
                    detail=error.message.strip() if error else "The tick gave no reason.",
                    owner=ONCALL,
                    time=iso(tick.timestamp),
                    facts=facts.general,
                    place=f"/locations/headwater/{_FOLDERS[state.instigator_type.value]}/{name}",
                )
            )
    if code_is_there:
        inbox.well("sensor_error", CODE, facts=facts.general)


_FOLDERS = {"SENSOR": "sensors", "AUTO_MATERIALIZE": "sensors", "SCHEDULE": "schedules"}


def burning_budget(inbox: AlertInbox, facts: Facts, settings: Settings) -> list[Burn]:
    """The endpoint's error budget, in a fast and a slow window; returns both judgements."""
    moment = datetime.now(UTC)
    traffic = read_traffic(settings, now=moment)
    burns = burn_rates(traffic, now=moment, target=settings.slo_target)
    for burn in burns:
        subject = f"endpoint, {burn.window.name} window"
        if not burn.firing:
            inbox.well("slo_burn", subject, facts=facts.general)
            continue
        inbox.failed(
            Finding(
                kind="slo_burn",
                subject=subject,
                cause="errors",
                event=f"burn:{burn.window.name}:{int(moment.timestamp() // 60)}",
                detail=f"{burn.errors} of {burn.requests} requests failed in {burn.window.long}"
                f" minutes, {burn.long_rate:.1f} times what the objective of"
                f" {settings.slo_target:.2%} allows; {burn.short_rate:.1f} times in the last"
                f" {burn.window.short}.",
                owner=ONCALL,
                severity=burn.window.severity,
                examples=traffic.errors,
                facts=facts.general,
                place="/assets/endpoint",
            )
        )
    return burns
