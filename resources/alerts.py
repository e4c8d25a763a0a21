"""The alert inbox as a resource, and its pages in the Dagster UI."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from headwater.monitoring.alerts import AlertInbox
from headwater.monitoring.outbox import Message

#: The asset whose partitions are the alerts.
ASSET = "alerts"
partitions = dg.DynamicPartitionsDefinition(name=ASSET)


class AlertsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A durable inbox below one folder; `ui` is where links lead."""

    path: str
    ui: str = ""

    def get(self) -> AlertInbox:
        """A handle on the inbox."""
        return AlertInbox(Path(self.path), self.ui)


class DagsterPage:
    """The receiver that is the UI itself: an alert is a partition of `alerts`, where its link leads.

    Telling it twice shows the same page.
    """

    key = name = "dagster"

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def send(self, message: Message) -> bool:
        """Put the alert's state on its page."""
        alert = message.alert
        metadata: dict[str, Any] = {
            "alert": dg.MetadataValue.text(alert.title),
            "state": alert.state if message.resolved else f"{alert.state}, {alert.severity}",
            "owner": alert.owner,
            "detail": dg.MetadataValue.text(alert.detail),
            "seen": f"{alert.count} times, first {alert.first_seen}, last {alert.last_seen}",
            "last_well": alert.last_well or "not known",
            "changed": _table(alert.changed),
            "examples": _table(alert.examples),
            "runbook": dg.MetadataValue.md(_runbook(alert.runbook)),
        }
        if alert.place:
            metadata["place"] = dg.MetadataValue.url(alert.place)
        if alert.run:
            metadata["run"] = dg.MetadataValue.dagster_run(alert.run)
        self._instance.add_dynamic_partitions(ASSET, [alert.id])
        self._instance.report_runless_asset_event(
            dg.AssetMaterialization(
                ASSET, partition=alert.id, description=alert.title, metadata=metadata
            )
        )
        return True


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a table that the UI draws as text; they may be what users wrote."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return dg.MetadataValue.text("none")
    records = [dg.TableRecord({name: str(row.get(name, "")) for name in names}) for row in rows]
    columns = [dg.TableColumn(name) for name in names]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def _runbook(path: str) -> str:
    """The runbook's text, or where it is, for an installation without the repository's docs."""
    file = Path(__file__).parents[1] / path
    return file.read_text("utf-8") if file.exists() else path
