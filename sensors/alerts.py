"""What is not well becomes an alert in the inbox, and the inbox tells whoever is to be told.

Three sensors and a fourth that delivers: one that fails does not hold up the others.
"""

import time

import dagster as dg

from headwater.monitoring.alerts_page import write_page
from headwater.monitoring.exporter import write_metrics
from headwater.monitoring.outbox import deliver, undelivered
from headwater.monitoring.receivers import receivers
from resources.alerts import AlertsResource, DagsterPage
from resources.environment import SettingsResource
from sensors import conditions, outcomes
from sensors.facts import Facts

_RUNNING = dg.DefaultSensorStatus.RUNNING


def _facts(context: dg.SensorEvaluationContext, settings: SettingsResource) -> Facts:
    return Facts(context.instance, _graph(context), settings.get())


def _graph(context: dg.SensorEvaluationContext) -> object:
    repository = context.repository_def
    assert repository is not None  # a sensor's tick has the repository that it is part of
    return repository.asset_graph


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=_RUNNING,
    description="Raises an alert for a failed run, and resolves it when the step succeeds again.",
)
def failed_runs(
    context: dg.SensorEvaluationContext, alerts: AlertsResource, settings: SettingsResource
) -> dg.SkipReason | None:
    """Reads the ends of runs past the cursor."""
    ends = outcomes.run_ends(context.instance, int(context.cursor or 0))
    if not ends:
        return dg.SkipReason("no run has ended")
    facts = _facts(context, settings)
    for record in ends:
        outcomes.tell_of_run(context.instance, alerts.get(), facts, record)
    context.update_cursor(str(ends[-1].storage_id))
    return None


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=_RUNNING,
    description="Raises an alert for a failed asset check, and resolves it when it passes again.",
)
def failed_checks(
    context: dg.SensorEvaluationContext, alerts: AlertsResource, settings: SettingsResource
) -> dg.SkipReason | None:
    """Reads evaluations made after the cursor, a time."""
    keys = sorted(_graph(context).asset_check_keys)  # type: ignore[attr-defined]
    ends = outcomes.check_ends(context.instance, keys, float(context.cursor or 0))
    if not ends:
        return dg.SkipReason("no check was evaluated")
    facts = _facts(context, settings)
    for record in ends:
        outcomes.tell_of_check(alerts.get(), facts, record)
    context.update_cursor(repr(ends[-1].event.timestamp))
    return None


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=_RUNNING,
    description="Stale assets, drift, stuck runs, failing sensors, a burning error budget.",
)
def lasting_conditions(
    context: dg.SensorEvaluationContext, alerts: AlertsResource, settings: SettingsResource
) -> dg.SkipReason:
    """Looks at everything that lasts, and writes the pipeline's metrics and the inbox's page."""
    instance, inbox, choices = context.instance, alerts.get(), settings.get()
    repository, graph = context.repository_def, _graph(context)
    assert repository is not None
    facts = _facts(context, settings)
    conditions.stale_assets(instance, graph, inbox, facts, choices)
    conditions.drift(instance, inbox, facts)
    conditions.stuck_runs(instance, inbox, facts, choices)
    names = [each.name for each in repository.sensor_defs]
    names += [each.name for each in repository.schedule_defs]
    conditions.failing_sensors(instance, inbox, facts, names)
    burns = conditions.burning_budget(inbox, facts, choices)
    inbox.forget_old()
    waiting, moment = inbox.list("open"), time.time()
    write_metrics(
        choices,
        alerts=waiting,
        last_success=facts.last_success_by_group(),
        burn={burn.window.name: burn.long_rate for burn in burns},
        undelivered=undelivered(inbox, now=moment),
        now=moment,
    )
    write_page(choices, inbox.list())
    return dg.SkipReason(f"{len(waiting)} alerts are open")


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=_RUNNING,
    description="Tells the receivers of HEADWATER_ALERT_URLS, and shows each alert in this UI.",
)
def alert_delivery(
    context: dg.SensorEvaluationContext, alerts: AlertsResource, settings: SettingsResource
) -> dg.SkipReason:
    """Goes on for twenty seconds at most; what is left waits for the next tick."""
    told = [DagsterPage(context.instance), *receivers(settings.get())]
    done = deliver(alerts.get(), told)
    return dg.SkipReason("another process delivers" if done.busy else f"{done.sent} notices sent")
