"""Failed runs and failed checks become alerts in the inbox: one for each open cause."""

import dagster as dg

from headwater.monitoring.alerts import raise_alert
from resources.alerts import AlertsResource
from resources.failures import root_message


@dg.run_failure_sensor(
    name="failed_runs",
    monitor_all_code_locations=True,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes an alert for a failed run, whoever launched it.",
)
def failed_runs(context: dg.RunFailureSensorContext, alerts: AlertsResource) -> None:
    """The job and its first failed step name the cause."""
    steps = context.get_step_failure_events()
    step = steps[0].step_key if steps else "run"
    message = context.failure_event.message or ""
    if steps:
        message = root_message(steps[0].step_failure_data.error)
    raise_alert(
        alerts.get(),
        kind="run_failure",
        subject=context.dagster_run.job_name,
        cause=step or "run",
        detail=message.strip(),
        owner="team:oncall",
        run=context.dagster_run.run_id,
    )


@dg.sensor(
    name="failed_checks",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Writes an alert for a failed asset check, and resolves it when it passes again.",
)
def failed_checks(
    context: dg.SensorEvaluationContext, alerts: AlertsResource
) -> dg.SkipReason | None:
    """Reads check evaluations past the cursor, oldest first."""
    records = context.instance.get_event_records(
        dg.EventRecordsFilter(
            event_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            after_cursor=int(context.cursor) if context.cursor else None,
        ),
        limit=200,
        ascending=True,
    )
    if not records:
        return dg.SkipReason("no check was evaluated")
    inbox = alerts.get()
    for record in records:
        event = record.event_log_entry.dagster_event
        assert event is not None  # the filter asks for Dagster events only
        check = event.asset_check_evaluation_data
        subject = check.asset_key.to_user_string()
        if check.passed:
            inbox.resolve(kind="check_failure", subject=subject, cause=check.check_name)
        else:
            raise_alert(
                inbox,
                kind="check_failure",
                subject=subject,
                cause=check.check_name,
                detail=check.description or "",
                owner="team:data" if "documents" in subject else "team:ml",
                run=record.event_log_entry.run_id,
            )
    context.update_cursor(str(records[-1].storage_id))
    return None
