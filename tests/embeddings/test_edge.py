import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headwater.embeddings import edge
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.folders import copy_folder, folder_digests
from headwater.embeddings.store import HIT_FIELDS, Contents, Point, point_list
from headwater.errors import IntegrityError
from headwater.records import digest_of
from tests.embeddings.examples import WordEncoder, chunk, contents, corpus

KILLED = """
import sys, time
from dataclasses import replace
from pathlib import Path
from headwater.embeddings import store
from headwater.embeddings import edge
from headwater.embeddings.edge import EdgeStore
from tests.embeddings.examples import contents, corpus

store.BATCH = 2
good = contents(corpus())

def slow(ids):
    for at, point in enumerate(good.fetch(ids)):
        if at % 2:
            print("batch", flush=True)
            time.sleep(60 if at == 5 else 0)
        yield point

EdgeStore(Path(sys.argv[1])).build("v1", replace(good, fetch=slow))
"""


def snapshot(folder: Path) -> dict:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path) -> EdgeStore:
    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", contents(corpus()))
    return store


def test_reading_and_building_upon_a_version_leave_it_as_it_was(store):
    before = snapshot(store.root / "v1")
    index = store.open("v1")
    index.dense(WordEncoder().encode(["words"])[0], 5)
    index.bm25("statement", 5)
    index.close()
    store.build("v2", contents(corpus()[:3]), base="v1")
    assert snapshot(store.root / "v1") == before
    store.verify("v1")
    store.verify("v2")


def test_a_version_is_opened_twice_and_copies_go_with_them(store):
    first, second = store.open("v1"), store.open("v1")
    first.close()
    assert second.count() == 8
    second.close()
    assert list((store.root / ".open").iterdir()) == []


def test_copies_keep_holes(store):
    index = store.open("v1")
    files = [p.stat() for p in (store.root / ".open").rglob("*") if p.is_file()]
    index.close()
    assert sum(file.st_size for file in files) > 50e6
    assert sum(file.st_blocks * 512 for file in files) < 10e6


@pytest.mark.parametrize("change", ["flip", "truncate", "remove", "add"])
def test_damage_is_found_by_verify_and_by_open(store, change):
    shard = store.root / "v1" / "shard"
    victim = next(path for path in shard.rglob("page_0.dat") if path.is_file())
    data = bytearray(victim.read_bytes())
    if change == "flip":
        data[next(i for i, byte in enumerate(data) if byte)] ^= 1
        victim.write_bytes(data)
    elif change == "truncate":
        victim.write_bytes(data[:-1])
    elif change == "remove":
        victim.unlink()
    else:
        (shard / "extra").write_bytes(b"")
    for call in (store.verify, store.open):
        with pytest.raises(IntegrityError, match="damaged"):
            call("v1")
    assert list((store.root / ".open").iterdir()) == []


def test_deleted_points_do_not_count_in_word_frequencies(tmp_path):
    """With 11 MB of vectors, where the engine's segments are immutable."""
    rows = [chunk(f"doc://{n}", f"Word{n % 7} name{n} common.") for n in range(350)]
    wide = np.eye(350, 8192, dtype=np.float32)
    vectors = {row["id"]: vector for row, vector in zip(rows, wide, strict=True)}

    def points(chunks: list[dict]) -> Contents:
        small = contents(chunks)

        def fetch(ids) -> Iterator[Point]:
            return (replace(point, vector=vectors[point.id]) for point in small.fetch(ids))

        return replace(small, dimension=8192, fetch=fetch)

    store = EdgeStore(tmp_path / "indexes")
    store.build("v1", points(rows))
    store.build("v2", points(rows[20:]), base="v1")
    store.build("full", points(rows[20:]))
    scores = []
    for version in ("v2", "full"):
        index = store.open(version)
        scores.append({hit.id: hit.score for hit in index.bm25("word3 name73 common", 5)})
        index.close()
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_kill_9_in_the_midst_of_a_build_publishes_nothing(tmp_path):
    root = tmp_path / "indexes"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    for _ in range(3):  # four of eight points are written, the third batch is being fetched
        assert process.stdout.readline() == b"batch\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = EdgeStore(root)
    assert [path.name.split("-")[0] for path in root.iterdir()] == [".v1.partial"]
    assert store.versions() == []
    assert store.build("v1", contents(corpus())).added == 8
    store.verify("v1")
    assert [path.name for path in root.iterdir()] == ["v1"]


