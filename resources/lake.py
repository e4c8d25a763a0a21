"""The lake as a resource."""

from pathlib import Path

import dagster as dg

from headwater.lake import Lake


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Delta tables below one folder."""

    path: str

    def get(self) -> Lake:
        """A handle; tables that were never written are there, empty."""
        lake = Lake(Path(self.path))
        lake.ensure()
        return lake
