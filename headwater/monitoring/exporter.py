"""What the pipeline tells Prometheus: a text file for node_exporter's textfile collector.

Knows names and the file, not where the numbers come from. The endpoint has metrics of its own, in
headwater/serving/metrics.py; the pipeline has no process that could be asked at any time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from headwater.files import write_atomic
from headwater.monitoring.alerts import Alert
from headwater.settings import Settings


def metrics_file(settings: Settings) -> Path:
    """Where the file lies."""
    return settings.root / "metrics" / "headwater.prom"


def write_metrics(
    settings: Settings,
    *,
    alerts: Sequence[Alert],
    last_success: Mapping[str, float],
    burn: Mapping[str, float],
    undelivered: Mapping[str, int],
    now: float,
) -> None:
    """Replace the file; a reader sees the old numbers or the new ones.

    Args:
        alerts: those that are open.
        last_success: by asset group, when one of its assets was made last, seconds since 1970.
        burn: burn rate of the long window, by rule.
        undelivered: notices that wait, by receiver.
        now: seconds since 1970; an old one says that nobody looks any more.
    """
    write_atomic(
        metrics_file(settings),
        metrics_text(
            alerts=alerts, last_success=last_success, burn=burn, undelivered=undelivered, now=now
        ),
    )


def metrics_text(
    *,
    alerts: Sequence[Alert],
    last_success: Mapping[str, float],
    burn: Mapping[str, float],
    undelivered: Mapping[str, int],
    now: float,
) -> bytes:
    """The numbers of `write_metrics` in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    open_alerts = Gauge(
        "headwater_alerts_open",
        "Open alerts by kind and severity.",
        ["kind", "severity"],
        registry=registry,
    )
    for (kind, severity), count in Counter((a.kind, a.severity) for a in alerts).items():
        open_alerts.labels(kind, severity).set(count)
    made = Gauge(
        "headwater_pipeline_last_success_timestamp_seconds",
        "When an asset of the group was made last.",
        ["group"],
        registry=registry,
    )
    for group, when in last_success.items():
        made.labels(group).set(when)
    rates = Gauge(
        "headwater_slo_burn_rate",
        "Error budget burn rate over the rule's long window; 1 is what the objective allows.",
        ["window"],
        registry=registry,
    )
    for window, rate in burn.items():
        rates.labels(window).set(rate)
    waiting = Gauge(
        "headwater_alerts_undelivered",
        "Notices that a receiver has not taken yet.",
        ["receiver"],
        registry=registry,
    )
    for receiver, count in undelivered.items():
        waiting.labels(receiver).set(count)
    Gauge(
        "headwater_alerts_last_look_timestamp_seconds",
        "When the sensors last looked for what is not well.",
        registry=registry,
    ).set(now)
    return generate_latest(registry)
