"""Object stores, by fsspec's file systems in memory and on disk."""

import sys
import types
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from headwater.documents.kinds import listings, objects
from headwater.documents.kinds.base import Remembered
from headwater.documents.kinds.objects import ObjectsSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import (
    add_source,
    list_items,
    listing_digest,
    load_sources,
    location_of,
    read_items,
)
from headwater.errors import HeadwaterError
from headwater.lake import Lake


class Bucket:
    """A folder of the memory file system that one test has for itself."""

    def __init__(self, name: str) -> None:
        self.store = fsspec.filesystem("memory")
        self.root = f"/{name}"
        self.url = f"memory:/{self.root}/docs"

    def put(self, path: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.store.pipe_file(f"{self.root}/docs/{path}", data)

    def remove(self, path: str) -> None:
        self.store.rm_file(f"{self.root}/docs/{path}")


@pytest.fixture
def bucket(tmp_path):
    bucket = Bucket(tmp_path.name)
    yield bucket
    if bucket.store.exists(bucket.root):
        bucket.store.rm(bucket.root, recursive=True)


def source(url: str, **fields: Any) -> ObjectsSource:
    return ObjectsSource(**{"name": "store", "url": url, "every_minutes": 0, **fields})


def contents(entry: ObjectsSource, max_bytes: int = 2**20) -> dict[str, Any]:
    return {
        item.uri.removeprefix("store:///"): each if isinstance(each, bytes) else each.reason
        for item, each in read_items(entry, list_items(entry), max_bytes)
    }


def test_documents_below_the_url(bucket):
    for name in ("a.md", "sub/deep/\u00fc b.HTML", ".hidden.md", ".git/x.md", "image.gif"):
        bucket.put(name, "text")
    bucket.put("empty.txt", "")
    bucket.put("large.txt", "x" * 50)
    bucket.store.pipe_file(f"{bucket.root}/docs2/other.md", b"not below it")
    bucket.store.pipe_file(f"{bucket.root}/docs.md", b"not below it")
    entry = source(bucket.url, include=["*.md", "sub/*", "*.txt"])
    assert contents(entry, max_bytes=49) == {
        "a.md": b"text",
        "empty.txt": b"",
        "large.txt": "too_large",
        "sub/deep/%C3%BC%20b.HTML": b"text",
    }
    assert contents(source(bucket.url, include=["sub/*"])).keys() == {"sub/deep/%C3%BC%20b.HTML"}
    assert contents(source(bucket.url + "/")).keys() == {
        "a.md", "empty.txt", "large.txt", "sub/deep/%C3%BC%20b.HTML",
    }  # fmt: skip
    assert contents(source(bucket.url + "/a.md")) == {"a.md": b"text"}


def test_what_changed_is_read_and_what_went_goes(bucket, tmp_path, monkeypatch):
    for name in "abc":
        bucket.put(f"{name}.md", name)
    entry, lake = source(bucket.url), Lake(tmp_path / "lake")
    assert update_raw(lake, [entry], ["00"], 1, 2**20).processed == 3
    digest = listing_digest(list_items(entry))
    read: list[str] = []
    real = MemoryFileSystem.cat_file

    def cat_file(self: Any, path: str, *args: Any, **kwargs: Any) -> bytes:
        read.append(path)
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    assert update_raw(lake, [entry], ["00"], 1, 2**20).reused == 3
    assert read == []
    assert listing_digest(list_items(entry)) == digest
    bucket.put("b.md", "B")  # as long as before
    bucket.remove("c.md")
    stats = update_raw(lake, [entry], ["00"], 1, 2**20)
    assert (stats.processed, stats.reused, stats.removed) == (1, 1, 1)
    assert [path.rpartition("/")[2] for path in read] == ["b.md"]
    rows = lake.read("raw_documents", columns=["uri", "content"]).to_pylist()
    assert {row["uri"]: row["content"] for row in rows} == {
        "store:///a.md": b"a",
        "store:///b.md": b"B",
    }


@pytest.mark.parametrize(
    ("info", "etag"),
    [
        ({"ETag": '"abc"', "LastModified": "x"}, "abc-1"),
        ({"etag": "abc"}, "abc-1"),
        ({"generation": "17", "updated": "x"}, "17-1"),
        ({"last_modified": "2026-01-02"}, "'2026-01-02'-1"),
        ({"mtime": 1.5, "ino": 7}, "1.5-1-7"),
    ],
)
def test_what_tells_one_version_from_another(bucket, monkeypatch, info, etag):
    monkeypatch.setattr(
        MemoryFileSystem,
        "find",
        lambda self, path, **_: {"x": {"name": f"{path}/a.md", "size": 1, "type": "file", **info}},
    )
    (item,) = list_items(source(bucket.url))
    assert item.etag == etag


def test_a_store_that_tells_no_version_is_refused(bucket, monkeypatch):
    found = {"x": {"name": "/a.md", "size": 1, "type": "file"}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, path, **_: found)
    with pytest.raises(HeadwaterError, match="neither version nor time"):
        list_items(source(bucket.url))


def test_a_prefix_without_objects_is_not_an_empty_source(bucket, tmp_path):
    entry, lake = source(bucket.url), Lake(tmp_path / "lake")
    bucket.put("a.md", "a")
    update_raw(lake, [entry], ["00"], 1, 2**20)
    bucket.remove("a.md")
    with pytest.raises(HeadwaterError, match="is not there"):
        update_raw(lake, [entry], ["00"], 1, 2**20)
    assert lake.read("raw_documents", columns=["uri"]).num_rows == 1


class Broken(Exception):
    """What a store's library raises, which is no OSError."""


@pytest.mark.parametrize("error", [OSError("reset by peer"), TimeoutError(), Broken("no endpoint")])
@pytest.mark.parametrize("method", ["find", "cat_file"])
def test_a_store_that_stops_answering_is_named_and_the_next_build_goes_on(
    bucket, tmp_path, monkeypatch, method, error
):
    entry, lake = source(bucket.url), Lake(tmp_path / "lake")
    bucket.put("a.md", "a")
    update_raw(lake, [entry], ["00"], 1, 2**20)
    bucket.put("b.md", "b")
    library = types.SimpleNamespace(BotoCoreError=Broken, ClientError=Broken)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", library)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, method, fail)
        with pytest.raises(HeadwaterError, match="The source 'store' cannot") as told:
            update_raw(lake, [entry], ["00"], 1, 2**20)
        assert "store can be reached" in told.value.mend
    stats = update_raw(lake, [entry], ["00"], 1, 2**20)
    assert (stats.processed, stats.reused) == (1, 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(FileNotFoundError("a.md"), "missing"), (PermissionError("a.md"), "unreadable")],
)
def test_one_object_that_cannot_be_read_is_alone(bucket, monkeypatch, error, reason):
    bucket.put("a.md", "a")
    bucket.put("b.md", "b")
    real = MemoryFileSystem.cat_file

    def cat_file(self: Any, path: str, **bounds: Any) -> bytes:
        if path.endswith("a.md"):
            raise error
        return real(self, path, **bounds)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    assert contents(source(bucket.url)) == {"a.md": reason, "b.md": b"b"}


