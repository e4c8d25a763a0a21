"""`kill -9` at writes of every stage of the data layer; `python -m benchmarks.crashes` does all of them."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from benchmarks import crashes
from benchmarks.crash_stages import BUILD, FINDS, HALF_FILE, PRIVATE, SPOOL
from benchmarks.crashes import SCENARIOS, Write
from benchmarks.faults import COMMITTED, NOT_BEGUN, NOT_COMMITTED
from headwater.lake import Lake
from headwater.versions import existing

#: Another is another draw of writes.
SEED = 1


def versions(home: Path) -> int:
    """Commits of all tables, their making included."""
    lake = Lake(home / "lake")
    return sum(1 + (lake.version(name) or 0) for name in existing(lake))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, int]:
    """A kill in each stage of an edited build, and the commits that the build makes."""
    root = tmp_path_factory.mktemp("crashes")
    found = crashes.measure(root, sample=len(BUILD), seed=SEED, scenarios=["edited build"])
    ends = [root / "after" / name for name in ("before the edit", "edited build")]
    return found, versions(ends[1]) - versions(ends[0])


def test_a_kill_in_each_stage_ends_where_an_undisturbed_build_does(found: tuple[dict, int]) -> None:
    result, _ = found
    assert result["unequal"] == [] and result["not_reached"] == []
    assert result["killed"] == {"edited build": dict.fromkeys(BUILD, 1)}
    assert not crashes.failed(result)
    assert f"{len(BUILD)} kills of {result['writes']} writes, 0 unequal" in crashes.show(result)


def test_every_write_is_counted(found: tuple[dict, int]) -> None:
    result, commits = found
    events = result["events"]["edited build"]
    assert list(events) == list(BUILD)
    counted: Counter[str] = Counter()
    for stage, kinds in events.items():
        begun, torn, ended = (
            sum(n for kind, n in kinds.items() if kind.endswith(f": {end}"))
            for end in (NOT_BEGUN, NOT_COMMITTED, COMMITTED)
        )
        assert torn == ended <= begun, stage
        counted[stage] = ended
    assert counted.total() == commits, "each commit of a table, and no other"
    # Each of four shards is committed by itself, and vectors are before they are in their places.
    sharded = ("raw_documents", "document_shards", "chunk_embeddings")
    assert all(counted[stage] > 1 for stage in sharded)
    assert counted["vector_index"] == counted["release"] == 0
    assert {"os.rename", "os.mkdir", "write", "engine flush: done"} <= events["vector_index"].keys()
    # Manifest, pointer and history: each is written, and two of them are renamed.
    assert events["release"]["write"] >= 3 and events["release"]["os.rename"] >= 2
    assert sum(sum(kinds.values()) for kinds in events.values()) == result["writes"]


def test_what_is_other_is_found() -> None:
    scenario = SCENARIOS["edited build"]
    reference = {
        "state": {"table raw_documents": [3, "a"], "index": "i", FINDS: {"bm25": {"7": 11.02617}}},
        "versions": ["i"],
        "files": {},
        "paths": ["lake/holds.json"],
        "left": {},
    }
    assert crashes.differences(scenario, reference, reference) == ([], Counter())
    for change in (
        {"state": {**reference["state"], "table raw_documents": [2, "b"]}},
        {"state": {**reference["state"], "table raw_documents": None}},
        {"state": {**reference["state"], FINDS: {"bm25": {"7": 11.02}}}},
        {"state": {**reference["state"], FINDS: {"bm25": {}}}},
        {"versions": []},
        {"paths": []},
        {"paths": ["lake/holds.json", "lake/stray"]},
        {"left": {PRIVATE: ["indexes/.open/1-x"]}},
        {"left": {SPOOL: ["lake/.spool-x"]}},
    ):
        why, _ = crashes.differences(scenario, reference, {**reference, **change})
        assert len(why) == 1, change
    rounded = {**reference, "state": {**reference["state"], FINDS: {"bm25": {"7": 11.02618}}}}
    assert crashes.differences(scenario, reference, rounded) == ([], Counter())
    later = {**reference, "left": {HALF_FILE: [".x.partial"]}, "versions": ["h", "i"]}
    assert crashes.differences(scenario, reference, later) == (
        [],
        Counter({HALF_FILE: 1, crashes.OLD_INDEX: 1}),
    )


def test_a_draw_has_each_stage_and_is_the_same_for_the_same_seed() -> None:
    writes = [
        Write("edited build", stage, number, "open", "x") for stage in BUILD for number in (1, 2, 3)
    ]
    chosen = crashes.drawn(writes, 10, Random(1))
    assert len(set(chosen)) == 10 and {write.stage for write in chosen} == set(BUILD)
    assert chosen == crashes.drawn(writes, 10, Random(1)) != crashes.drawn(writes, 10, Random(2))
    assert crashes.drawn(writes, None, Random(1)) == writes
    assert crashes.drawn(writes, 99, Random(1)) == writes
    assert len(crashes.drawn(writes, 3, Random(1))) == 3
