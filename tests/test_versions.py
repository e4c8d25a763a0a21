"""Versions of tables: who made them, what differs, going back with the same bytes, and conflicts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headwater import versions
from headwater.datasets import golden
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.index import publish_index
from headwater.errors import HeadwaterError
from headwater.lake import Conflict, Lake, rows_to_table
from headwater.locks import Busy
from headwater.records import digest_file
from tests.documents.examples import PROSE, Corpus
from tests.embeddings.examples import WordEncoder, chunk, shard_keys

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "documents"
    folder.mkdir()
    corpus = Corpus(folder, Lake(tmp_path / "lake", run="run-1"))
    corpus.lake.ensure()
    for name in ("tides", "fees", "weather", "pier", "ferry", "boats"):
        corpus.write(f"{name}.md", f"# {name}\n\n{PROSE}{name}.\n")
    return corpus


def publish(corpus: Corpus, tmp_path: Path) -> str:
    """All stages; the index's version."""
    corpus.build()
    encoder = WordEncoder()
    embed_chunks(corpus.lake, corpus.keys(), encoder)
    store = EdgeStore(tmp_path / "indexes")
    return publish_index(corpus.lake, store, model_digest=encoder.digest).version


def change(corpus: Corpus) -> None:
    """One document added, one removed, one edited, and one edited in whitespace alone."""
    corpus.write("new.md", f"# New\n\n{PROSE}\n")
    (corpus.folder / "tides.md").unlink()
    corpus.write("fees.md", f"# fees\n\n{PROSE}Water costs nothing.\n")
    corpus.write("pier.md", f"# pier\n\n\n\n{PROSE}pier.\n")


def contents(lake: Lake, table: str) -> dict[str, str]:
    """Digest of the bytes of each live file."""
    return {path: digest_file(lake.path(table) / path) for path in lake.files(table)}


def names(rows: list[dict[str, str]]) -> list[str]:
    return [row["key"].removeprefix("docs:///") for row in rows]


def newest(lake: Lake, table: str) -> int:
    version = lake.version(table)
    assert version is not None
    return version


def test_the_log_names_run_and_operation(corpus: Corpus) -> None:
    corpus.raw()
    corpus.lake.run = "run-2"
    corpus.write("tides.md", "# tides\n\nOther words.\n")
    corpus.raw()
    log = corpus.lake.history("raw_documents")
    assert [commit.version for commit in log] == [2, 1, 0]
    assert [commit.run for commit in log] == ["run-2", "run-1", "run-1"]
    assert log[0].words.startswith("replaced shard 0") and log[-1].words == "created"
    assert log[0].time >= log[1].time and log[0].operation == "WRITE"
    assert corpus.lake.versions_written["raw_documents"] == 2


def test_diff_finds_exactly_what_changed(corpus: Corpus) -> None:
    corpus.build()
    before = {name: newest(corpus.lake, name) for name in versions.HOLDABLE}
    change(corpus)
    corpus.build()

    def diff(table: str) -> versions.Difference:
        return versions.diff(corpus.lake, table, before[table], newest(corpus.lake, table))

    raw, clean = diff("raw_documents"), diff("clean_documents")
    assert (names(raw.added), names(raw.removed)) == (["new.md"], ["tides.md"])
    assert names(raw.changed) == ["fees.md", "pier.md"]
    assert (names(clean.added), names(clean.removed)) == (["new.md"], ["tides.md"])
    assert names(clean.changed) == ["fees.md"], "whitespace ends here"
    counted = sum(count for shard in raw.partitions.values() for count in shard.values())
    assert counted == 4 and {row["partition"] for row in raw.changed} <= raw.partitions.keys()
    stored = {row["uri"]: row["digest"] for row in corpus.rows("raw_documents")}
    assert {row["key"]: row["after"] for row in raw.changed}.items() <= stored.items()
    same = versions.diff(corpus.lake, "raw_documents", before["raw_documents"], 1)
    assert not (same.added or same.removed or same.changed or same.partitions)


def test_show_is_what_was(corpus: Corpus) -> None:
    corpus.raw()
    early = corpus.lake.history("raw_documents")[0]
    corpus.write("fees.md", "# fees\n\nGone up.\n")
    corpus.raw()

    def fees(wanted: str) -> bytes:
        version = versions.find(corpus.lake, "raw_documents", wanted)
        where = {"uri": "docs:///fees.md", "source": "docs"}
        (row,) = versions.show(corpus.lake, "raw_documents", version, where, 10)
        return bytes(row["content"])

    assert b"Gone up" not in fees(str(early.version)) and b"Gone up" in fees("2999-01-01")
    assert fees(early.time.isoformat()) == fees(str(early.version))
    for wanted in ("99", "2001-01-01", "yesterday"):
        with pytest.raises(HeadwaterError):
            versions.find(corpus.lake, "raw_documents", wanted)
    with pytest.raises(HeadwaterError, match="no column"):
        versions.show(corpus.lake, "raw_documents", 1, {"url": "x"}, 1)


