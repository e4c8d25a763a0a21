import os
import subprocess

import pytest

from headwater.documents.kinds.base import ReadError
from headwater.documents.kinds.git import GitSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import add_source, list_items, listing_digest, read_items
from headwater.errors import HeadwaterError
from headwater.lake import Lake


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def commit(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_md", ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "handbook"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, README_md="# Handbook", docs__pier_md="The outer pier.", code__x="print()")
    return folder


def source(repository, **fields) -> GitSource:
    return GitSource(**{"name": "book", "repository": str(repository), **fields})


def contents(entry, max_bytes=2**20):
    found = read_items(entry, list_items(entry), max_bytes)
    return {item.uri[8:]: each if isinstance(each, bytes) else each.reason for item, each in found}


def test_documents_of_the_commit_not_of_the_folder(repository):
    (repository / "README.md").write_text("not committed")
    assert contents(source(repository)) == {
        "README.md": b"# Handbook",
        "docs/pier.md": b"The outer pier.",
    }
    assert contents(source(repository, include=["docs/*"])).keys() == {"docs/pier.md"}
    assert contents(source(repository.as_uri())).keys() == {"README.md", "docs/pier.md"}


def test_a_new_commit_reads_what_changed(repository, tmp_path):
    entry, lake = source(repository), Lake(tmp_path / "lake")
    assert update_raw(lake, [entry], ["00"], 1, 2**20).processed == 2
    digest = listing_digest(list_items(entry))
    assert update_raw(lake, [entry], ["00"], 1, 2**20).processed == 0
    commit(repository, docs__pier_md="The outer pier is closed.", docs__new_md="New.")
    assert listing_digest(list_items(entry)) != digest
    stats = update_raw(lake, [entry], ["00"], 1, 2**20)
    assert (stats.processed, stats.reused) == (2, 1)


def test_a_branch_a_tag_and_one_that_is_not_there(repository):
    git(repository, "tag", "v1")
    git(repository, "checkout", "-q", "-b", "next")
    commit(repository, README_md="# Next")
    assert contents(source(repository, ref="v1"))["README.md"] == b"# Handbook"
    assert contents(source(repository, ref="next"))["README.md"] == b"# Next"
    with pytest.raises(HeadwaterError, match="cannot read nowhere of"):
        list_items(source(repository, ref="nowhere"))


def test_links_hidden_files_submodules_and_large_ones(repository, tmp_path):
    (tmp_path / "secret.md").write_text("canary")
    (repository / "link.md").symlink_to(tmp_path / "secret.md")
    (repository / "Größe.md").write_text("x" * 500)
    commit(
        repository,
        **{".hidden__a_md": "hidden", "lfs_md": "version https://git-lfs.github.com/spec/v1\n"},
    )
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub.md")
    git(repository, "commit", "-q", "-m", "submodule")
    found = contents(source(repository), max_bytes=400)
    assert found == {
        "README.md": b"# Handbook",
        "docs/pier.md": b"The outer pier.",
        "Gr%C3%B6%C3%9Fe.md": "too_large",
        "lfs.md": "lfs_pointer",
    }


def test_nothing_of_the_repository_is_run(repository, tmp_path):
    canary = tmp_path / "ran"
    for hook in ("post-checkout", "post-upload-pack", "pre-receive", "reference-transaction"):
        path = repository / ".git" / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {canary}\n")
        path.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "uploadpack.packObjectsHook",
        "core.sshCommand",
        "filter.x.smudge",
    ):
        git(repository, "config", key, f"touch {canary}")
    (repository / ".gitattributes").write_text("*.md filter=x\n")
    subprocess.run(["git", "-C", str(repository), "config", "core.fsmonitor", ""], check=True)
    commit(repository, README_md="# Attributes")
    subprocess.run(
        ["git", "-C", str(repository), "config", "core.fsmonitor", f"touch {canary}"], check=True
    )
    canary.unlink(missing_ok=True)
    assert contents(source(repository))["README.md"] == b"# Attributes"
    assert not canary.exists()


@pytest.mark.parametrize(
    "url", ["https://example.org/a.git", "ssh://host/a", "git@host:a.git", "http://127.0.0.1/a"]
)
def test_the_network_is_refused_unless_it_is_allowed(repository, url, monkeypatch):
    with pytest.raises(HeadwaterError) as error:
        list_items(source(url))
    assert "HEADWATER_FETCHING" in error.value.mend
    # Plain HTTP stays refused by git itself, and so does any other protocol.
    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    with pytest.raises(HeadwaterError, match="not allowed"):
        list_items(source("http://127.0.0.1:9/a"))


@pytest.mark.parametrize("location", ["ext::sh -c touch% /tmp/x", "--upload-pack=touch x", ""])
def test_what_is_no_location(location):
    with pytest.raises(ValueError, match="repository"):
        source(location)
    with pytest.raises(ValueError, match="ref"):
        source("/x", ref="--exec=x")


def test_a_repository_that_is_gone_is_an_error(repository, tmp_path):
    entry = source(repository)
    items = list_items(entry)
    repository.rename(tmp_path / "moved")
    with pytest.raises(HeadwaterError, match="cannot read HEAD of"):
        list_items(entry)
    gone = [
        type(items[0])(**{n: getattr(items[0], n) for n in items[0].__slots__} | {"etag": "1" * 40})
    ]
    ((_, content),) = read_items(entry, gone, 99)
    assert isinstance(content, ReadError)
    assert content.reason == "missing"


def test_it_is_added_by_its_path(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sources.yaml"
    added = add_source(file, f"git+{os.path.relpath(repository)}", fields={"ref": "main"})
    assert (added.kind, added.name, added.repository) == ("git", "handbook", str(repository))
    with pytest.raises(HeadwaterError, match="HEADWATER_FETCHING"):
        add_source(file, "https://example.org/other.git")
