"""What a stage reads, holds and remembers; and that none of it changes what comes out."""

import json
import shutil

import pyarrow as pa
import pytest

from headwater.documents import chunk, clean, contents, duplicates, raw, sources, spool, stage
from headwater.documents.contents import contents as digests_of_table
from headwater.documents.kinds import table
from headwater.documents.kinds.table import TableSource
from headwater.documents.raw import update_raw
from headwater.documents.spool import Spool
from headwater.documents.stage import held_shards
from headwater.lake import Lake
from headwater.records import digest_of, shard_of
from headwater.tables import SCHEMAS
from tests.documents.examples import PROSE, SHARDS, Corpus

OUTPUTS = (raw.OUTPUT, clean.OUTPUT, chunk.OUTPUT)


@pytest.fixture
def twelve(corpus: Corpus) -> Corpus:
    """A corpus of twelve documents that fills all shards, one of them a duplicate."""
    for number in range(11):
        own = " ".join(f"w{number}x{at}" for at in range(60))
        corpus.write(f"{number}.txt", f"{PROSE}\n\n{own}.")
    corpus.write("copy.txt", (corpus.folder / "3.txt").read_bytes())
    return corpus


def build(corpus: Corpus) -> list:
    return [corpus.raw(), corpus.clean(), corpus.duplicates(), corpus.chunk()]


def digests(stages: list) -> list[str]:
    return [stage.digest for stage in stages]


def by_hand(lake: Lake, output: stage.Output) -> tuple[str, dict[str, str]]:
    """Digests of a table and its shards, from all of its rows at once."""
    shards: dict[str, list[str]] = {}
    for row in lake.read(output.table).to_pylist():
        given = [[name, row[name]] for name in output.where_given if row[name]]
        values = [row[name] for name in output.columns]
        digest = (
            values[0] if output.columns == ("digest",) and not given else digest_of(*values, *given)
        )
        shards.setdefault(row["shard"], []).append(digest)
    everything = sorted(digest for each in shards.values() for digest in each)
    named = {shard: digest_of(output.version, sorted(each)) for shard, each in shards.items()}
    return digest_of(output.version, everything), named


def fail(*_, **__):
    raise AssertionError("it was asked")


def test_digests_are_those_of_all_rows(twelve: Corpus):
    build(twelve)
    tagged = twelve.source.model_copy(update={"access": ("staff",)})
    stats = [
        update_raw(twelve.lake, [tagged], SHARDS, 4, 2**20),
        twelve.clean(),
        twelve.chunk(),
    ]
    for stats_of, output in zip(stats, OUTPUTS, strict=True):
        whole, shards = by_hand(twelve.lake, output)
        assert stats_of.digest == whole
        assert stats_of.shard_digests == shards


def test_digests_are_computed_where_files_are_others(twelve: Corpus, monkeypatch):
    twelve.raw()
    keys = {"version": "v", "columns": ("uri",)}
    flat = digests_of_table(twelve.lake, "raw_documents", **keys)
    sharded = digests_of_table(twelve.lake, "raw_documents", **keys, by_shard=True)
    assert flat.shards == sharded.shards and flat.whole != sharded.whole
    assert sharded.whole == digest_of("v", sorted(flat.shards.items()))

    asked = []
    real = contents.row_digests
    monkeypatch.setattr(contents, "row_digests", lambda *rest: asked.append(rest) or real(*rest))
    assert digests_of_table(twelve.lake, "raw_documents", **keys, by_shard=True) == sharded
    assert asked == []
    # The same rows in another file: they are looked at, and have the name that they had.
    rows = twelve.lake.read("raw_documents", where={"shard": ["01"]})
    twelve.lake.replace("raw_documents", rows, keys=["01"])
    assert digests_of_table(twelve.lake, "raw_documents", **keys, by_shard=True) == sharded
    assert len(asked) == 1
    twelve.lake.replace("raw_documents", rows.slice(0, 0), keys=["01"])
    now = digests_of_table(twelve.lake, "raw_documents", **keys, by_shard=True)
    assert now.shards.keys() == sharded.shards.keys() - {"01"} and now.whole != sharded.whole
    assert len(asked) == 1


@pytest.mark.parametrize("forgotten", [".rest", ".digests"])
def test_what_is_remembered_can_be_deleted(twelve: Corpus, forgotten: str):
    first = build(twelve)
    shutil.rmtree(twelve.lake.root / forgotten)
    versions = {name: twelve.lake.version(name) for name in SCHEMAS}
    assert digests(build(twelve)) == digests(first)
    assert {name: twelve.lake.version(name) for name in SCHEMAS} == versions


def test_shards_at_rest_are_not_looked_at(twelve: Corpus, monkeypatch):
    first = build(twelve)
    asked: list[str] = []
    for module in (clean, chunk):
        real = module._input_digests

        def noted(*arguments, real=real):
            documents = next(each for each in arguments if isinstance(each, pa.Table))
            asked.extend(documents["uri"].to_pylist())
            return real(*arguments)

        monkeypatch.setattr(module, "_input_digests", noted)
    monkeypatch.setattr(duplicates, "resolve", fail)
    again = build(twelve)
    assert asked == []
    assert digests(again) == digests(first)
    assert [stage.seen for stage in (again[0], again[1], again[3])] == [12, 12, 11]
    assert [stage.reused for stage in (again[1], again[3])] == [12, 11]

    monkeypatch.undo()
    twelve.write("3.txt", "A text of its own about the harbour, its boats and the fees of a berth.")
    after = build(twelve)
    fresh = Corpus(twelve.folder, Lake(twelve.lake.root.parent / "fresh"))
    assert digests(after) == digests(build(fresh))


