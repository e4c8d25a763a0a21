"""Run builds: the graph of `definitions`, driven from the command line.

What is to be made is planned in `plans`. Nothing here decides what a stage does; every stage skips
what it has done before.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)

from assets.jobs import MACHINE
from assets.partitions import shard_range_tags
from definitions import defs
from headwater import versions
from headwater.documents.content import describe
from headwater.errors import HeadwaterError
from headwater.files import write_atomic
from headwater.lake import Lake
from headwater.settings import Settings
from plans import HELD, make_plan, seconds_a_document
from resources import backfills
from resources.failures import root_message
from resources.workers import dead_worker, own_tag

#: Metadata that is of the shards of a run, so that runs of other shards add to it.
_ADDED = (
    "seen", "processed", "reused", "removed", "quarantined", "embedded", "dagster/row_count",
)  # fmt: skip
Event = Callable[[str, str, dict[str, Any]], None]


@dataclass(frozen=True)
class _AtWork:
    """A run or a backfill that nothing may be at work beside."""

    job: str
    id: str

    def __str__(self) -> str:
        return f"Another run ({self.job} {self.id[:8]})"


@dataclass(kw_only=True)
class Outcome:
    """What a build did."""

    run: str | None = None
    success: bool = True
    blocked: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    materialized: dict[str, dict[str, Any]] = field(default_factory=dict)


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance below `HEADWATER_HOME`; its settings are those of `dagster.yaml`.

    Where runs are pods, it is the one that `DAGSTER_HOME` names: its database is not below this home.

    Raises:
        HeadwaterError: none is named.
    """
    if settings.executor == "pods":
        if "DAGSTER_HOME" not in os.environ:
            raise HeadwaterError(
                "Runs are to be pods (HEADWATER_EXECUTOR), and DAGSTER_HOME names no instance.",
                mend="Build where it does: `kubectl exec deploy/headwater-daemon -- headwater build`.",
            )
        return dg.DagsterInstance.get()
    home = settings.dagster_home
    write_atomic(home / "dagster.yaml", Path(__file__).with_name("dagster.yaml").read_bytes())
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()


def plan(settings: Settings, *, train: bool = False) -> dict[str, Any]:
    """What is stale and why, and what there is to do about documents, as a mapping for people and
    scripts; nothing is changed. Sites and repositories are looked at for as long as a sensor does.
    """
    with open_instance(settings) as instance:
        found = make_plan(instance, settings, train=train, foretell=True)
        work = sum(each.new + each.changed for each in found.documents.values())
        rate = seconds_a_document(instance) if work else None
    return {
        "documents": {name: asdict(each) for name, each in found.documents.items()},
        "seconds_to_index": None if rate is None else round(rate * work, 1),
        "stale": list(found.stale),
        "deferred": list(found.deferred),
        "reasons": found.reasons,
        "refused": found.refused,
    }


def build(
    settings: Settings, *, train: bool = False, on_event: Event = lambda *_: None
) -> dict[str, Any]:
    """Bring everything up to date and say what was done.

    Args:
        train: retrain, even where the present adapter could serve on.
        on_event: called with (kind, asset or check, details) as the run goes.

    Returns:
        The mapping that `headwater build --json` prints.
    """
    started = time.monotonic()
    with open_instance(settings) as instance:
        _wait_for_machine(instance, settings, on_event)
        found = make_plan(instance, settings, train=train)
        for event in found.observed:
            instance.report_runless_asset_event(event)
        outcome = Outcome()
        if found.stale:
            on_event("plan", "", {"stale": found.stale, "reasons": found.reasons})
            run = _run_in_pods if settings.executor == "pods" else _run
            outcome = run(instance, found.stale, on_event)
        summary = _summary(instance, settings, outcome)
    return {
        **summary,
        "stale": list(found.stale),
        "deferred": list(found.deferred),
        "reasons": found.reasons,
        "seconds": round(time.monotonic() - started, 2),
    }


def restore(settings: Settings, targets: Mapping[str, int], *, why: str) -> list[dict[str, Any]]:
    """Put tables back to earlier versions and say so to Dagster: what is downstream becomes stale.

    Args:
        targets: a version for each table.
        why: what was asked for, in words.

    Raises:
        HeadwaterError: a build is at work, or the versions are gone.
    """
    lake = Lake(settings.lake)
    with open_instance(settings) as instance:
        _refuse_if_busy(instance, settings)
        restored = versions.restore(
            lake, targets, why=why, tell=lambda each: _tell_restored(instance, settings, lake, each)
        )
    return [asdict(each) for each in restored]


