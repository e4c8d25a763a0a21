"""Shards at rest: a stage that would read what it read and find what it left has nothing to do.

Knows names of data files, which never change, so that equal names are equal rows. What it remembers
is a cache: without it a stage compares every document again, and does the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.records import digest_of


class Rest:
    """The shards of one stage that are as the stage left them, with its counts of then.

    Args:
        table: that the stage writes; its memory goes by this name.
        inputs: other tables that it reads or writes, by shard.
        made_with: whatever else decides what the stage does: versions, settings, programs.
        of_shard: what decides for one shard alone, by shard.
    """

    def __init__(
        self,
        lake: Lake,
        table: str,
        inputs: Sequence[str],
        made_with: Any,
        of_shard: Mapping[str, Any] | None = None,
    ) -> None:
        self._lake = lake
        self._tables = (*inputs, table)
        self._made_with = digest_of(self._tables, made_with)
        self._of_shard = of_shard or {}
        self._path = lake.root / ".rest" / f"{table}.json"
        self._before: dict[str, Any] = read_json(self._path) or {}
        self._names = self._read_names()

    def counts(self, shard: str) -> dict[str, int] | None:
        """What the stage counted of a shard that is at rest; None where there may be work."""
        entry = self._before.get(shard)
        return entry["counts"] if entry and entry["key"] == self._key(shard) else None

    def keep(self, counts: Mapping[str, Mapping[str, int]], shards: Iterable[str]) -> None:
        """Remember the counts of these shards, which the stage has brought up to date.

        Others stay as they are remembered; what is not to be remembered is not called.
        """
        shards = list(shards)
        if not shards:
            return
        self._names = self._read_names()
        after = {
            **self._before,
            **{s: {"key": self._key(s), "counts": dict(counts[s])} for s in shards},
        }
        if after != self._before:
            write_json(self._path, after)

    def _read_names(self) -> list[dict[str, list[str]]]:
        return [self._lake.snapshot(table).files for table in self._tables]

    def _key(self, shard: str) -> str:
        files = [names.get(shard, []) for names in self._names]
        return digest_of(self._made_with, self._of_shard.get(shard), files)