def test_an_object_that_grew_is_read_no_further_than_its_bound(bucket):
    bucket.put("a.md", "a")
    entry = source(bucket.url)
    items = list_items(entry)
    bucket.put("a.md", "a" * 1_000)
    ((_, found),) = read_items(entry, items, 100)
    assert getattr(found, "reason", None) == "too_large"


def test_listings_of_one_process_are_remembered(bucket):
    bucket.put("a.md", "a")
    entry = source(bucket.url, name=f"remembered-{bucket.root[1:]}"[:60], every_minutes=10**6)
    before = list_items(entry)
    bucket.put("b.md", "b")
    assert list_items(entry) == before
    assert len(list_items(entry.model_copy(update={"every_minutes": 0}))) == 2


@pytest.mark.parametrize("every_minutes", [0, 10**6])
def test_a_large_listing_is_not_taken_from_another_process(bucket, monkeypatch, every_minutes):
    for number in range(listings.FEWEST):
        bucket.put(f"{number}.md", "text")
    entry = source(bucket.url, name="large-store", every_minutes=every_minutes)
    assert len(list_items(entry)) == listings.FEWEST
    bucket.put("one-more.md", "text")
    monkeypatch.setattr(objects, "_remembered", Remembered())  # another process
    assert len(list_items(entry)) == listings.FEWEST + 1


