"""Git repositories as sources: the documents of one commit, without a checkout.

A bare mirror below HEADWATER_HOME/cache holds the objects, and is fetched into where the ref has moved.
Nothing of the repository is ever run: no hooks, no filters, none of its configuration; links and
submodules are left out.
"""

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from headwater.documents.kinds.base import (
    HOLDS_PASSWORD,
    MEDIA_TYPES,
    VARIABLE,
    Entry,
    ReadError,
    Remembered,
    base_uri,
    is_document,
    quote,
)
from headwater.errors import HeadwaterError
from headwater.files import write_atomic
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: Fetching and listing may take this long, in seconds.
_FETCH_TIMEOUT, _TIMEOUT = 900.0, 120.0
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
#: `user@host:path`, which Git takes for ssh.
_SSH = re.compile(r"^[^/]+:")
_FETCHED = "refs/headwater/fetched"
#: In the mirror: what the repository said of the ref before it was fetched last.
_SEEN = "headwater-seen"
#: Who a token is of, where it does not say: servers look at the token.
_USER = "x-access-token"
_LFS = b"version https://git-lfs.github.com/spec/"
_remembered = Remembered()
log = logging.getLogger("headwater")


class _TooSlow(HeadwaterError):
    """The repository did not answer in time."""


class GitSource(Entry):
    """Documents of a branch, a tag or HEAD; hidden files are left out, as in a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["git"] = "git"
    repository: str = Field(description="A path, file:// URL, or https or ssh URL.", min_length=1)
    ref: str = Field(default="HEAD", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,200}$")
    include: list[str] | None = Field(
        default=None, description="Globs over paths in the repository; None is all."
    )
    token_env: str | None = Field(
        default=None,
        pattern=VARIABLE,
        description="The variable that holds a token, or user:token, for an https URL.",
    )
    every_minutes: float = Field(
        default=1,
        ge=0,
        description="Between two looks at a repository on the network by one process.",
    )
    allow_private: list[str] = Field(
        default=[], description="Hosts (`name` or `name:port`) that may have private addresses."
    )

    @field_validator("repository")
    @classmethod
    def _is_location(cls, value: str) -> str:
        if value.startswith("-") or "::" in value or "\0" in value:
            raise ValueError("a path or a URL is needed")
        is_web = re.match(r"https?:", value, re.I) is not None
        if HOLDS_PASSWORD.match(value) or (is_web and "@" in urlsplit(value).netloc):
            raise ValueError("a token belongs into the environment: name its variable in token_env")
        return value

    @model_validator(mode="after")
    def _has_use_for_its_token(self) -> "GitSource":
        if self.token_env is not None and not self.is_https:
            raise ValueError("token_env is for an https URL")
        return self

    @property
    def is_local(self) -> bool:
        """Whether it is reached without a network."""
        url = _URL.match(self.repository)
        if url is not None:
            return url[1].lower() == "file"
        return _SSH.match(self.repository) is None

    @property
    def is_https(self) -> bool:
        """Whether it is reached by https."""
        return self.repository.lower().startswith("https://")


def list_blobs(source: GitSource, until: float | None = None) -> list[SourceItem]:
    """The documents of the commit that the ref names now; the etag is the blob's name.

    Args:
        until: when to stop waiting for the repository, of the monotonic clock; what is listed then is
            the commit that was fetched last, where there is one.

    Raises:
        HeadwaterError: it is not there, has no such ref, or would need the network.
    """
    every = 0 if source.is_local else 60 * source.every_minutes
    made_of = (source.model_dump_json(), int(time.monotonic() // every)) if every else object()
    return _remembered.listing(source.name, made_of, lambda: _list(source, until))


def _list(source: GitSource, until: float | None) -> list[SourceItem]:
    items = []
    for entry in _tree(source, until):
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
        env=_environment(source, {}),
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


def _tree(source: GitSource, until: float | None) -> Sequence[bytes]:
    """Lines of the listing of the ref's commit, which is fetched before where it has moved."""
    mirror = _mirror(source)
    with _locked(mirror, wait=until is None) as held:
        if not held and not _has_fetched(mirror):
            raise _TooSlow(
                f"The source {source.name!r} is being fetched by another process.",
                mend="Wait for it: it is listed when that has ended.",
            )
        if held:
            try:
                _fetch(source, mirror, until)
            except _TooSlow as error:
                if until is None or not _has_fetched(mirror):
                    raise
                log.warning("%s It is listed as it was fetched last.", error.what)
        listing = _run(
            source, ["ls-tree", "-r", "-z", "--long", "--full-tree", _FETCHED], mirror=mirror
        )
    return [entry for entry in listing.split(b"\0") if entry]


def _fetch(source: GitSource, mirror: Path, until: float | None) -> None:
    """Bring the mirror to what the ref names now; nothing is transferred where it has not moved."""
    _check_allowed(source)
    if not (mirror / "HEAD").exists():
        # No template: it would bring sample hooks.
        _run(source, ["init", "--quiet", "--bare", "--template=", str(mirror)], mirror=None)
    address, settings = _address(source)
    named = _run(
        source,
        ["ls-remote", "--", address, source.ref],
        mirror=mirror,
        settings=settings,
        timeout=_left(_TIMEOUT, until),
    )
    seen = mirror / _SEEN
    # Every ref that the name could mean is in it, so none has moved. A commit's own name is in none.
    if named and _has_fetched(mirror) and seen.exists() and seen.read_bytes() == named:
        return
    # Nobody else is at work on the mirror: what is half done was left by one that was killed.
    for pattern in ("objects/pack/tmp_*", "*.lock", "refs/headwater/*.lock"):
        for left in mirror.glob(pattern):
            left.unlink()
    refspec = f"+{source.ref}:{_FETCHED}"
    fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--no-recurse-submodules", "--force"]
    _run(
        source,
        [*fetch, "--", address, refspec],
        mirror=mirror,
        settings=settings,
        timeout=_left(_FETCH_TIMEOUT, until),
    )
    write_atomic(seen, named)


