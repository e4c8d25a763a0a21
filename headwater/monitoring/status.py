"""Drift and the decision about it as one mapping, for the command line."""

from typing import Any

from headwater.monitoring.drift import latest
from headwater.monitoring.retraining import latest_decision
from headwater.settings import Settings


def drift_status(settings: Settings) -> dict[str, Any]:
    """What the last drift report and the last decision said.

    Returns:
        The fields of `DriftReport`, with status `never_looked` before the first; and `decision`,
        the fields of `Decision`, None before the first.
    """
    report = latest(settings) or {"status": "never_looked", "panels": {}, "examples": []}
    return {**report, "decision": latest_decision(settings)}