def follow(settings: Settings, table: str) -> None:
    """Let a held table follow its inputs again: it is stale until the next build compares them.

    Raises:
        HeadwaterError: a build is at work, or the table is not held.
    """
    lake = Lake(settings.lake)
    with open_instance(settings) as instance:
        _refuse_if_busy(instance, settings)

        def tell(name: str) -> None:
            _report(instance, settings, lake, name, code_version=HELD, metadata={})

        versions.follow(lake, table, tell=tell)


def _tell_restored(
    instance: dg.DagsterInstance, settings: Settings, lake: Lake, restored: versions.Restored
) -> None:
    # Vectors and the quarantine are compared by the next build, which finds them made already.
    if restored.table in versions.HOLDABLE:
        noted = {"table_version": restored.version, "restored_from": restored.source}
        _report(instance, settings, lake, restored.table, metadata=noted)


def _report(
    instance: dg.DagsterInstance,
    settings: Settings,
    lake: Lake,
    table: str,
    *,
    metadata: Mapping[str, Any],
    code_version: str | None = None,
) -> None:
    """Report a table as it stands, as made by what made it last: that it moved is no run's doing."""
    key, shards = dg.AssetKey(table), settings.shard_keys()
    stats = describe(lake, table, shards)
    for shard in shards:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[shard])
        latest = instance.fetch_materializations(wanted, limit=1).records
        if not latest:
            continue  # never built in Dagster's eyes; the next build makes it
        before = latest[0].asset_materialization
        tags = {
            name: value
            for name, value in ((before and before.tags) or {}).items()
            if name == CODE_VERSION_TAG
            or name.startswith((INPUT_DATA_VERSION_TAG_PREFIX, INPUT_EVENT_POINTER_TAG_PREFIX))
        }
        if code_version is not None:
            tags[CODE_VERSION_TAG] = code_version
        elif tags.get(CODE_VERSION_TAG) == HELD:  # it was to follow, and is restored again
            tags[CODE_VERSION_TAG] = defs.resolve_asset_graph().get(key).code_version or ""
        tags |= {DATA_VERSION_TAG: stats.digest, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key=key,
                partition=shard,
                tags=tags,
                metadata={
                    **((before and before.metadata) or {}),
                    "seen": stats.seen,
                    "quarantined": stats.quarantined,
                    **metadata,
                },
            )
        )


def _refuse_if_busy(instance: dg.DagsterInstance, settings: Settings) -> None:
    busy = _busy(instance, settings)
    if busy:
        raise HeadwaterError(
            f"{busy} is at work on the tables.",
            mend="Nothing was changed. Do it again when that has ended.",
        )


