"""The alert inbox as a resource."""

from pathlib import Path

import dagster as dg

from headwater.monitoring.alerts import AlertInbox


class AlertsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A durable inbox below one folder."""

    path: str

    def get(self) -> AlertInbox:
        """A handle on the inbox."""
        return AlertInbox(Path(self.path))