def test_a_restore_has_the_same_bytes_and_leads_to_the_same_index(
    corpus: Corpus, tmp_path: Path
) -> None:
    first = publish(corpus, tmp_path)
    version, files = newest(corpus.lake, "raw_documents"), contents(corpus.lake, "raw_documents")
    change(corpus)
    second = publish(corpus, tmp_path)
    assert second != first

    (restored,) = versions.restore(corpus.lake, {"raw_documents": version}, why="test")
    assert restored.held and restored.version == version + 2
    assert contents(corpus.lake, "raw_documents") == files
    assert publish(corpus, tmp_path) == first, "the sources have moved on; the table is held"
    assert contents(corpus.lake, "raw_documents") == files
    with pytest.raises(HeadwaterError, match="held at version"):
        corpus.lake.replace("raw_documents", corpus.lake.read("raw_documents"), keys=["00"])

    versions.follow(corpus.lake, "raw_documents")
    assert publish(corpus, tmp_path) == second
    with pytest.raises(HeadwaterError, match="not held"):
        versions.follow(corpus.lake, "raw_documents")


def test_all_document_tables_go_back_to_an_index_or_a_run(corpus: Corpus, tmp_path: Path) -> None:
    first = publish(corpus, tmp_path)
    at_first = versions.of_index(corpus.lake, first)
    assert at_first is not None and at_first.keys() == set(versions.DOCUMENTS)
    before = {table: contents(corpus.lake, table) for table in versions.DOCUMENTS}
    corpus.lake.run = "run-2"
    change(corpus)
    publish(corpus, tmp_path)

    assert versions.of_run(corpus.lake, "run-1") == at_first
    with pytest.raises(HeadwaterError, match="2 runs called"):
        versions.of_run(corpus.lake, "run-")
    versions.restore(corpus.lake, at_first, why="test")
    assert {table: contents(corpus.lake, table) for table in versions.DOCUMENTS} == before
    assert corpus.lake.holds().keys() == {"raw_documents"}
    raw, clean, shards = corpus.build()
    assert raw.processed == clean.processed == shards.processed == 0, "all of it is made already"
    assert publish(corpus, tmp_path) == first

    def gone() -> dict[str, str]:
        rows = corpus.rows("tombstones")
        return {row["uri"].removeprefix("docs:///"): row["reason"] for row in rows}

    # Tombstones are not put back: they follow what comes and goes.
    assert gone() == {"new.md": "restored", "tides.md": "removed"}
    changes = versions.diff(corpus.lake, "tombstones", 0, newest(corpus.lake, "tombstones"))
    assert names(changes.added) == ["new.md", "tides.md"]
    versions.follow(corpus.lake, "raw_documents")
    corpus.raw()
    assert gone() == {"tides.md": "removed"}


def test_a_version_that_was_vacuumed_is_refused_and_nothing_changes(corpus: Corpus) -> None:
    corpus.build()
    change(corpus)
    corpus.build()
    lake = corpus.lake
    lake.vacuum("clean_documents", [newest(lake, "clean_documents")], dry_run=False)
    before = {table: lake.version(table) for table in versions.DOCUMENTS}
    with pytest.raises(HeadwaterError, match="was vacuumed"):
        versions.restore(lake, {"raw_documents": 1, "clean_documents": 1}, why="test")
    assert {table: lake.version(table) for table in versions.DOCUMENTS} == before
    assert not lake.holds()


def test_tables_that_mean_nothing_alone_say_what_to_do() -> None:
    for table in (
        "requests",
        "quarantine",
        "tombstones",
        "chunk_embeddings",
        "golden_set",
        "nothing",
    ):
        with pytest.raises(HeadwaterError) as error:
            versions.check_alone(table)
        assert error.value.mend
    for table in versions.HOLDABLE:
        versions.check_alone(table)


def test_rows_that_another_wrote_meanwhile_stand(tmp_path: Path) -> None:
    one, other = Lake(tmp_path), Lake(tmp_path)
    mine, yours = (chunk(f"doc://{name}", name) for name in ("mine", "yours"))
    other_shard = next(key for key in shard_keys() if key != mine["shard"])
    one.ensure(["document_shards", "golden_set"])
    for lake in (one, other):
        lake.read("document_shards")
        lake.read("golden_set")
    table = rows_to_table("document_shards", [mine])
    other.replace("document_shards", table, keys=[mine["shard"]])
    with pytest.raises(Conflict, match="since this one read it"):
        one.replace("document_shards", table.slice(0, 0), keys=[mine["shard"]])
    # Another shard was not touched; what is read again may be written again.
    moved = rows_to_table("document_shards", [{**yours, "shard": other_shard}])
    one.replace("document_shards", moved, keys=[other_shard])
    assert {row["uri"] for row in one.read("document_shards").to_pylist()} == {
        "doc://mine",
        "doc://yours",
    }
    one.replace("document_shards", table.slice(0, 0), keys=[mine["shard"]])
    empty = one.read("golden_set")
    other.overwrite("golden_set", empty)
    one.overwrite("golden_set", empty)  # no file was added or removed: nothing is lost