def _run(instance: dg.DagsterInstance, stale: Sequence[str], on_event: Event) -> Outcome:
    run_id = str(uuid4())
    outcome = Outcome(run=run_id)
    instance.add_event_listener(run_id, _listener(outcome, on_event))
    began = time.monotonic()
    result = defs.resolve_job_def("build").execute_in_process(
        instance=instance,
        run_id=run_id,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(name.split("/")) for name in stale],
        tags={**MACHINE, **shard_range_tags(), **own_tag()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    outcome.success = result.success
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_in_pods(instance: dg.DagsterInstance, stale: Sequence[str], on_event: Event) -> Outcome:
    """Have the daemon make it: a run for each range of shards, each where the instance starts it."""
    began = time.monotonic()
    backfill = backfills.ask(instance, defs.resolve_asset_graph(), stale)
    parts: dict[str, Outcome] = {}
    listeners: dict[str, Callable[[dg.EventLogEntry, Any], None]] = {}

    def hear(run: str, entry: dg.EventLogEntry) -> None:
        if run not in parts:
            parts[run] = Outcome()
            listeners[run] = _listener(parts[run], on_event)
        listeners[run](entry, None)

    success = backfills.follow(instance, backfill, hear)
    joined = Outcome(run=backfill, success=success, seconds=time.monotonic() - began)
    for part in parts.values():
        joined.blocked += part.blocked
        joined.errors |= part.errors
        for name, seconds in part.stages.items():  # beside each other: as long as the longest
            joined.stages[name] = max(seconds, joined.stages.get(name, 0.0))
        for name, metadata in part.materialized.items():
            known = joined.materialized.get(name, {})
            added = {key: known[key] + metadata[key] for key in _ADDED if key in known}
            joined.materialized[name] = {**metadata, **added}
    return joined


def _listener(outcome: Outcome, on_event: Event) -> Callable[[dg.EventLogEntry, Any], None]:
    """Turns Dagster's events into the few that a person follows, and keeps what they say."""
    started: dict[str, float] = {}

    def listen(entry: dg.EventLogEntry, _cursor: Any = None) -> None:
        event = entry.dagster_event
        if event is None:
            return
        step = event.step_key or ""
        if event.is_step_start:
            started[step] = entry.timestamp
            on_event("start", step, {})
        elif event.is_step_materialization and event.asset_key is not None:
            name = event.asset_key.to_user_string()
            metadata = event.step_materialization_data.materialization.metadata
            outcome.materialized[name] = {key: value.value for key, value in metadata.items()}
        elif event.is_step_success:
            outcome.stages[step] = entry.timestamp - started.get(step, entry.timestamp)
            on_event(
                "done",
                step,
                {"seconds": outcome.stages[step], **outcome.materialized.get(step, {})},
            )
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            details = {
                "passed": check.passed,
                "warning": not check.blocking,
                "description": check.description,
            }
            on_event("check", check.check_name, details)
            if not check.passed and check.blocking:
                outcome.blocked.append(check.check_name)
        elif event.is_step_failure:
            outcome.errors[step] = root_message(event.step_failure_data.error)
            outcome.blocked.extend(_blocking_gates(event.step_failure_data))
            on_event("failed", step, {"error": outcome.errors[step]})

    return listen


def _blocking_gates(failure: Any) -> list[str]:
    """Gates that `release` names when an earlier run's reports block the candidate."""
    data = failure.user_failure_data
    named = data.metadata.get("blocked") if data else None
    return list(named.value) if named else []


def _summary(instance: dg.DagsterInstance, settings: Settings, outcome: Outcome) -> dict[str, Any]:
    from headwater.release import pointer

    def latest(name: str) -> dict[str, Any]:
        event = instance.get_latest_materialization_event(dg.AssetKey(name))
        if event is None or event.asset_materialization is None:
            return {}
        return {key: value.value for key, value in event.asset_materialization.metadata.items()}

    done = outcome.materialized
    lake = Lake(settings.lake)
    raw = latest("raw_documents")
    quarantined = latest("clean_documents").get("quarantined", 0)
    chunks = latest("document_shards").get("dagster/row_count", 0)
    if settings.executor == "pods":  # what it says is of the shards of one run
        quarantined = describe(lake, "clean_documents", settings.shard_keys()).quarantined
        chunks = lake.snapshot("document_shards").sizes.total()
    release = pointer.current(settings)
    return {
        "release": release,
        "documents": {
            "seen": raw.get("seen", 0),
            "processed": done.get("clean_documents", {}).get("processed", 0),
            "quarantined": quarantined,
            "duplicates": latest("duplicates").get("duplicates", 0),
            "removed": done.get("raw_documents", {}).get("removed", 0),
        },
        "chunks": {
            "total": chunks,
            "embedded": done.get("chunk_embeddings", {}).get("embedded", 0),
        },
        "training": {"steps": done.get("lora_adapter", {}).get("steps", 0)},
        "deployed": outcome.success and release is not None,
        "success": outcome.success,
        "blocked": outcome.blocked,
        "errors": outcome.errors,
        "held": {name: hold["version"] for name, hold in lake.holds().items()},
        "run": outcome.run,
        "stages": {name: round(seconds, 3) for name, seconds in outcome.stages.items()},
    }


def _bury_dead_runs(instance: dg.DagsterInstance) -> None:
    """Mark as failed the runs whose process was killed; without a daemon nobody else would."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        pid = dead_worker(instance, run)
        if pid is not None:
            instance.report_run_failed(
                run, f"The process {pid} that ran it has ended; the next build goes on from there."
            )
            # It died with its pool slots, for which every later step of the pool would wait.
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _wait_for_machine(instance: dg.DagsterInstance, settings: Settings, on_event: Event) -> None:
    """Wait while another build or training runs: two would fill the machine and the tables."""
    told = False
    for _ in _every(seconds=2.0, limit=1800.0):
        busy = _busy(instance, settings)
        if not busy:
            return
        if not told:
            on_event("waiting", busy.job, {"run": busy.id})
            told = True
    raise HeadwaterError(
        f"{busy} has held the machine for half an hour.",
        mend="Look at it in the Dagster UI; terminate it there if it is stuck, then build again.",
    )


def _busy(instance: dg.DagsterInstance, settings: Settings) -> _AtWork | None:
    """What holds the machine, if anything does; a run whose process was killed does not."""
    if settings.executor == "pods":
        found = backfills.under_way(instance)
        if found:
            return _AtWork("backfill", found[0])
    else:  # a pod's process is none of this machine's; Dagster's launcher looks after it
        _bury_dead_runs(instance)
    statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
    runs = instance.get_runs(dg.RunsFilter(statuses=statuses, tags=MACHINE), limit=1)
    return _AtWork(runs[0].job_name, runs[0].run_id) if runs else None


def _every(*, seconds: float, limit: float) -> Iterator[None]:
    began = time.monotonic()
    while time.monotonic() - began < limit:
        yield
        time.sleep(seconds)
