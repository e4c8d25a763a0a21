"""The endpoint as a resource: the one that runs, or one in this process for a check."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from headwater.settings import Settings


class EndpointResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Finds the running endpoint of this installation."""

    @contextmanager
    def connect(self, settings: Settings) -> Iterator[tuple[str, bool]]:
        """Base URL of the running endpoint, or of one in this process; and whether it runs."""
        from headwater.serving.connect import connect

        with connect(settings) as found:
            yield found
