"""Sustained drift launches one retraining where that is worth its cost.

The graph itself stays acyclic: what follows from a decision is launched here, by no dependency. The
alert of a drift is raised with the others, in `sensors.conditions`.
"""

from typing import Any

import dagster as dg

from assets.jobs import retrain


@dg.asset_sensor(
    asset_key=dg.AssetKey("retraining_decision"),
    job=retrain,
    name="drift",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches `retrain` once for each decision to.",
)
def drift(
    context: dg.SensorEvaluationContext, event: dg.EventLogEntry
) -> dg.RunRequest | dg.SkipReason:
    """One run for each decision, whose digest and reference are the run's key.

    A decision stands for its cool-down, so a tick that was killed is made up for by the next one,
    and a tick that is repeated launches nothing.
    """
    materialization = event.asset_materialization
    assert materialization is not None  # an asset sensor is called with nothing else
    said: dict[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
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
