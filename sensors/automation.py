"""Evaluates the automation conditions: a changed source goes through to a new release."""

import dagster as dg

automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(include_sources=True),
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    run_tags={"headwater/machine": "all"},
    description="Fresh documents through to the endpoint; training is never requested here.",
)
