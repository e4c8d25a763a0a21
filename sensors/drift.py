"""Sustained drift launches one retraining; the graph itself stays acyclic."""

import dagster as dg

from assets.jobs import retrain


@dg.asset_sensor(
    asset_key=dg.AssetKey("drift_report"),
    job=retrain,
    name="drift",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches `retrain` when a drift report says so, once for each reference.",
)
def drift(
    context: dg.SensorEvaluationContext, event: dg.EventLogEntry
) -> dg.RunRequest | dg.SkipReason:
    """One run for each reference window that production has drifted from.

    Retraining makes a new adapter, which gets a reference of its own; until then further reports
    that say the same launch nothing.
    """
    materialization = event.asset_materialization
    assert materialization is not None  # an asset sensor is called with nothing else
    status = materialization.metadata["status"].value
    if status != "drift":
        return dg.SkipReason(f"the latest drift report says: {status}")
    reference = materialization.metadata["reference"].value
    return dg.RunRequest(run_key=f"drift-{reference}", tags={"headwater/reason": "drift"})