def test_what_dead_processes_left_is_swept(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [store.root / ".open" / f"{dead.pid}-x", store.root / ".other.partial-x"]
    living = [store.root / ".open" / f"{os.getpid()}-x", store.root / ".new.partial-x"]
    for folder in left + living:
        folder.mkdir(parents=True)
    os.utime(left[1], (time.time() - 1e6,) * 2)
    store.open("v1").close()
    assert [folder.exists() for folder in left + living] == [False, False, True, True]


def test_what_a_base_holds_is_known_from_its_list(store):
    stats = store.build("v2", contents(corpus()[:3]), base="v1")
    assert (stats.points, stats.added, stats.removed) == (3, 0, 5)


@pytest.mark.parametrize("damage", ["other", "gone"])
def test_a_damaged_list_is_found(store, damage):
    path = store.root / "v1" / edge.LIST
    if damage == "other":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.unlink()
    for call in (store.verify, lambda v: store.build("v2", contents(corpus()), base=v)):
        with pytest.raises(IntegrityError, match="damaged"):
            call("v1")


WIDE = 1024


def wide(count: int, *, edited: int = 0) -> Contents:
    """So many points that the engine makes immutable segments; the first ones can be others."""
    random = np.random.default_rng(7)
    vectors = random.normal(size=(count, WIDE)).astype(np.float32)
    vectors[:edited] = -vectors[:edited]
    points = [
        Point(
            id=digest_of(number),
            digest=digest_of(number, number < edited),
            vector=vector / np.linalg.norm(vector),
            payload=dict.fromkeys(HIT_FIELDS, digest_of(number)),
        )
        for number, vector in enumerate(vectors)
    ]
    return Contents(WIDE, point_list(points), lambda rows: (points[row] for row in rows))


def test_a_large_index_is_built_in_parts_and_shares_what_is_never_written(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    monkeypatch.setattr(edge, "PART_BYTES", 11 * 2**20)
    store = EdgeStore(tmp_path)
    assert store.build("v1", wide(6000)).added == 6000
    parts = sorted(path.relative_to(tmp_path / "v1") for path in tmp_path.rglob("matrix.dat"))
    assert len(parts) == 2
    before = snapshot(store.root / "v1")
    stats = store.build("v2", wide(5990, edited=30), base="v1")
    assert (stats.points, stats.added, stats.removed) == (5990, 30, 10)
    for part in parts:
        assert (store.root / "v1" / part).samefile(store.root / "v2" / part)
    assert snapshot(store.root / "v1") == before
    store.verify("v1")
    store.verify("v2")

    index, wanted = store.open("v2"), list(wide(5990, edited=30).fetch([0, 29, 30, 3000, 5989]))
    assert index.count() == 5990
    for point in wanted:
        (best, *_) = index.dense(point.vector, 3)
        assert best.id == point.id and best.score == pytest.approx(1, abs=1e-4)
    index.close()
    store.delete("v1")
    store.verify("v2")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what was read")
def test_an_update_reads_of_large_parts_what_it_looks_at(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    store = EdgeStore(tmp_path)
    store.build("v1", wide(3000))
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = bytes_read()
    store.build("v2", wide(3000, edited=3), base="v1")
    (vectors,) = (tmp_path / "v1").rglob("matrix.dat")
    assert bytes_read() - before < vectors.stat().st_size / 2


def bytes_read() -> int:
    """That this process has had the disk read, for files that are mapped too."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def test_small_updates_add_up_and_leave_large_parts_as_they_are(tmp_path, monkeypatch):
    """Three of them are more than is left without an index."""
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    monkeypatch.setattr(edge, "PART_BYTES", 24 * 2**20)
    store, base = EdgeStore(tmp_path), None
    for count in (9000, 10_000, 11_000, 12_000):
        stats = store.build(f"{count}", wide(count), base=base)
        assert stats.points == count and (base is None or stats.added == 1000)
        base = f"{count}"
    parts, last = (
        {
            path.relative_to(tmp_path / version): path
            for path in (tmp_path / version).rglob("matrix.dat")
        }
        for version in ("9000", "12000")
    )
    assert len(parts) == 2 and len(last) == 3
    assert all(path.samefile(last[part]) for part, path in parts.items())
    index = store.open("12000")
    assert index.count() == 12_000
    for point in wide(12_000).fetch([0, 8999, 9000, 11_999]):
        (best, *_) = index.dense(point.vector, 3)
        assert best.id == point.id
    index.close()


def test_updates_are_indexed_from_a_quarter_of_a_part_on(tmp_path, monkeypatch):
    """Three bring 12 MB, which the engine would index by itself; with the next two it is 20 MB of 64."""
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    monkeypatch.setattr(edge, "PART_BYTES", 64 * 2**20)
    store, indexed = EdgeStore(tmp_path), []
    for count in (3000, 4000, 5000, 6000, 7000, 8000):
        store.build(f"{count}", wide(count), base=f"{count - 1000}" if indexed else None)
        indexed.append(len([*(tmp_path / f"{count}").rglob("matrix.dat")]))
    assert indexed == [1, 1, 1, 1, 1, 2]


def test_a_shared_file_that_is_damaged_is_found_in_both(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    store = EdgeStore(tmp_path)
    store.build("v1", wide(3000))
    store.build("v2", wide(3000, edited=1), base="v1")
    with next((tmp_path / "v1").rglob("matrix.dat")).open("r+b") as file:
        file.write(b"damage")
    for version in ("v1", "v2"):
        for call in (store.verify, store.open):
            with pytest.raises(IntegrityError, match="damaged"):
                call(version)
    with pytest.raises(IntegrityError, match="damaged"):
        store.build("v3", wide(3000, edited=2), base="v2")


def rot(path: Path) -> None:
    """Change bytes of a file as a failing disk does, which tells nobody."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"damage")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_rots_unseen_is_linked_found_when_opened_and_then_believed_no_more(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    store = EdgeStore(tmp_path)
    store.build("v1", wide(3000))
    rot(next((tmp_path / "v1").rglob("matrix.dat")))
    store.build("v2", wide(3000, edited=1), base="v1")  # not read: a small edit costs little
    with pytest.raises(IntegrityError, match="damaged"):
        store.open("v2")
    store.delete("v2")
    with pytest.raises(IntegrityError, match="damaged"):
        store.build("v2", wide(3000, edited=1), base="v1")
    store.build("v2", wide(3000, edited=1))
    store.verify("v2")


def test_damage_is_told_by_one_who_may_only_read(store, monkeypatch, caplog):
    rot(next((store.root / "v1" / "shard").rglob("*.json")))

    def refuse(*_):
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(IntegrityError, match="damaged"):
        store.verify("v1")
    assert "cannot be marked so: not yours" in caplog.text


def test_what_rots_unseen_goes_into_no_new_file(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    store = EdgeStore(tmp_path)
    store.build("v1", wide(3000))
    rot(next((tmp_path / "v1").rglob("matrix.dat")))
    with pytest.raises(IntegrityError, match="damaged"):
        store.build(
            "v2", wide(1500), base="v1"
        )  # so many less that the engine writes the rest anew
    assert store.versions() == ["v1"]


def test_after_a_build_that_died_all_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    store = EdgeStore(tmp_path)
    store.build("v1", wide(3000))
    # With such numbers in this file the engine asks for more memory than there is, and is killed.
    rot(next((tmp_path / "v1").rglob("id_tracker.mappings")))
    script = "import sys; from pathlib import Path; from headwater.embeddings import edge;"
    script += "from tests.embeddings.test_edge import wide; edge.EXACT_POINTS = 0;"
    script += "store = edge.EdgeStore(Path(sys.argv[1]));"
    script += "store.build('v2', wide(3000, edited=1), base='v1')"
    run = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(run, capture_output=True, timeout=120).returncode == -signal.SIGABRT
    with pytest.raises(IntegrityError, match=r"id_tracker\.mappings"):
        store.build("v2", wide(3000, edited=1), base="v1")


def test_where_the_engine_fails_the_base_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(edge, "EXACT_POINTS", 0)
    store = EdgeStore(tmp_path)
    store.build("v1", wide(3000))
    rot(next((tmp_path / "v1").rglob("matrix.dat")))

    def fail(*args: object) -> int:
        raise RuntimeError("no such vector")

    monkeypatch.setattr(store, "_fill", fail)
    with pytest.raises(IntegrityError, match="damaged"):
        store.build("v2", wide(3000, edited=1), base="v1")


def test_links_are_copies_where_there_are_none_and_hashed_again_where_they_were_written(
    tmp_path, monkeypatch
):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("shared", "other"):
        (source / name).write_bytes(name.encode() * 1000)
    copied = copy_folder(source, tmp_path / "linked", lambda name: name == "shared")
    assert copied.digests == folder_digests(source) and copied.shared.keys() == {"shared"}
    assert copied.unchanged(tmp_path / "linked") == {"shared": copied.digests["shared"]}
    with (tmp_path / "linked" / "shared").open("r+b") as file:
        file.write(b"x")
    assert copied.unchanged(tmp_path / "linked") == {}

    def refuse(self, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    apart = copy_folder(source, tmp_path / "apart", lambda name: True)
    assert apart.shared == {} and apart.digests == folder_digests(tmp_path / "apart")
