import os
import socket
import subprocess
import time
from fcntl import LOCK_EX, flock

import pytest

from headwater.documents.kinds import git as kind
from headwater.documents.kinds.base import ReadError
from headwater.documents.kinds.git import GitSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import add_source, list_items, listing_digest, read_items
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from tests.documents.kinds.git_server import HOST, certificate, git_server


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
    gone = [items[0]._replace(etag="1" * 40)]
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


@pytest.fixture
def server(repository, tmp_path, monkeypatch):
    """The repository behind https."""
    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with git_server(tmp_path, tmp_path) as found:
        if found is None:
            pytest.skip("git has no HTTP backend here")
        monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate(tmp_path)))
        yield found


def remote(server, host="127.0.0.1", **fields) -> GitSource:
    given = {"every_minutes": 0, "allow_private": [f"{host}:{server.port}"], **fields}
    return source(server.url(host), **given)


def test_what_has_not_moved_is_not_fetched_again(repository, monkeypatch):
    ran = []
    real = kind._run
    monkeypatch.setattr(
        kind, "_run", lambda *rest, **more: ran.append(rest[1][0]) or real(*rest, **more)
    )
    entry = source(repository, ref="main")
    first = list_items(entry)
    ran.clear()
    assert list_items(entry) == first
    assert ran == ["ls-remote", "ls-tree"]
    commit(repository, docs__new_md="New.")
    assert len(list_items(entry)) == len(first) + 1
    assert "fetch" in ran
    # A tag of the same name is what the ref means from then on.
    git(repository, "tag", "main", "HEAD~1")
    assert list_items(entry) == first


def test_a_commit_may_be_named(repository):
    name = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"], check=True, capture_output=True
    ).stdout.decode()
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    entry = source(repository, ref=name.strip())
    commit(repository, README_md="# Later")
    for _ in range(2):
        assert contents(entry)["README.md"] == b"# Handbook"


def test_https_is_read_from_an_address_that_was_checked(server, monkeypatch):
    for host in ("127.0.0.1", "localhost", "2130706433"):
        with pytest.raises(HeadwaterError, match="which is loopback") as refused:
            list_items(remote(server, host, allow_private=[]))
        assert "allow_private" in refused.value.mend
    assert contents(remote(server))["README.md"] == b"# Handbook"
    # No resolver knows the name: git goes where it was resolved to here.
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: real("127.0.0.1" if host == HOST else host, *rest, **more),
    )
    assert contents(remote(server, HOST))["README.md"] == b"# Handbook"


def test_an_unchanged_repository_costs_the_list_of_its_refs(server, repository):
    entry = remote(server)
    first = list_items(entry)
    assert server.fetched == 1
    assert list_items(entry) == first
    assert server.fetched == 1
    commit(repository, docs__new_md="New.")
    assert len(list_items(entry)) == len(first) + 1
    seldom = remote(server, name="seldom", every_minutes=10**6)
    list_items(seldom)
    asked = len(server.asked)
    assert list_items(seldom) == list_items(seldom)
    assert len(server.asked) == asked


def test_a_token_is_of_the_environment(server, monkeypatch):
    server.password = "me:s3cret"
    monkeypatch.setenv("BOOK_TOKEN", "me:s3cret")
    assert len(list_items(remote(server, token_env="BOOK_TOKEN"))) == 2
    server.password = "x-access-token:s3cret"
    monkeypatch.setenv("BOOK_TOKEN", "s3cret")
    assert len(list_items(remote(server, token_env="BOOK_TOKEN"))) == 2
    monkeypatch.setenv("BOOK_TOKEN", "wr0ng")
    with pytest.raises(HeadwaterError, match="cannot read") as refused:
        list_items(remote(server, token_env="BOOK_TOKEN"))
    assert "wr0ng" not in str(refused.value)
    monkeypatch.delenv("BOOK_TOKEN")
    with pytest.raises(HeadwaterError, match="variable BOOK_TOKEN"):
        list_items(remote(server, token_env="BOOK_TOKEN"))


@pytest.mark.parametrize(
    "url",
    [
        "https://me:s3cret@example.org/a.git",
        "https://me:s3/cret@example.org/a.git",
        "https://s3cret@example.org/a.git",
        "ssh://me:s3cret@example.org/a.git",
    ],
)
def test_a_url_with_a_password_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match="token_env") as refused:
        source(url)
    assert "cret" not in str(refused.value)
    assert source("ssh://git@example.org/a.git").repository
    with pytest.raises(ValueError, match="https"):
        source("ssh://git@example.org/a.git", token_env="BOOK_TOKEN")


def test_redirects_are_not_followed(server):
    moved = server.url().replace("/handbook", "/moved/handbook")
    entry = source(moved, every_minutes=0, allow_private=["127.0.0.1"])
    with pytest.raises(HeadwaterError, match="cannot read"):
        list_items(entry)
    assert server.asked == []


def test_a_look_that_may_not_wait_lists_what_was_fetched_last(server, repository):
    entry = remote(server)
    first = list_items(entry)
    commit(repository, docs__new_md="New.")
    server.hangs.set()
    assert list_items(entry, until=time.monotonic()) == first
    with pytest.raises(HeadwaterError, match="did not answer"):
        list_items(remote(server, ref="main"), until=time.monotonic())
    server.hangs.clear()
    with kind._mirror(entry).with_suffix(".lock").open("w") as other:
        flock(other, LOCK_EX)  # another process fetches
        assert list_items(entry, until=time.monotonic()) == first
    assert len(list_items(entry)) == len(first) + 1


def test_what_a_killed_fetch_left_is_no_hindrance(repository):
    entry = source(repository)
    list_items(entry)
    mirror = kind._mirror(entry)
    (mirror / "shallow.lock").touch()
    (mirror / "refs" / "headwater" / "fetched.lock").touch()
    commit(repository, docs__new_md="New.")
    assert len(list_items(entry)) == 3
