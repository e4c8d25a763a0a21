"""Object stores as sources: the documents below an fsspec URL, such as `s3://bucket/handbook`.

Listed by ETag, size and time; bytes are read where one of them changed. Addresses and credentials
are those of the installation (environment, fsspec's configuration, the entry's options); what a
store holds names no other place to fetch from.
"""

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from headwater.documents.kinds.base import (
    MEDIA_TYPES,
    NAMES_SECRET,
    Entry,
    ReadError,
    Remembered,
    base_uri,
    is_document,
    quote,
)
from headwater.errors import HeadwaterError
from headwater.records import SourceItem
from headwater.settings import Settings

#: What is reached without a network.
_LOCAL = frozenset({"file", "local", "memory"})
#: Stores whose address the installation names, and what reads them. Others are left out on purpose:
#: http would pass by the checks of `kind: web`, and what wraps or chains others could name anything.
_NEEDS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "abfss": "adlfs", "oci": "ocifs", "oss": "ossfs",
}  # fmt: skip
#: What a URL of this kind begins with.
SCHEMES = _LOCAL | set(_NEEDS)
#: Stores that list all keys below a prefix in one go, page by page, and say so when they fail. fsspec's
#: own walk leaves out folders that it cannot list, as if they were empty.
_FLAT = frozenset({"s3", "s3a", "gs", "gcs", "memory"})
_URL = re.compile(r"^([a-z][a-z0-9]*)://(.+)$", re.S)
#: What tells one version of an object from another, as the stores call it: the first that is there.
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
#: Errors of the libraries below fsspec that are no OSError; only one that is loaded can raise them.
_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)
_remembered = Remembered()


class ObjectsSource(Entry):
    """All documents below a URL of an object store; hidden ones are left out, as in a folder."""

    kind: Literal["objects"] = "objects"
    url: str = Field(
        description="s3://bucket/prefix, gs://, az://, abfs://, oci://, oss://, file://."
    )
    options: dict[str, JsonValue] = Field(
        default={}, description="Of fsspec's file system, such as endpoint_url; no credentials."
    )
    include: list[str] | None = Field(
        default=None, description="Globs over relative paths; None is all."
    )
    every_minutes: float = Field(
        default=1, ge=0, description="Between two listings by one process, which stores charge for."
    )

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        match = _URL.match(value)
        if match is None or match[1] not in SCHEMES:
            known = ", ".join(f"{name}://" for name in sorted(SCHEMES))
            raise ValueError(f"a URL of an object store is needed ({known})")
        if "::" in value or "\0" in value:
            raise ValueError("a URL of one store is needed, without a chain")
        if ":" in match[2].partition("/")[0].partition("@")[0] and "@" in match[2]:
            raise ValueError("credentials belong into the environment, not into the URL")
        return value

    @field_validator("options")
    @classmethod
    def _has_no_secrets(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        secret = next((name for name in _names(value) if NAMES_SECRET.search(name)), None)
        if secret is not None:
            raise ValueError(f"{secret!r} belongs into the environment, not into this file")
        return value

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0]


