"""The lake as a resource."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from headwater.lake import Lake


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Delta tables below one folder.

    In an asset's body the handle notes the run in every commit, and on the materialization which
    versions were read and written.
    """

    path: str

    def get(self) -> Lake:
        """A handle; tables that were never written are there, empty."""
        context = _context()
        if context is None:
            lake = Lake(Path(self.path))
        else:
            lake = Lake(Path(self.path), run=context.run.run_id, on_use=_noting(context))
        lake.ensure()
        return lake


def _context() -> dg.AssetExecutionContext | None:
    """That of the asset whose body runs; None in a check, a sensor or a test."""
    try:
        return dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None


def _noting(context: dg.AssetExecutionContext) -> Callable[[Lake], None]:
    name = context.asset_key.to_user_string()

    def note(lake: Lake) -> None:
        metadata: dict[str, Any] = {
            "tables_read": dg.MetadataValue.json(
                {table: version for table, version in lake.versions_read.items() if table != name}
            )
        }
        version = lake.versions_written.get(name, lake.versions_read.get(name))
        if version is not None:
            metadata["table_version"] = version
        if lake.versions_written.keys() - {name}:
            metadata["tables_written"] = dg.MetadataValue.json(dict(lake.versions_written))
        context.add_asset_metadata(metadata)

    return note
