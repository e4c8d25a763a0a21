"""Shards at rest: a stage that would read what it read and find what it left has nothing to do.

Knows names of data files, which never change, so that equal names are equal rows. What it remembers
is a cache: without it a stage compares every document again, and does the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.locks import wait_for
from headwater.records import digest_of
from headwater.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a shard was when it was remembered: names of its data files in each table that was read and in
    each that was written, in the order of these, and what decided for it alone.
    """

    files: list[list[str]]
    written: list[list[str]]
    of_shard: Any


class Rest:
    """The shards of one stage that are as the stage left them, with its counts of then.

    Args:
        writes: tables that the stage writes; its memory goes by the name of the first.
        reads: other tables that it reads, by shard; as they are now, or as a snapshot has them.
        made_with: whatever else decides what the stage does: versions, settings, programs.
        of_shard: what decides for one shard alone, by shard.
        name: of its memory, for a stage that writes no table.
        recall: whether `before` is asked for, so that file names are remembered too.
    """

    def __init__(
        self,
        lake: Lake,
        writes: Sequence[str],
        reads: Sequence[str | Snapshot],
        made_with: Any,
        of_shard: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        recall: bool = False,
    ) -> None:
        self._recall = recall
        self._lake, self._writes = lake, writes
        named = [table.name if isinstance(table, Snapshot) else table for table in reads]
        self._made_with = digest_of(writes, named, made_with)
        self._of_shard = of_shard or {}
        self._path = lake.root / ".rest" / f"{name or writes[0]}.json"
        self._before: dict[str, Any] = read_json(self._path) or {}
        # What is read counts as it is now, also where another writes it in the meantime.
        self._read, self._written = self._names(reads), self._names(writes)

    def counts(self, shard: str) -> dict[str, int] | None:
        """What the stage counted of a shard that is at rest; None where there may be work."""
        entry = self._before.get(shard)
        return entry["counts"] if entry and entry["key"] == self._key(shard) else None

    def before(self, shard: str) -> Before | None:
        """What a shard was, made with what is in force now; None where that is not remembered."""
        entry = (self._before.get(shard) or {}).get("before")
        if entry is None or entry["made_with"] != self._made_with or "written" not in entry:
            return None
        return Before(files=entry["files"], written=entry["written"], of_shard=entry["of_shard"])

    def touched(self, shard: str, read: Snapshot, written: Snapshot) -> set[str] | None:
        """Documents of a shard that may have other rows in the first table that is read than when the
        shard was remembered; None where that is not known, or the stage's own rows are others since.
        """
        before = self.before(shard)
        if before is None or before.written[0] != written.files.get(shard, []):
            return None
        return read.touched(shard, before.files[0])

    def keep(self, counts: Mapping[str, Mapping[str, int]], not_kept: Collection[str] = ()) -> None:
        """Remember the counts of shards, by shard, that the stage has brought up to date.

        Args:
            not_kept: shards of which `before` is to tell nothing.
        """
        if not counts and not not_kept:
            return
        self._written = self._names(self._writes)
        kept = {shard: self._entry(shard, of) for shard, of in counts.items()}
        # Others may have remembered other shards in the meantime.
        with wait_for(self._path.with_suffix(".lock")):
            before: dict[str, Any] = read_json(self._path) or {}
            after = {**before, **kept}
            for shard in after.keys() & set(not_kept):
                after[shard] = {name: after[shard][name] for name in ("key", "counts")}
            if before != after:
                write_json(self._path, after)

    def _entry(self, shard: str, counts: Mapping[str, int]) -> dict[str, Any]:
        entry = {"key": self._key(shard), "counts": dict(counts)}
        if self._recall:
            files = [names.get(shard, []) for names in self._read]
            entry["before"] = {
                "made_with": self._made_with,
                "files": files,
                "written": [names.get(shard, []) for names in self._written],
                "of_shard": self._of_shard.get(shard),
            }
        return entry

    def _names(self, tables: Sequence[str | Snapshot]) -> list[dict[str, list[str]]]:
        return [
            table.files if isinstance(table, Snapshot) else self._lake.snapshot(table).files
            for table in tables
        ]

    def _key(self, shard: str) -> str:
        files = [names.get(shard, []) for names in (*self._read, *self._written)]
        return digest_of(self._made_with, self._of_shard.get(shard), files)
