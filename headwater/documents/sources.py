"""Sources: the typed `sources.yaml`, the listing of a source, and reading its items.

Knows where documents come from, nothing about what is inside them. Tables, Git repositories, mail
archives, object stores and web sites are in `headwater.documents.kinds`.
"""

import importlib.util
import os
import pkgutil
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.documents.kinds import git, mail, objects, sql, table, web
from headwater.documents.kinds.base import MEDIA_TYPES, Entry, ReadError, base_uri, quote
from headwater.errors import HeadwaterError
from headwater.files import write_atomic
from headwater.records import SourceItem, digest_bytes, digest_of


class FolderSource(Entry):
    """All documents below a folder; hidden files and links that lead out of it are left out."""

    kind: Literal["folder"] = "folder"
    path: Path
    include: list[str] | None = Field(
        default=None, description="Globs over relative paths; None is all."
    )


class PackageSource(Entry):
    """Documents that an installed Python package carries.

    With `object` (dotted, below the package) a mapping of key to text; without it the document
    files in the package's folder.
    """

    kind: Literal["package"] = "package"
    package: str = Field(pattern=r"^[A-Za-z_][\w.]*$")
    object: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*$")
    base_uri: str | None = Field(
        default=None, description="What URIs begin with; default `NAME:///`."
    )


#: Sources of files, each read by itself.
FileSource = FolderSource | PackageSource
Source = (
    FileSource
    | table.TableSource
    | sql.SqlSource
    | git.GitSource
    | mail.MailSource
    | objects.ObjectsSource
    | web.WebSource
)


class _SourcesFile(BaseModel):
    """The content of a sources.yaml."""

    model_config = ConfigDict(extra="forbid")

    sources: list[Annotated[Source, Field(discriminator="kind")]] = []


#: What is a repository elsewhere: a URL, or the `user@host:path` of ssh.
_REMOTE = r"^(?:[A-Za-z][A-Za-z0-9+.-]*://|[^/]+:)"
#: A web site, and what it is called.
_SITE = re.compile(r"^https?://([^/?#]+)", re.I)
#: What is indexed where nobody has said anything else.
DEFAULT_SOURCES: tuple[Source, ...] = (
    PackageSource(
        name="python-language-reference",
        package="pydoc_data",
        object="topics.topics",
        base_uri="pydoc://topics/",
        licence="PSF-2.0",
    ),
)


def asset_name(source: Source) -> str:
    """The source's name as an asset key: letters, digits and underscores."""
    return source.name.replace("-", "_")


def location_of(source: Source) -> str:
    """Where a source is, as a person names it."""
    match source:
        case PackageSource():
            return source.package
        case sql.SqlSource():
            return f"{source.place} {source.table or 'query'}"
        case git.GitSource():
            return f"{source.repository} {source.ref}"
        case objects.ObjectsSource() | web.WebSource():
            return source.url
        case _:
            return str(source.path)


def load_sources(path: Path) -> list[Source]:
    """The sources a file lists; the default source where there is no such file.

    Raises:
        HeadwaterError: the file does not parse or a name is used twice.
    """
    try:
        content = path.read_text("utf-8")
    except FileNotFoundError:
        return list(DEFAULT_SOURCES)
    try:
        sources = _SourcesFile.model_validate(yaml.safe_load(content) or {}).sources
    except (yaml.YAMLError, ValidationError) as error:
        raise HeadwaterError(
            f"{path} is not a valid list of sources: {_first_line(error)}.",
            mend="Correct it, or remove the file to start from the default source.",
        ) from error
    _check_unique(sources, path)
    return [_absolute(source, path.parent) for source in sources]


def save_sources(path: Path, sources: Sequence[Source]) -> None:
    """Write sources to a file, atomically; a name must not be used twice."""
    _check_unique(sources, path)
    entries = [
        {"kind": source.kind, **source.model_dump(mode="json", exclude_defaults=True)}
        for source in sources
    ]
    write_atomic(path, yaml.safe_dump({"sources": entries}, sort_keys=False, allow_unicode=True))