def list_objects(source: ObjectsSource) -> list[SourceItem]:
    """The documents below the URL. The etag is made of what the store tells: ETag, size, times.

    Raises:
        HeadwaterError: it is not there or empty, cannot be reached, or is on the network while
            fetching is off.
    """
    _check_allowed(source)
    every = 60 * source.every_minutes
    made_of = (source.model_dump_json(), int(time.monotonic() // every)) if every else object()
    return _remembered.listing(source.name, made_of, lambda: _list(source))


def read_objects(
    source: ObjectsSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items, one ranged request each.

    Raises:
        HeadwaterError: the store stopped answering. (One object that is gone is a ReadError.)
    """
    _check_allowed(source)
    store, root = _opened(source)
    for item in items:
        try:
            yield item, _read(source, store, root, item, max_bytes)
        except ReadError as error:
            yield item, error


def _list(source: ObjectsSource) -> list[SourceItem]:
    store, root = _opened(source)
    with _named(source, "list"):
        store.invalidate_cache()
        flat = source.protocol in _FLAT
        found = list(store.find(root, detail=True).values() if flat else _walk(store, root))
    if not found and source.protocol not in ("file", "local"):
        # A prefix without objects does not exist: rather a mistake than an empty source.
        raise _not_there(source)
    items = []
    for info in found:
        path = str(info["name"])
        if info["type"] != "file" or path.endswith("/"):
            continue  # some tools mark folders by objects that end so
        relative = path.removeprefix(root).lstrip("/") or PurePosixPath(path).name
        if not is_document(relative, source.include):
            continue
        items.append(
            SourceItem(
                uri=base_uri(source.name) + quote(os.fsencode(relative)),
                source=source.name,
                size=int(info["size"] or 0),
                etag=_etag(source, info),
                media_type=MEDIA_TYPES[PurePosixPath(relative).suffix.lower()],
                locator=path,
            )
        )
    return items


def _walk(store: Any, root: str) -> Iterator[dict[str, Any]]:
    """Everything below a path but folders; one that cannot be listed is an error."""
    if store.isfile(root):
        yield store.info(root)
        return
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        for info in store.ls(folder, detail=True):
            below = str(info["name"]).rstrip("/")
            if info["type"] != "directory":
                yield info
            elif below != folder.rstrip("/"):
                waiting.append(below)


def _read(source: ObjectsSource, store: Any, root: str, item: SourceItem, max_bytes: int) -> bytes:
    if item.size > max_bytes:
        raise ReadError("too_large", f"{item.size:,} bytes; the limit is {max_bytes:,}")
    if item.size == 0:
        return b""  # stores refuse a range of nothing
    if source.protocol in ("file", "local") and not _is_inside(item.locator, root):
        raise ReadError("outside_source", "the path leads out of its folder")
    with _named(source, "read"):
        try:
            content: bytes = store.cat_file(item.locator, start=0, end=max_bytes + 1)
        except FileNotFoundError as error:
            raise ReadError("missing", "the object vanished after it was listed") from error
        except PermissionError as error:
            raise ReadError("unreadable", "the store refuses to give it") from error
    if len(content) > max_bytes:
        raise ReadError("too_large", f"it grew beyond {max_bytes:,} bytes while it was read")
    return content


def _etag(source: ObjectsSource, info: Mapping[str, Any]) -> str:
    """Changes whenever an object may have. A store's own version says it; else time and size."""
    version = next((info[name] for name in _VERSIONS if info.get(name)), None)
    if version is not None:
        plain = str(version).strip('"')
        return f"{plain}-{info['size']}"
    time_of = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if time_of is None:
        raise HeadwaterError(
            f"The source {source.name!r} tells neither version nor time of {info['name']}.",
            mend="Copy the documents to a folder or another store.",
        )
    shown = time_of.isoformat() if isinstance(time_of, datetime) else repr(time_of)
    # A local file's inode tells one that was replaced within the clock's step.
    return f"{shown}-{info['size']}" + (f"-{info['ino']}" if "ino" in info else "")


def _opened(source: ObjectsSource) -> tuple[Any, str]:
    """The file system of fsspec, and the path of the URL in it."""
    from fsspec.core import url_to_fs

    try:
        with _named(source, "open"):
            store, root = url_to_fs(source.url, **source.options)
    except ImportError as error:
        needed = _NEEDS.get(source.protocol, "a library")
        raise HeadwaterError(
            f"The source {source.name!r} needs {needed}, which is not installed.",
            mend=f"Install {needed} in this environment.",
        ) from error
    except (TypeError, ValueError) as error:
        raise HeadwaterError(
            f"The source {source.name!r} cannot be opened: {error}.",
            mend="Correct url and options in its entry.",
        ) from error
    return store, str(root).rstrip("/")


@contextmanager
def _named(source: ObjectsSource, what: str) -> Iterator[None]:
    """Gives errors of a store the source's name and a mend."""
    try:
        yield
    except ReadError:
        raise
    except FileNotFoundError as error:
        raise _not_there(source) from error
    except _errors() as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise HeadwaterError(
            f"The source {source.name!r} cannot {what} {source.url}: {said}.",
            mend="Look whether the store can be reached, and at the credentials in the environment.",
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    """What a store may raise, of the libraries that are loaded."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _ERRORS)
    loaded = (each for each in found if isinstance(each, type) and issubclass(each, Exception))
    return (OSError, *loaded)


def _not_there(source: ObjectsSource) -> HeadwaterError:
    return HeadwaterError(
        f"The source {source.name!r} is not there: {source.url} holds nothing.",
        mend=f"Correct its URL, or run `headwater sources remove {source.name}`.",
    )


def _check_allowed(source: ObjectsSource) -> None:
    if source.protocol not in _LOCAL and not Settings().fetching:
        raise HeadwaterError(
            f"The source {source.name!r} is on the network: {source.url}.",
            mend="Set HEADWATER_FETCHING=true to let sources be fetched.",
        )


def _is_inside(path: str, root: str) -> bool:
    """Whether a local path, links followed, is at or below another."""
    return Path(path).resolve().is_relative_to(Path(root).resolve())


def _names(options: Mapping[str, JsonValue]) -> Iterator[str]:
    """Names of options, those of nested ones too."""
    for name, value in options.items():
        yield name
        if isinstance(value, dict):
            yield from _names(value)
