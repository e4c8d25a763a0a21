"""A real S3 server: run where `TEST_S3_ENDPOINT` names one, with credentials in `AWS_*` variables.

`TEST_S3_ENDPOINT=http://127.0.0.1:8333 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… pytest tests/documents/kinds/test_s3.py`
"""

import os
import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from headwater.documents.kinds.objects import ObjectsSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import list_items, read_items
from headwater.errors import HeadwaterError
from headwater.lake import Lake

ENDPOINT = os.environ.get("TEST_S3_ENDPOINT", "")
pytestmark = pytest.mark.skipif(not ENDPOINT, reason="TEST_S3_ENDPOINT names no server")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """The server's file system, and a bucket of the test's own."""
    s3fs = pytest.importorskip("s3fs")
    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    found = s3fs.S3FileSystem(endpoint_url=ENDPOINT, use_listings_cache=False)
    bucket = f"headwater-{uuid4().hex[:12]}"
    found.mkdir(bucket)
    yield found, bucket
    found.rm(bucket, recursive=True)


def source(bucket: str, endpoint: str = ENDPOINT, **options: Any) -> ObjectsSource:
    return ObjectsSource(
        name="store",
        url=f"s3://{bucket}/docs",
        options={"endpoint_url": endpoint, **options},
        every_minutes=0,
    )


def contents(lake: Lake) -> dict[str, bytes]:
    rows = lake.read("raw_documents", columns=["uri", "content"]).to_pylist()
    return {row["uri"].removeprefix("store:///"): row["content"] for row in rows}


def test_objects_come_change_and_go(store, tmp_path):
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


def test_large_and_vanished_objects(store):
    files, bucket = store
    entry = source(bucket)
    files.pipe_file(f"{bucket}/docs/a.md", b"x" * 100)
    files.pipe_file(f"{bucket}/docs/b.md", b"x")
    items = list_items(entry)
    files.rm_file(f"{bucket}/docs/b.md")
    found = [getattr(each, "reason", each) for _, each in read_items(entry, items, 50)]
    assert found == ["too_large", "missing"]


def test_a_bucket_that_is_not_there_and_a_server_that_is_gone(store, tmp_path):
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