STAGE = """
import json, sys
from pathlib import Path
from headwater.documents import raw
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from tests.documents.examples import Corpus

read, paused = raw.read_items, []
def slow(*arguments):
    if not paused:
        paused.append(True)
        print("reading", flush=True)
        sys.stdin.readline()
    return read(*arguments)
raw.read_items = slow
folder, lake = map(Path, sys.argv[1:])
Corpus(folder, Lake(lake, run="another-run")).raw()
print("done", flush=True)
"""


def in_another_process(corpus: Corpus) -> subprocess.Popen[str]:
    """A build of `raw_documents` that stops in its midst until it is told to go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE, str(corpus.folder), str(corpus.lake.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "reading\n"
    return process


def test_two_builds_at_once_and_a_restore_beside_a_build(corpus: Corpus, tmp_path: Path) -> None:
    corpus.build()
    change(corpus)
    version = newest(corpus.lake, "raw_documents")
    process = in_another_process(corpus)
    try:
        for second in (
            corpus.raw,
            corpus.clean,
            corpus.duplicates,
            lambda: versions.restore(corpus.lake, {"raw_documents": 1}, why="test"),
        ):
            with pytest.raises(Busy) as error:
                second()
            said = error.value.what
            assert f"update_raw (run another-, process {process.pid}" in said, said
        assert corpus.lake.version("raw_documents") == version and not corpus.lake.holds()
        out, _ = process.communicate("\n")
        assert process.returncode == 0 and out == "done\n", "the first one wins"
    finally:
        process.kill()
        process.wait()
    undisturbed = Corpus(corpus.folder, Lake(tmp_path / "other"))
    digests = [[stats.digest for stats in each.build()] for each in (corpus, undisturbed)]
    assert digests[0] == digests[1]

    corpus.write("fees.md", "# fees\n\nOnce more.\n")
    process = in_another_process(corpus)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert corpus.raw().processed == 1, "the lock died with its process"


def test_a_build_during_a_restore_says_so(corpus: Corpus) -> None:
    corpus.build()
    with corpus.lake.alone("headwater data restore"):
        child = subprocess.run(
            [sys.executable, "-c", STAGE, str(corpus.folder), str(corpus.lake.root)],
            capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
    assert child.returncode != 0 and "Busy" in child.stderr
    assert f"headwater data restore (run run-1, process {os.getpid()}" in child.stderr


GOLDEN = """
import sys
from pathlib import Path
from headwater.datasets import golden
from headwater.lake import Lake

make = golden.rows_to_table
def slow(*arguments):
    print("read", flush=True)
    sys.stdin.readline()
    return make(*arguments)
golden.rows_to_table = slow
lake, questions = map(Path, sys.argv[1:])
golden.build_golden_set(Lake(lake, run="another-run"), questions, curated=[])
"""


def golden_in_another_process(corpus: Corpus, questions: Path) -> subprocess.Popen[str]:
    """A build of `golden_set` that has read the table, and is told when to write it."""
    process = subprocess.Popen(
        [sys.executable, "-c", GOLDEN, str(corpus.lake.root), str(questions)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "read\n"
    return process


def test_of_two_processes_that_collide_one_commits_and_the_other_says_so(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Where no lock is held for minutes, what is compared is the table that each has read."""
    corpus.build()
    mine, yours = tmp_path / "mine.yaml", tmp_path / "yours.yaml"
    golden.add(mine, "What is the water's price?", "It is free of charge.", "docs:///fees.md")
    golden.add(yours, "When does the ferry leave?", "At six in the morning.", "docs:///ferry.md")
    process = golden_in_another_process(corpus, yours)
    try:
        golden.build_golden_set(corpus.lake, mine, curated=[])
        written, version = golden.read_golden(corpus.lake), newest(corpus.lake, "golden_set")
        _, said = process.communicate("\n")
        assert (
            process.returncode != 0 and "Conflict: Another process has written golden_set" in said
        )
    finally:
        process.kill()
        process.wait()
    assert newest(corpus.lake, "golden_set") == version
    assert golden.read_golden(corpus.lake) == written, "the winner's rows stand"

    process = golden_in_another_process(corpus, yours)
    _, said = process.communicate("\n")
    assert process.returncode == 0, said
    questions = {item.question for item in golden.read_golden(corpus.lake)}
    assert "When does the ferry leave?" in questions
    assert "What is the water's price?" not in questions
