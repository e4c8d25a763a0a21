"""What is the case now, as Dagster and the release pointer know it: names and short values.

An alert compares these with what was the case when its subject last was well.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from headwater.records import short
from headwater.release import pointer
from headwater.settings import Settings
from resources.environment import git_commit


class Facts:
    """Facts of one moment; reads the latest materializations once.

    Args:
        graph: the asset graph of the repository.
    """

    def __init__(self, instance: dg.DagsterInstance, graph: Any, settings: Settings) -> None:
        self._graph = graph
        keys = [key for key in graph.get_all_asset_keys() if graph.get(key).is_materializable]
        self._made = {
            record.asset_entry.asset_key: record.asset_entry.last_materialization_record
            for record in instance.get_asset_records(keys)
        }
        self.general: dict[str, str] = {
            "release": short(pointer.current(settings) or "") or "none",
            "commit": git_commit()[:12] or "unknown",
        }

    def of_asset(self, name: str) -> Mapping[str, str]:
        """The general facts, and an asset's code version and the data versions of its inputs."""
        key = dg.AssetKey(name.split("/"))
        if not self._graph.has(key):
            return self.general
        node = self._graph.get(key)
        found = {**self.general, "code version": str(getattr(node, "code_version", None))}
        for parent in sorted(node.parent_keys):
            found[f"input {parent.to_user_string()}"] = short(self._tag(parent, "data_version"))
        return found

    def last_made(self, name: str) -> float | None:
        """When an asset was materialized last, seconds since 1970."""
        record = self._made.get(dg.AssetKey(name.split("/")))
        return record.event_log_entry.timestamp if record else None

    def last_success_by_group(self) -> dict[str, float]:
        """When an asset of each group was materialized last."""
        groups: dict[str, float] = {}
        for key, record in self._made.items():
            if record is not None:
                group = self._graph.get(key).group_name
                when = record.event_log_entry.timestamp
                groups[group] = max(groups.get(group, 0.0), when)
        return groups

    def owner(self, name: str, otherwise: str = "team:oncall") -> str:
        """Who owns an asset, the first of them."""
        key = dg.AssetKey(name.split("/"))
        owners = self._graph.get(key).owners if self._graph.has(key) else ()
        return next(iter(owners), otherwise)

    def _tag(self, key: dg.AssetKey, name: str) -> str:
        record = self._made.get(key)
        materialization = record.asset_materialization if record else None
        tags = (materialization.tags if materialization else None) or {}
        return str(tags.get(f"dagster/{name}", "none"))