def test_files_by_url_and_links_out_of_their_folder(tmp_path, monkeypatch):
    folder, outside = tmp_path / "docs", tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    for path in (folder / "a.md", folder / "sub" / "b.md", outside / "secret.md"):
        path.write_text("text")
    (folder / "link.md").symlink_to(outside / "secret.md")
    (folder / "linked").symlink_to(outside)
    entry = source(folder.as_uri())
    assert contents(entry) == {"a.md": b"text", "sub/b.md": b"text"}
    items = list_items(entry)
    (folder / "a.md").unlink()
    (folder / "a.md").symlink_to(outside / "secret.md")
    found = {item.uri: each for item, each in read_items(entry, items, 99)}
    assert getattr(found["store:///a.md"], "reason", None) == "outside_source"
    with pytest.raises(HeadwaterError, match="is not there"):
        list_items(source((tmp_path / "gone").as_uri()))
    real = LocalFileSystem.ls

    def ls(self: Any, path: str, **options: Any) -> Any:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(self, path, **options)

    # A folder that cannot be listed must not look as if its documents had been deleted.
    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    with pytest.raises(HeadwaterError, match="Permission denied"):
        list_items(entry)


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket", "az://container/x"])
def test_network_stores_are_refused_while_fetching_is_off(url, tmp_path):
    entry = source(url)
    for act in (lambda: list_items(entry), lambda: list(read_items(entry, [], 9))):
        with pytest.raises(HeadwaterError) as error:
            act()
        assert "HEADWATER_FETCHING" in error.value.mend


def test_a_store_whose_library_is_missing_says_which(monkeypatch):
    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(HeadwaterError, match="needs gcsfs"):
        list_items(source("gs://bucket/x"))


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://127.0.0.1/x"},
        {"url": "https://example.org/x"},
        {"url": "ftp://127.0.0.1/x"},
        {"url": "sftp://host/x"},
        {"url": "reference://x"},
        {"url": "zip://x.md::s3://bucket/a.zip"},
        {"url": "s3://bucket/x::http://127.0.0.1/"},
        {"url": "simplecache://x"},
        {"url": "s3://key:secret@bucket/x"},
        {"url": "s3://"},
        {"url": "s3://bucket", "options": {"key": "AKIA"}},
        {"url": "s3://bucket", "options": {"secret": "x"}},
        {"url": "s3://bucket", "options": {"client_kwargs": {"aws_session_token": "x"}}},
        {"url": "az://bucket", "options": {"connection_string": "x"}},
    ],
)
def test_what_is_no_entry(fields):
    with pytest.raises(ValueError, match=r"url|options"):
        source(**fields)


def test_it_is_added_by_its_url(bucket, tmp_path):
    bucket.put("a.md", "a")
    file = tmp_path / "sources.yaml"
    added = add_source(file, bucket.url, fields={"include": ["*.md"]})
    assert (added.kind, added.name) == ("objects", "docs")
    assert load_sources(file) == [added]
    assert location_of(added) == bucket.url
    with pytest.raises(HeadwaterError, match=r"makes no source: .*environment"):
        add_source(file, bucket.url, "b", fields={"options": {"secret": "x"}})
