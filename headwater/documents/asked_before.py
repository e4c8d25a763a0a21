"""What was asked before: the shards that held, the rows they had, and the outcome where all held.

Knows suites and the files of tables, not what is asked of them. It is a cache: without it everything is
asked again, and the outcome is the same.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from headwater.documents.asked import HELD_BEFORE, QualityResult
from headwater.documents.asking import engine
from headwater.documents.rest import Before, Rest
from headwater.documents.suites import Suite
from headwater.files import read_json, write_json
from headwater.lake import Lake
from headwater.records import digest_of
from headwater.snapshot import Snapshot

QUALITY_VERSION = "quality/1"


class Memory:
    """Which shards held when they were last asked, and the outcome where all of them did.

    Args:
        name: of the memory.
        reads: the tables that are asked of.
        of_shard: what else decides for one shard alone, by shard.
    """

    def __init__(
        self,
        lake: Lake,
        name: str,
        reads: Sequence[Snapshot],
        suite: Suite,
        of_shard: Mapping[str, Any] | None = None,
    ) -> None:
        made_with = [QUALITY_VERSION, engine(), suite.digest]
        self._path = lake.root / ".rest" / f"{name}_asked.json"
        self._key = digest_of(made_with, dict(of_shard or {}), [table.files for table in reads])
        self._rest = Rest(lake, [], reads, made_with, of_shard, name=f"{name}_checked", recall=True)

    def result(self) -> QualityResult | None:
        """The outcome, where nothing has changed since everything held."""
        before = read_json(self._path)
        if before is None or before["key"] != self._key:
            return None
        return QualityResult(**before["result"])

    def at_rest(self, shards: Iterable[str]) -> dict[str, dict[str, int]]:
        """What was counted of the shards that need not be asked."""
        found = {shard: self._rest.counts(shard) for shard in shards}
        return {shard: counts for shard, counts in found.items() if counts is not None}

    def before(self, shards: Iterable[str]) -> dict[str, Before]:
        """What shards were when they last held, asked the same; those of which it is remembered."""
        found = {shard: self._rest.before(shard) for shard in shards}
        return {shard: before for shard, before in found.items() if before is not None}

    def keep(
        self,
        result: QualityResult,
        counts: Mapping[str, Mapping[str, int]],
        broken: Collection[str],
    ) -> None:
        """Remember the shards that held, with what was counted of them.

        Args:
            broken: shards where something fails or warns. They are asked as a whole the next time.
        """
        held = {shard: of for shard, of in counts.items() if shard not in broken}
        self._rest.keep(held, broken)
        if all(entry["success"] for entry in result.expectations):
            shards = [entry | {"status": HELD_BEFORE} for entry in result.shards]
            kept = asdict(replace(result, shards=shards))
            write_json(self._path, {"key": self._key, "result": kept})
