"""Sustained drift raises one alert, and launches one retraining where that is worth its cost.

The graph itself stays acyclic: what follows from a decision is launched here, by no dependency.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.jobs import retrain
from headwater.monitoring.alerts import AlertInbox, raise_alert
from headwater.records import short
from resources.alerts import AlertsResource

_SUBJECT = "drift_report"


@dg.asset_sensor(
    asset_key=dg.AssetKey("retraining_decision"),
    job=retrain,
    name="drift",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Raises an alert on drift, and launches `retrain` once for each decision to.",
)
def drift(
    context: dg.SensorEvaluationContext, event: dg.EventLogEntry, alerts: AlertsResource
) -> dg.RunRequest | dg.SkipReason:
    """One run for each decision, whose digest and reference are the run's key.

    A decision stands for its cool-down, so a tick that was killed is made up for by the next one,
    and a tick that is repeated launches nothing.
    """
    materialization = event.asset_materialization
    assert materialization is not None  # an asset sensor is called with nothing else
    said: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
    _tell(alerts.get(), said)
    if not said["retrain"]:
        return dg.SkipReason(f"drift: {said['drift']}; decision: {said['verdict']}")
    return dg.RunRequest(
        run_key=f"drift-{said['reference']}-{said['decision']}",
        tags={
            "headwater/reason": "drift",
            "headwater/drift_panel": said["panel"],
            "headwater/drift_evidence": f"{said['evidence']:.4g}",
            "headwater/drift_traces": ",".join(each["trace"] for each in said["examples"]),
            "headwater/decision": said["decision"],
        },
    )


def _tell(inbox: AlertInbox, said: Mapping[str, Any]) -> None:
    """Raise the alert of this drift, and resolve those of references that are left behind."""
    cause = f"reference {short(said['reference'])}"
    for alert in inbox.list("open"):
        if alert.kind == "drift" and (alert.cause != cause or said["drift"] != "drift"):
            inbox.resolve(kind="drift", subject=alert.subject, cause=alert.cause)
    if said["drift"] == "drift":
        asked = "; ".join(f"{each['question']} ({each['trace']})" for each in said["examples"])
        raise_alert(
            inbox,
            kind="drift",
            subject=_SUBJECT,
            cause=cause,
            detail=f"Panel {said['panel']}, evidence {said['evidence']:.3g}. "
            + " ".join(said["reasons"])
            + f" Examples: {asked}",
            owner="team:ml",
        )