def _has_fetched(mirror: Path) -> bool:
    return (mirror / _FETCHED).exists()


def _left(timeout: float, until: float | None) -> float:
    return timeout if until is None else max(1.0, min(timeout, until - time.monotonic()))


def _mirror(source: GitSource) -> Path:
    """Where its objects are kept: one place for a repository and a ref."""
    return Settings().cache / "git" / f"{digest_of(source.repository, source.ref)[:32]}.git"


@contextmanager
def _locked(mirror: Path, *, wait: bool) -> Iterator[bool]:
    """One process at a time: the sensor and a build may list at once. Whether it is this one."""
    mirror.parent.mkdir(parents=True, exist_ok=True)
    with mirror.with_suffix(".lock").open("w") as file:
        try:
            flock(file, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _check_allowed(source: GitSource) -> None:
    if not source.is_local and not Settings().fetching:
        raise HeadwaterError(
            f"The source {source.name!r} is on the network: {source.repository}.",
            mend="Set HEADWATER_FETCHING=true to let sources be fetched, or clone it and name the"
            " folder.",
        )


def _address(source: GitSource) -> tuple[str, dict[str, str]]:
    """What git is told of the place, and settings for it: which addresses it may connect to, and a token.

    As for a web site the name is resolved here, and the connection goes to an address that was checked.
    A proxy that the environment names resolves it itself.
    """
    if not source.is_https:
        return source.repository, {}
    from urllib.request import getproxies, proxy_bypass

    import httpcore

    from headwater.documents.fetching import FetchError, addresses_of, parse_url

    settings = {}
    try:
        url = parse_url(source.repository)
        port = url.port or 443
        if "https" not in getproxies() or proxy_bypass(url.host):
            found = addresses_of(url.host, port, source.allow_private)
            shown = (f"[{address}]" if ":" in address else address for address in found)
            settings["http.curloptResolve"] = f"{url.raw_host.decode()}:{port}:{','.join(shown)}"
    except FetchError as error:
        raise HeadwaterError(
            f"The source {source.name!r} may not be fetched: {error.detail}.",
            mend="Name the host in allow_private, if that is meant, or correct the URL.",
        ) from error
    except httpcore.ConnectError as error:
        raise HeadwaterError(
            f"The source {source.name!r} cannot be reached, {source.repository}: {error}.",
            mend="Look whether the repository can be reached.",
        ) from error
    if source.token_env is not None:
        settings[f"http.{url.scheme}://{url.netloc.decode()}/.extraHeader"] = _authorization(source)
    return str(url), settings


def _authorization(source: GitSource) -> str:
    from base64 import b64encode

    token = os.environ.get(source.token_env or "", "").strip()
    if not token:
        raise HeadwaterError(
            f"The source {source.name!r} takes a token from the variable {source.token_env}, which is"
            " not set.",
            mend=f"Set {source.token_env} where Headwater runs, its Dagster processes too.",
        )
    whole = token if ":" in token else f"{_USER}:{token}"
    return f"Authorization: Basic {b64encode(whole.encode()).decode()}"


def _run(
    source: GitSource,
    arguments: Sequence[str],
    *,
    mirror: Path | None,
    settings: Mapping[str, str] | None = None,
    timeout: float = _TIMEOUT,
) -> bytes:
    try:
        process = subprocess.Popen(
            _command(*arguments, mirror=mirror),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(source, settings or {}),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise HeadwaterError(
            f"The source {source.name!r} needs the program git, which is not there.",
            mend="Install git.",
        ) from error
    with process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            _stop(process)
            raise _TooSlow(
                f"The source {source.name!r} did not answer within {timeout:.0f} s:"
                f" {source.repository}.",
                mend="Look whether the repository can be reached.",
            ) from error
        finally:
            if process.poll() is None:  # somebody wants us to end
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        said = errors.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise HeadwaterError(
            f"The source {source.name!r} cannot read {source.ref} of {source.repository}:"
            f" {said[0][:300]}.",
            mend=f"Correct the entry, or run `headwater sources remove {source.name}`.",
        )
    return output


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End git with its helpers, so that they take their locks and half a pack with them."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _command(*arguments: str, mirror: Path | None) -> list[str]:
    options = {
        "core.hooksPath": os.devnull,
        "core.fsmonitor": "false",
        "credential.helper": "",
        "fetch.fsckObjects": "true",
        # A redirect would lead where no address was checked, with the token.
        "http.followRedirects": "false",
        "gc.auto": "0",
        "maintenance.auto": "false",
        "submodule.recurse": "false",
    }
    settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    place = [] if mirror is None else [f"--git-dir={mirror}"]
    return ["git", *settings, *place, *arguments]


def _environment(source: GitSource, settings: Mapping[str, str]) -> dict[str, str]:
    """What git sees: nobody's configuration, no questions, and only the way in that is allowed.

    Args:
        settings: more of git's, which the list of processes is not to show.
    """
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "SSH_AUTH_SOCK", "HOME")
    proxies = (
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GIT_SSL_CAINFO",
    )
    configured = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        configured |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    inherited = {name: os.environ[name] for name in (*kept, *proxies) if name in os.environ}
    return {
        **inherited,
        **configured,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ALLOW_PROTOCOL": "file" if source.is_local else "https:ssh",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }
