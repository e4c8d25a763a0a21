import os

import pytest

from headwater.documents.kinds.base import ReadError
from headwater.documents.sources import (
    DEFAULT_SOURCES,
    FolderSource,
    PackageSource,
    add_source,
    asset_name,
    list_items,
    listing_digest,
    load_sources,
    read_item,
    remove_source,
    save_sources,
)
from headwater.errors import HeadwaterError


def names(items):
    return [item.uri for item in items]


def test_default_is_the_language_reference_that_python_carries(tmp_path):
    (source,) = load_sources(tmp_path / "absent.yaml")
    items = list_items(source)
    assert len(items) > 60
    assert "pydoc://topics/for" in names(items)
    item = next(item for item in items if item.uri == "pydoc://topics/for")
    assert b"for_stmt ::=" in read_item(source, item, 2**20)
    assert item.media_type == "text/plain"
    assert asset_name(source) == "python_language_reference"


def test_a_file_keeps_what_was_saved(tmp_path):
    sources = [
        *DEFAULT_SOURCES,
        FolderSource(name="a", path=tmp_path, include=["*.md"], owner="me"),
    ]
    save_sources(tmp_path / "sources.yaml", sources)
    assert load_sources(tmp_path / "sources.yaml") == sources


def test_a_folder_in_a_file_counts_from_the_file(tmp_path):
    (tmp_path / "sources.yaml").write_text("sources: [{name: a, kind: folder, path: docs}]")
    (source,) = load_sources(tmp_path / "sources.yaml")
    assert source.path == tmp_path / "docs"


@pytest.mark.parametrize(
    "content",
    [
        "sources: [{name: a, kind: folder}]",
        "sources: [{name: a, kind: web, url: x}]",
        "sources: [{name: '../a', kind: folder, path: x}]",
        "sources: [{name: a, kind: folder, path: x, colour: red}]",
        "- name: a",
        "sources: {",
    ],
)
def test_an_invalid_file_is_named(tmp_path, content):
    path = tmp_path / "sources.yaml"
    path.write_text(content)
    with pytest.raises(HeadwaterError, match=r"sources\.yaml is not a valid list"):
        load_sources(path)


def test_names_are_unique_as_asset_names(tmp_path):
    twins = [FolderSource(name="my-docs", path=tmp_path), FolderSource(name="my_docs", path="/")]
    with pytest.raises(HeadwaterError, match="my_docs"):
        save_sources(tmp_path / "sources.yaml", twins)


def test_add_and_remove(tmp_path):
    folder = tmp_path / "My Docs (2)"
    folder.mkdir()
    path = tmp_path / "sources.yaml"
    source = add_source(path, str(folder))
    assert (source.name, source.path) == ("my-docs-2", folder)
    assert load_sources(path) == [source]
    with pytest.raises(HeadwaterError, match="my_docs_2"):
        add_source(path, str(folder))
    add_source(path, "package:markdown_it", name="other")
    remove_source(path, "my-docs-2")
    assert [source.name for source in load_sources(path)] == ["other"]
    with pytest.raises(HeadwaterError, match="The sources are: other"):
        remove_source(path, "my-docs-2")


def test_add_keeps_the_default_source_where_asked(tmp_path):
    path = tmp_path / "home" / "sources.yaml"
    source = add_source(path, str(tmp_path), name="mine", keep_default=True)
    assert load_sources(path) == [*DEFAULT_SOURCES, source]


@pytest.mark.parametrize(
    "location", ["https://example.org/docs", "s3://bucket/x", "/no/such/place"]
)
def test_what_cannot_be_a_source_says_the_mend(tmp_path, location):
    with pytest.raises(HeadwaterError) as error:
        add_source(tmp_path / "sources.yaml", location)
    assert error.value.mend
    assert not (tmp_path / "sources.yaml").exists()


def test_a_folder_lists_documents_below_it_only(tmp_path):
    folder, outside = tmp_path / "docs", tmp_path / "outside"
    for path in (folder / "sub" / "deep", folder / ".git", outside):
        path.mkdir(parents=True)
    for name in ("a.md", "sub/deep/ü b.HTML", ".hidden.md", ".git/x.md", "image.gif", "b.pdf"):
        (folder / name).write_text("text")
    (outside / "secret.md").write_text("canary")
    (folder / "link.md").symlink_to(outside / "secret.md")
    (folder / "linked").symlink_to(outside)
    (folder / "inside.txt").symlink_to(folder / "a.md")
    (folder / "dangling.md").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    source = FolderSource(name="docs", path=folder)
    assert names(list_items(source)) == [
        "docs:///a.md",
        "docs:///b.pdf",
        "docs:///inside.txt",
        "docs:///sub/deep/%C3%BC%20b.HTML",
    ]
    assert [read_item(source, item, 99) for item in list_items(source)] == [b"text"] * 4


def test_names_that_are_no_text_are_read(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    source = FolderSource(name="docs", path=tmp_path)
    (item,) = list_items(source)
    assert item.uri == "docs:///caf%E9.txt"
    assert read_item(source, item, 99) == b"coffee"


def test_include_narrows_a_folder(tmp_path):
    for name in ("a.md", "b.txt", "c.md"):
        (tmp_path / name).write_text("x")
    source = FolderSource(name="docs", path=tmp_path, include=["*.txt", "c*"])
    assert names(list_items(source)) == ["docs:///b.txt", "docs:///c.md"]


def test_listing_digest_tells_an_edit_that_keeps_size_and_time(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("one")
    source = FolderSource(name="docs", path=tmp_path)
    before, status = listing_digest(list_items(source)), path.stat()
    assert listing_digest(list_items(source)) == before
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert listing_digest(list_items(source)) != before


def test_a_folder_that_is_gone_is_an_error_not_an_empty_listing(tmp_path):
    with pytest.raises(HeadwaterError, match="is not there"):
        list_items(FolderSource(name="docs", path=tmp_path / "gone"))


def test_a_package_without_object_gives_its_files():
    source = PackageSource(name="sk", package="sklearn")
    items = list_items(source)
    assert items
    assert all(item.uri.startswith("sk:///") for item in items)


@pytest.mark.parametrize(
    "source",
    [
        PackageSource(name="a", package="no_such_package"),
        PackageSource(name="a", package="no_such_package", object="x"),
        PackageSource(name="a", package="pydoc_data", object="topics.nothing"),
        PackageSource(name="a", package="os", object="environ"),
    ],
)
def test_a_package_that_has_no_documents_is_named(source):
    with pytest.raises(HeadwaterError, match="source 'a'"):
        list_items(source)


def test_read_errors_carry_a_reason(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("12345")
    source = FolderSource(name="docs", path=tmp_path)
    (item,) = list_items(source)
    with pytest.raises(ReadError) as error:
        read_item(source, item, 4)
    assert error.value.reason == "too_large"
    path.write_text("1234567")
    with pytest.raises(ReadError) as error:
        read_item(source, item, 6)
    assert error.value.reason == "too_large"
    path.unlink()
    with pytest.raises(ReadError) as error:
        read_item(source, item, 99)
    assert error.value.reason == "missing"


def test_a_link_swapped_in_after_listing_is_not_followed(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("x")
    (tmp_path / "secret.txt").write_text("canary")
    source = FolderSource(name="docs", path=folder)
    (item,) = list_items(source)
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(ReadError) as error:
        read_item(source, item, 99)
    assert error.value.reason == "outside_source"