def add_source(
    path: Path,
    location: str,
    name: str | None = None,
    *,
    keep_default: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> Source:
    """Add a source to a sources file and return it; it is listed once before it is added.

    Args:
        path: the sources file; it is created where it does not exist.
        location: a folder, `package:NAME`, a table's file or pattern, a mail archive, a Git
            repository (`git+` before a path or URL, or a name that ends with `.git`), the URL of a
            database (or `env:` and the variable that holds it), of an object store or a web site.
        name: the source's name; made from the location where it is None.
        keep_default: a file that does not exist yet starts with the default source, too.
        fields: other fields of the entry, as sources.yaml has them.

    Raises:
        HeadwaterError: the location is of no kind we read, the name is taken, or the source cannot
            be listed.
    """
    sources = load_sources(path) if keep_default or path.exists() else []
    source = _source_at(location, name, dict(fields or {}))
    _check_unique([*sources, source], path)
    list_items(source)
    save_sources(path, [*sources, source])
    return source


def remove_source(path: Path, name: str) -> None:
    """Remove a source from a sources file; its documents go with the next build."""
    gone = find_source(path, name)
    save_sources(path, [source for source in load_sources(path) if source != gone])


def find_source(path: Path, name: str) -> Source:
    """The source of a sources file that is called so, as an entry or as an asset.

    Raises:
        HeadwaterError: there is none; the mend names those that there are.
    """
    sources = load_sources(path)
    for source in sources:
        if name in (source.name, asset_name(source)):
            return source
    known = ", ".join(source.name for source in sources) or "none"
    raise HeadwaterError(f"There is no source {name!r}.", mend=f"The sources are: {known}.")


def list_items(source: Source, until: float | None = None) -> list[SourceItem]:
    """All documents of a source, by URI, with their access tags. Of files it reads names, sizes
    and times, no bytes.

    Args:
        until: when a look at a web site or a repository must stop, of the monotonic clock; without it
            one that is due is waited for. The other kinds take no heed of it.

    Raises:
        HeadwaterError: the source is not there. (An empty listing would look as if every document
            had been deleted.)
    """
    match source:
        case table.TableSource():
            items = table.list_rows(source)
        case sql.SqlSource():
            items = sql.list_rows(source)
        case git.GitSource():
            items = git.list_blobs(source, until)
        case mail.MailSource():
            items = mail.list_messages(source)
        case objects.ObjectsSource():
            items = objects.list_objects(source)
        case web.WebSource():
            items = web.list_pages(source, until)
        case PackageSource() if source.object:
            items = [
                SourceItem(
                    uri=_base(source) + quote(key.encode()),
                    source=source.name,
                    size=len(text.encode("utf-8", "surrogatepass")),
                    etag=digest_bytes(text.encode("utf-8", "surrogatepass")),
                    media_type="text/plain",
                )
                for key, text in _mapping(source).items()
            ]
        case _:
            items = [_file_item(source, relative, status) for relative, status in _files(source)]
    if source.access:
        items = [
            item._replace(access=tuple(sorted({*source.access, *item.access}))) for item in items
        ]
    return sorted(items, key=lambda item: item.uri)


def forget_items(source: Source) -> None:
    """Hold no listing of a source in memory that the disk has; a process that lists again reads it."""
    match source:
        case table.TableSource():
            table.forget(source)
        case mail.MailSource():
            mail.forget(source)


def listing_digest(items: Sequence[SourceItem]) -> str:
    """What a source holds, in one digest; it changes when a document or its tags may have."""
    return digest_of(
        sorted(
            (item.uri, item.size, item.etag, *([item.access] if item.access else []))
            for item in items
        )
    )


def read_items(
    source: Source, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items of a source, or why they cannot be read, in any order."""
    sound = []
    for item in items:
        if item.fault is None:
            sound.append(item)
        else:
            yield item, ReadError(*item.fault)
    match source:
        case table.TableSource():
            yield from table.read_rows(source, sound, max_bytes)
        case sql.SqlSource():
            yield from sql.read_rows(source, sound, max_bytes)
        case git.GitSource():
            yield from git.read_blobs(source, sound, max_bytes)
        case mail.MailSource():
            yield from mail.read_messages(source, sound, max_bytes)
        case objects.ObjectsSource():
            yield from objects.read_objects(source, sound, max_bytes)
        case web.WebSource():
            yield from web.read_pages(source, sound, max_bytes)
        case _:
            for item in sound:
                try:
                    yield item, read_item(source, item, max_bytes)
                except ReadError as error:
                    yield item, error


def is_read_in_one_pass(source: Source) -> bool:
    """Whether reading some items of a source reads all of it, so that it is read once for all.

    Where it is not, the items of one shard are read when their shard is written.
    """
    return isinstance(source, table.TableSource | sql.SqlSource | mail.MailSource)


def read_item(source: FileSource, item: SourceItem, max_bytes: int) -> bytes:
    """The bytes of one item.

    Raises:
        ReadError: `too_large` (nothing is read), `missing`, `unreadable`, `outside_source`.
    """
    if item.size > max_bytes:
        raise ReadError("too_large", f"{item.size:,} bytes; the limit is {max_bytes:,}")
    key = unquote_to_bytes(item.uri.removeprefix(_base(source)))
    if isinstance(source, PackageSource) and source.object:
        return _mapping(source)[key.decode()].encode("utf-8", "surrogatepass")
    root = _root(source)
    path = root / os.fsdecode(key)
    try:
        if not path.resolve(strict=True).is_relative_to(root):
            raise ReadError("outside_source", "the path leads out of its folder")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ReadError("missing", "the file vanished after it was listed") from error
    except OSError as error:
        raise ReadError("unreadable", error.strerror or str(error)) from error
    if len(content) > max_bytes:
        raise ReadError("too_large", f"it grew beyond {max_bytes:,} bytes while it was read")
    return content


def _files(source: FileSource) -> Iterator[tuple[str, os.stat_result]]:
    """Relative paths of a folder's documents with their status."""
    root = _root(source)
    include = source.include if isinstance(source, FolderSource) else None

    def refuse(error: OSError) -> None:
        raise HeadwaterError(
            f"The source {source.name!r} cannot list {error.filename}: {error.strerror}.",
            mend="Make the folder readable, or leave it out of the source.",
        )

    for folder, subfolders, names in os.walk(root, onerror=refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in MEDIA_TYPES:
                continue
            relative = path.relative_to(root).as_posix()
            if include and not any(fnmatch(relative, pattern) for pattern in include):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # a dangling link, or deleted while we were listing
            if stat.S_ISREG(status.st_mode):
                yield relative, status


def _file_item(source: FileSource, relative: str, status: os.stat_result) -> SourceItem:
    # The change time catches an edit that keeps size and modification time.
    return SourceItem(
        uri=_base(source) + quote(os.fsencode(relative)),
        source=source.name,
        size=status.st_size,
        etag=f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_size}",
        media_type=MEDIA_TYPES[Path(relative).suffix.lower()],
    )


def _root(source: FileSource) -> Path:
    """The folder that a source's files lie in."""
    if isinstance(source, FolderSource):
        path, mend = source.path, f"Restore it, or run `headwater sources remove {source.name}`."
    else:
        spec = _find_spec(source.package)
        places = list(spec.submodule_search_locations or []) if spec else []
        path = Path(places[0]) if places else Path(f"package:{source.package}")
        mend = "Install the package in this environment."
    if not path.is_dir():
        raise HeadwaterError(f"The source {source.name!r} is not there: {path}.", mend=mend)
    return path.resolve()


def _find_spec(package: str) -> Any:
    try:
        return importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return None


def _mapping(source: PackageSource) -> dict[str, str]:
    name = f"{source.package}.{source.object}"
    try:
        value = pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise HeadwaterError(
            f"The source {source.name!r} names {name}, which is not there.",
            mend="Install the package in this environment, or correct its entry.",
        ) from error
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise HeadwaterError(
            f"The source {source.name!r} names {name}, which is no mapping of names to texts.",
            mend="Name a dictionary of strings, or leave `object` out to read the files.",
        )
    return value


def _source_at(location: str, name: str | None, fields: dict[str, Any]) -> Source:
    try:
        kind, where, called = _kind_at(location, fields.pop("kind", None))
        entry = {"kind": kind, "name": name or _slug(called), **where, **fields}
        return _SourcesFile.model_validate({"sources": [entry]}).sources[0]
    except ValidationError as error:
        problem = _first_line(error)
        raise HeadwaterError(
            f"{name or location!r} makes no source: {problem}.",
            mend="Give it a name of letters, digits, - and _ with --name."
            if ".name:" in problem
            else "`headwater sources add --help` says what each kind takes.",
        ) from error


def _kind_at(location: str, kind: str | None) -> tuple[str, dict[str, Any], str]:
    """Kind of source that a location is, the fields that name it, and what to call it."""
    if location.startswith("package:"):
        package = location.removeprefix("package:")
        return "package", {"package": package}, package
    if location.startswith("env:"):
        variable = location.removeprefix("env:")
        return kind or "sql", {"url_env": variable}, variable
    scheme = location.partition("://")[0]
    if "://" in location and (kind == "sql" or scheme.partition("+")[0] in sql.DATABASES):
        database = PurePosixPath(location.partition("?")[0])
        return "sql", {"url": location}, database.stem
    plain = location.removeprefix("git+")
    if kind == "git" or plain != location or location.rstrip("/").endswith(".git"):
        repository = plain if re.match(_REMOTE, plain) else str(Path(plain).expanduser().resolve())
        return "git", {"repository": repository}, Path(plain.rstrip("/")).name.removesuffix(".git")
    site = _SITE.match(location)
    if site is not None:
        return kind or "web", {"url": location}, site[1]
    if location.partition("://")[0] in objects.SCHEMES:
        return kind or "objects", {"url": location}, PurePosixPath(location).name
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", location):
        raise HeadwaterError(
            f"{location} cannot be a source yet.",
            mend="The kinds are: a folder, package:NAME, a table, a mail archive, git+URL, the URL of a"
            " database (postgresql://), of an object store (s3://, gs://, az://), a web site.",
        )
    path = Path(location).expanduser().resolve()
    if kind == "table" or (kind is None and path.suffix.lower() in table.FORMATS):
        return "table", {"path": path}, path.stem
    if kind == "mail" or (kind is None and (path.suffix == ".mbox" or mail.is_maildir(path))):
        return "mail", {"path": path}, path.stem
    if not path.is_dir():
        raise HeadwaterError(
            f"There is no folder {path}.",
            mend="Name a folder of documents, a table, a mail archive or a repository.",
        )
    return kind or "folder", {"path": path}, path.name


def _absolute(source: Source, folder: Path) -> Source:
    """A path in a sources file counts from the file's own folder."""
    match source:
        case FolderSource() | table.TableSource() | mail.MailSource():
            path = (folder / source.path.expanduser()).resolve()
            return source.model_copy(update={"path": path})
        case git.GitSource() if not re.match(_REMOTE, source.repository):
            path = (folder / Path(source.repository).expanduser()).resolve()
            return source.model_copy(update={"repository": str(path)})
        case _:
            return source


def _check_unique(sources: Sequence[Source], path: Path) -> None:
    names = [asset_name(source).lower() for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise HeadwaterError(
            f"Two sources in {path} are called {twice!r}.",
            mend="Give one of them another name (sources add --name).",
        )


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")
    return slug if slug[:1].isalpha() else f"source-{slug}".strip("-")


def _base(source: FileSource) -> str:
    base = source.base_uri if isinstance(source, PackageSource) else None
    return base or base_uri(source.name)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]
