"""The endpoint as a resource: the one that runs, or one in this process for a check."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from headwater.settings import Settings


class EndpointResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Finds the running endpoint of this installation."""

    @contextmanager
    def connect(self, settings: Settings) -> Iterator[tuple[str, bool]]:
        """Base URL of an endpoint, and whether it is one that serves users.

        Where none runs, the same application is served from this process on a free loopback
        port until the block ends, so that a release is always verified by real requests.
        """
        from headwater.serving.client import find_endpoint
        from headwater.serving.server import serve_in_thread

        running = find_endpoint(settings)
        if running is not None:
            yield running.url, True
            return
        with serve_in_thread(settings, port=0) as url:
            yield url, False