def test_one_edit_wakes_one_shard(twelve: Corpus, monkeypatch):
    build(twelve)
    asked: set[str] = set()
    real = clean._input_digests

    def noted(rows, *rest):
        asked.update(rows["shard"].to_pylist())
        return real(rows, *rest)

    monkeypatch.setattr(clean, "_input_digests", noted)
    twelve.write("5.txt", f"Other words. {PROSE}")
    twelve.raw()
    twelve.clean()
    assert asked == {shard_of("docs:///5.txt", 4)}


def test_other_settings_wake_all_shards(twelve: Corpus):
    build(twelve)
    assert twelve.clean(max_text_chars=50).quarantined == 12
    assert twelve.clean().quarantined == 0


def test_what_stays_counts_as_memory(twelve: Corpus, monkeypatch):
    first = build(twelve)
    before = twelve.lake.version("raw_documents")
    for number in range(11):
        twelve.write(f"{number}.txt", f"Edited. {PROSE} {number}")
    monkeypatch.setattr(stage, "COMMIT_BYTES", 1)
    edited = build(twelve)
    assert digests(edited) != digests(first)
    assert (
        twelve.lake.version("raw_documents") == before + len(edited[0].shards_written) == 4 + before
    )
    fresh = Corpus(twelve.folder, Lake(twelve.lake.root.parent / "fresh"))
    assert digests(build(fresh)) == digests(edited)


def test_a_table_is_read_in_one_pass_for_all_shards(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    lines = [{"id": n, "text": f"Document {n}."} for n in range(40)] + [{"id": 99}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = TableSource(name="rows", path=path)
    passes = []
    real = table.read_rows
    monkeypatch.setattr(sources.table, "read_rows", lambda *rest: passes.append(1) or real(*rest))
    monkeypatch.setattr(spool, "BUFFER_BYTES", 64)
    lake = Lake(tmp_path / "lake")
    stats = update_raw(lake, [source], SHARDS, 4, 2**20)
    assert passes == [1]
    assert (stats.seen, stats.processed, stats.quarantined) == (41, 41, 1)
    rows = lake.read("raw_documents").to_pylist()
    assert {row["uri"]: row["content"] for row in rows} == {
        f"rows:///{n}": f"Document {n}.".encode() for n in range(40)
    }
    assert all(row["shard"] == shard_of(row["uri"], 4) for row in rows)
    again = update_raw(lake, [source], SHARDS, 4, 2**20)
    assert (passes, again.processed, again.quarantined, again.shards_written) == ([1], 0, 1, ())
    assert [path.name for path in lake.root.glob(".spool-*")] == []


def test_a_spool_gives_back_rows_in_their_order_and_sweeps_what_was_left(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "BUFFER_BYTES", 20)
    lake = Lake(tmp_path)
    (tmp_path / ".spool-dead").mkdir()
    with Spool(lake, "quarantine") as aside:
        for number in range(9):
            shard = f"{number % 2:02x}"
            aside.put(shard, {"uri": str(number), "shard": shard}, 8)
        assert aside.take("00")["uri"].to_pylist() == ["0", "2", "4", "6", "8"]
        assert aside.take("01")["uri"].to_pylist() == ["1", "3", "5", "7"]
        assert len(aside.take("02")) == 0
    assert list(tmp_path.glob(".spool-*")) == []


def test_partitions_hold_what_the_table_does(twelve: Corpus):
    twelve.raw()
    snapshot = twelve.lake.snapshot("raw_documents")
    keys = [*SHARDS, "ff"]
    found = dict(snapshot.partitions(keys, ["uri", "size"]))
    assert list(found) == keys
    for key in keys:
        rows = twelve.lake.read("raw_documents", columns=["uri", "size"], where={"shard": [key]})
        assert sorted(found[key].to_pylist(), key=str) == sorted(rows.to_pylist(), key=str)
        assert snapshot.sizes[key] == len(rows)
    assert held_shards(twelve.lake, "raw_documents") == {
        shard_of(f"docs:///{path.name}", 4) for path in twelve.folder.iterdir()
    }


def test_a_snapshot_stays_as_it_was(twelve: Corpus):
    twelve.raw()
    snapshot = twelve.lake.snapshot("raw_documents")
    before = sum(len(snapshot.partition(key, ["uri"])) for key in SHARDS)
    (twelve.folder / "copy.txt").unlink()
    twelve.raw()
    assert sum(len(snapshot.partition(key)) for key in SHARDS) == before == 12
    assert len(twelve.lake.read("raw_documents")) == 11


def test_a_table_that_was_never_written_is_empty(tmp_path):
    snapshot = Lake(tmp_path).snapshot("raw_documents")
    assert (snapshot.files, sum(snapshot.sizes.values())) == ({}, 0)
    assert snapshot.partition("00").schema == SCHEMAS["raw_documents"]
    assert [len(rows) for _, rows in snapshot.partitions(SHARDS, ["uri"])] == [0] * 4
