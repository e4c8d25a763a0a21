"""Git repositories as sources: the documents of one commit, without a checkout.

A bare mirror below HEADWATER_HOME/cache holds the objects. Nothing of the repository is ever run:
no hooks, no filters, none of its configuration; links and submodules are left out.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, field_validator

from headwater.documents.kinds.base import (
    MEDIA_TYPES,
    Entry,
    ReadError,
    base_uri,
    is_document,
    quote,
)
from headwater.errors import HeadwaterError
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: Fetching and listing may take this long, in seconds.
_FETCH_TIMEOUT, _TIMEOUT = 900.0, 120.0
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
#: `user@host:path`, which Git takes for ssh.
_SSH = re.compile(r"^[^/]+:")
_FETCHED = "refs/headwater/fetched"
_LFS = b"version https://git-lfs.github.com/spec/"


class GitSource(Entry):
    """Documents of a branch, a tag or HEAD; hidden files are left out, as in a folder."""

    kind: Literal["git"] = "git"
    repository: str = Field(description="A path, file:// URL, or https or ssh URL.", min_length=1)
    ref: str = Field(default="HEAD", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,200}$")
    include: list[str] | None = Field(
        default=None, description="Globs over paths in the repository; None is all."
    )

    @field_validator("repository")
    @classmethod
    def _is_location(cls, value: str) -> str:
        if value.startswith("-") or "::" in value or "\0" in value:
            raise ValueError("a path or a URL is needed")
        return value

    @property
    def is_local(self) -> bool:
        """Whether it is reached without a network."""
        url = _URL.match(self.repository)
        if url is not None:
            return url[1].lower() == "file"
        return _SSH.match(self.repository) is None


def list_blobs(source: GitSource) -> list[SourceItem]:
    """The documents of the commit that the ref names now; the etag is the blob's name.

    Raises:
        HeadwaterError: it is not there, has no such ref, or would need the network.
    """
    items = []
    for entry in _tree(source):
        facts, _, name = entry.partition(b"\t")
        mode, kind, blob, size = facts.split()
        path = os.fsdecode(name)
        if kind != b"blob" or mode == b"120000" or not is_document(path, source.include):
            continue
        items.append(
            SourceItem(
                uri=base_uri(source.name) + quote(name),
                source=source.name,
                size=int(size),
                etag=blob.decode(),
                media_type=MEDIA_TYPES[PurePosixPath(path).suffix.lower()],
            )
        )
    return items


def read_blobs(
    source: GitSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items, by one process."""
    small = []
    for item in items:
        if item.size > max_bytes:
            yield item, ReadError("too_large", f"{item.size:,} bytes; the limit is {max_bytes:,}")
        else:
            small.append(item)
    if not small:
        return
    command = _command("cat-file", "--batch", mirror=_mirror(source))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(source),
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for item in small:
            process.stdin.write(item.etag.encode() + b"\n")
            process.stdin.flush()
            header = process.stdout.readline().split()
            if len(header) != 3:
                yield item, ReadError("missing", "the repository no longer has it")
                continue
            content = process.stdout.read(int(header[2]) + 1)[:-1]
            if content.startswith(_LFS):
                yield item, ReadError("lfs_pointer", "its bytes are kept by Git LFS, not by Git")
            else:
                yield item, content
        process.stdin.close()


def _tree(source: GitSource) -> Sequence[bytes]:
    """Lines of the listing of the ref's commit, which is fetched before."""
    mirror = _mirror(source)
    with _locked(mirror):
        if not (mirror / "HEAD").exists():
            # No template: it would bring sample hooks.
            _run(source, ["init", "--quiet", "--bare", "--template=", str(mirror)], mirror=None)
        refspec = f"+{source.ref}:{_FETCHED}"
        fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--no-recurse-submodules", "--force"]
        _run(source, [*fetch, "--", source.repository, refspec], mirror=mirror, network=True)
        listing = _run(
            source, ["ls-tree", "-r", "-z", "--long", "--full-tree", _FETCHED], mirror=mirror
        )
    return [entry for entry in listing.split(b"\0") if entry]


def _mirror(source: GitSource) -> Path:
    """Where its objects are kept: one place for a repository and a ref."""
    return Settings().cache / "git" / f"{digest_of(source.repository, source.ref)[:32]}.git"


@contextmanager
def _locked(mirror: Path) -> Iterator[None]:
    """One process at a time: the sensor and a build may list at once."""
    mirror.parent.mkdir(parents=True, exist_ok=True)
    with mirror.with_suffix(".lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _run(
    source: GitSource, arguments: Sequence[str], *, mirror: Path | None, network: bool = False
) -> bytes:
    if network and not source.is_local and not Settings().fetching:
        raise HeadwaterError(
            f"The source {source.name!r} is on the network: {source.repository}.",
            mend="Set HEADWATER_FETCHING=true to let sources be fetched, or clone it and name the"
            " folder.",
        )
    try:
        done = subprocess.run(
            _command(*arguments, mirror=mirror),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_FETCH_TIMEOUT if network else _TIMEOUT,
            env=_environment(source),
            check=False,
        )
    except FileNotFoundError as error:
        raise HeadwaterError(
            f"The source {source.name!r} needs the program git, which is not there.",
            mend="Install git.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HeadwaterError(
            f"The source {source.name!r} did not answer within {error.timeout:.0f} s:"
            f" {source.repository}.",
            mend="Look whether the repository can be reached.",
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise HeadwaterError(
            f"The source {source.name!r} cannot read {source.ref} of {source.repository}:"
            f" {said[0][:300]}.",
            mend=f"Correct the entry, or run `headwater sources remove {source.name}`.",
        )
    return done.stdout


def _command(*arguments: str, mirror: Path | None) -> list[str]:
    options = {
        "core.hooksPath": os.devnull,
        "core.fsmonitor": "false",
        "credential.helper": "",
        "fetch.fsckObjects": "true",
        "gc.auto": "0",
        "maintenance.auto": "false",
        "submodule.recurse": "false",
    }
    settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    place = [] if mirror is None else [f"--git-dir={mirror}"]
    return ["git", *settings, *place, *arguments]


def _environment(source: GitSource) -> dict[str, str]:
    """What git sees: nobody's configuration, no questions, and only the way in that is allowed."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "SSH_AUTH_SOCK", "HOME")
    proxies = (
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    )
    inherited = {name: os.environ[name] for name in (*kept, *proxies) if name in os.environ}
    return {
        **inherited,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ALLOW_PROTOCOL": "file" if source.is_local else "https:ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }
