"""Reads what ended in Dagster, runs and checks, and tells the alert inbox, oldest first.

Everything is idempotent: reading the same events again, after a tick that was killed, changes
nothing in the inbox.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.base import EventLogCursor

from headwater.monitoring.alerts import AlertInbox, Finding, iso
from resources.failures import root_error, root_message
from sensors.facts import Facts

#: Ends of runs that one tick looks at; the next tick goes on from there.
BATCH = 200
_ENDS = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)
_STEPS = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
}
#: What a step raises because a check failed: that has an alert of its own.
_BY_A_CHECK = "DagsterAssetCheckFailedError"


def run_ends(instance: dg.DagsterInstance, after: int) -> Sequence[Any]:
    """Failures and successes of runs after a storage id, in the order in which they happened."""
    cursor = EventLogCursor.from_storage_id(after).to_string() if after else None
    records: list[Any] = []
    horizon = None
    for kind in _ENDS:
        found = instance.fetch_run_status_changes(kind, limit=BATCH, cursor=cursor, ascending=True)
        records.extend(found.records)
        if found.has_more:
            # Of the other kind there may be later ones, whose turn has not come.
            last = found.records[-1].storage_id
            horizon = last if horizon is None else min(horizon, last)
    records.sort(key=lambda record: record.storage_id)
    return [r for r in records if horizon is None or r.storage_id <= horizon]


def tell_of_run(instance: dg.DagsterInstance, inbox: AlertInbox, facts: Facts, record: Any) -> None:
    """One run's end: its steps that succeeded are well, the first that failed is not."""
    entry = record.event_log_entry
    run = instance.get_run_by_id(entry.run_id)
    if run is None:  # deleted by somebody
        return
    time = iso(entry.timestamp)
    started: dict[str, float] = {}
    failed: tuple[str, Any] | None = None
    for each in instance.all_logs(run.run_id, of_type=_STEPS):
        event = each.dagster_event
        assert event is not None  # asked for by type
        step = event.step_key or ""
        if event.is_step_start:
            started[step] = each.timestamp
            continue
        started.pop(step, None)
        if event.is_step_failure:
            failed = failed or (step, event.step_failure_data)
        else:
            inbox.well("run_failure", step, facts=facts.of_asset(step), time=iso(each.timestamp))
    if entry.dagster_event.event_type is dg.DagsterEventType.RUN_SUCCESS:
        inbox.well("run_failure", run.job_name, facts=facts.general, time=time)
        return
    detail, cause, examples = entry.dagster_event.message or "", "ended without an error", []
    # A worker that was killed leaves the step that it was at.
    subject = next(iter(started), run.job_name)
    if failed is not None:
        subject, data = failed
        error = root_error(data.error)
        cause = getattr(error, "cls_name", None) or "failed"
        detail = root_message(data.error)
        examples = _examples(data.user_failure_data.metadata if data.user_failure_data else {})
        if cause == _BY_A_CHECK:
            return
    inbox.failed(
        Finding(
            kind="run_failure",
            subject=subject,
            cause=cause,
            event=f"run:{run.run_id}",
            detail=f"{detail.strip()}\n(job {run.job_name}, run {run.run_id})",
            owner=facts.owner(subject),
            # What Dagster tries again by itself need not wake anybody.
            severity="warning" if run.tags.get("dagster/will_retry") == "true" else "critical",
            time=time,
            examples=examples,
            facts=facts.of_asset(subject),
            place=f"/runs/{run.run_id}",
            run=run.run_id,
        )
    )


def check_ends(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], after: float
) -> list[Any]:
    """Evaluations of these checks that were made after a time, in order.

    The event log of SQLite keeps no order of evaluations across runs, so each check's own history
    is read back to what is known.
    """
    log = instance.event_log_storage
    found: list[Any] = []
    for key in keys:
        found.extend(_newer(log, key, after))
    return sorted(found, key=lambda record: (record.event.timestamp, record.id))


def _newer(log: Any, key: dg.AssetCheckKey, after: float) -> Iterator[Any]:
    cursor = None
    while True:
        page = log.get_asset_check_execution_history(key, limit=BATCH, cursor=cursor)
        evaluated = [r for r in page if r.event is not None and r.status.value != "PLANNED"]
        newer = [record for record in evaluated if record.event.timestamp > after]
        yield from newer
        if len(page) < BATCH or (evaluated and not newer):
            return
        cursor = page[-1].id


def tell_of_check(inbox: AlertInbox, facts: Facts, record: Any) -> None:
    """One evaluation: the check is well, or it is not."""
    check = record.event.dagster_event.asset_check_evaluation_data
    asset = check.asset_key.to_user_string()
    subject = f"{asset}: {check.check_name}"
    time = iso(record.event.timestamp)
    if check.passed:
        inbox.well("check_failure", subject, facts=facts.of_asset(asset), time=time)
        return
    is_error = check.severity is dg.AssetCheckSeverity.ERROR
    inbox.failed(
        Finding(
            kind="check_failure",
            subject=subject,
            cause="blocks what is downstream" if check.blocking else "failed",
            event=f"check:{subject}:{record.id}",
            detail=check.description or "The check gave no reason.",
            owner=facts.owner(asset),
            severity="critical" if is_error else "warning",
            time=time,
            examples=_examples(check.metadata),
            facts=facts.of_asset(asset),
            place=f"/assets/{asset}?view=checks&checkDetail={check.check_name}",
            run=record.run_id,
        )
    )


def _examples(metadata: Any) -> list[dict[str, Any]]:
    """What failed, from an event's metadata: rows where it has some, else each entry."""
    rows: list[dict[str, Any]] = []
    for name, value in metadata.items():
        inner = getattr(value, "value", value)
        if isinstance(value, dg.TableMetadataValue):
            rows.extend(dict(record.data) for record in value.records)
        elif isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner):
            rows.extend(inner)
        else:
            rows.append({"what": name, "value": inner})
    return rows
