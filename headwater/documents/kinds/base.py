"""What every kind of source shares: the fields of an entry, the formats, how an item fails.

Knows neither a kind nor sources.yaml.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote_from_bytes

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from headwater.records import SourceItem

_OFFICE = "application/vnd.openxmlformats-officedocument"
#: File name suffixes that are documents, and their media types.
MEDIA_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".txt": "text/plain",
    ".text": "text/plain",
    ".rst": "text/x-rst",
    ".pdf": "application/pdf",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".epub": "application/epub+zip",
    ".eml": "message/rfc822",
    ".ipynb": "application/x-ipynb+json",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
#: Names of options that hold a secret.
NAMES_SECRET = re.compile(r"secret|passw|credential|token|(^|_)key$|connection_string", re.I)
#: A URL that holds a password, as SQLAlchemy and Git find it: there may be a slash in it.
HOLDS_PASSWORD = re.compile(r"^[^:/]+://[^:/]*:[^@]*@", re.S)
#: The name of an environment variable.
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"

Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.:-]{0,62}$")]


def _tags(value: Any) -> Any:
    """One tag may stand without a list; order and repetition mean nothing."""
    listed = [value] if isinstance(value, str) else value
    if isinstance(listed, list | tuple | set) and all(isinstance(tag, str) for tag in listed):
        return tuple(sorted(set(listed)))
    return listed


#: Free words that say who may see a document; `headwater.records.RESTRICTED` is the one we act on.
Access = Annotated[tuple[Tag, ...], BeforeValidator(_tags)]


class ReadError(Exception):
    """One item cannot be read; `reason` is the code that its quarantine row carries."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Entry(BaseModel):
    """What an entry of sources.yaml says, whatever its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    licence: str = "unknown"
    access: Access = ()
    owner: str | None = None
    #: What is done about personal data in its documents, where not what HEADWATER_DOCUMENT_PII says.
    personal_data: Literal["off", "report", "redact"] | None = None
    most_removed: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of its documents that may go in one build, where it has more than 20.",
    )


def is_document(path: str, include: Sequence[str] | None) -> bool:
    """Whether a path below a source is a document: visible, of a known format, and asked for.

    Args:
        include: globs over paths, of which one must fit; None is all.
    """
    parts = PurePosixPath(path)
    if any(part.startswith(".") for part in parts.parts):
        return False
    if parts.suffix.lower() not in MEDIA_TYPES:
        return False
    return include is None or any(fnmatch(path, pattern) for pattern in include)


def quote(path: bytes) -> str:
    """A path or name as the last part of a URI."""
    return quote_from_bytes(path, safe="/")


def base_uri(name: str) -> str:
    """What the URIs of a source's documents begin with."""
    return f"{name}:///"


def status_of(paths: Iterable[Path]) -> tuple[object, ...]:
    """Changes whenever one of some files may have; the change time catches an edit that keeps
    size and modification time.
    """
    found: list[object] = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            found.append((str(path), None))
        else:
            times = (status.st_mtime_ns, status.st_ctime_ns)
            found.append((str(path), (*times, status.st_size, status.st_ino)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a listing, such as that of one file, and what it is made of.

    `rules` are what makes an item of a line, where a part that changed is made from the one before
    it; `lines` then holds a digest of `LINE` bytes for each item, of zeros where the item says more
    than its line does.
    """

    facts: object
    items: Sequence[SourceItem]
    rules: str = ""
    lines: bytes = b""


#: Bytes of the digest of a line.
LINE = 16


class Remembered:
    """The last listing of each source, for as long as what it was made of has not changed.

    A sensor lists every source four times a minute; a large table is read when it has changed, by
    whatever process.
    """

    def __init__(self) -> None:
        self._listings: dict[str, tuple[object, list[SourceItem]]] = {}
        self._parts: dict[str, dict[str, Part]] = {}

    def listing(
        self, name: str, made_of: object, make: Callable[[], Sequence[SourceItem]]
    ) -> list[SourceItem]:
        """The listing called `name`; made where `made_of` is another than last time.

        Of this process alone: `made_of` may tell a time, which is another moment in another one.
        """
        before = self._listings.get(name)
        if before is None or before[0] != made_of:
            before = self._listings[name] = (made_of, list(make()))
        return list(before[1])

    def parts(
        self,
        name: str,
        made_of: Mapping[str, object],
        make: Callable[[str, Part | None], tuple[Sequence[SourceItem], bytes]],
        rules: str = "",
    ) -> dict[str, Sequence[SourceItem]]:
        """The parts of the listing called `name`, such as its files; those are made that have changed.

        Args:
            made_of: what each part is made of: facts that are the same in every process.
            make: the items of a part, and the digests of their lines, from what it was before under
                the same rules, where that is known.
            rules: see `Part`.
        """
        from headwater.documents.kinds import listings

        before = self._parts.get(name, {})
        now = {
            label: before[label]
            for label, facts in made_of.items()
            if label in before and before[label].facts == facts
        }
        missing = {label: facts for label, facts in made_of.items() if label not in now}
        if missing:
            kept, older = listings.kept(name, missing, rules)
            # What this process has made last is newer than what stands on the disk for other facts.
            older |= {
                label: before[label]
                for label in missing.keys() & before.keys()
                if rules and before[label].rules == rules
            }
            for label, facts in missing.items():
                if label in kept:
                    now[label] = kept[label]
                else:
                    items, lines = make(label, older.pop(label, None))
                    now[label] = Part(facts, items, rules, lines)
            # What holds nothing leaves no trace on the disk, and is made by each process.
            if any(now[label].items for label in missing.keys() - kept.keys()):
                listings.keep(name, now)
        self._parts[name] = now
        return {label: now[label].items for label in made_of}

    def forget(self, name: str) -> None:
        """Hold the listing called `name` no more, where it is large: it is on the disk."""
        from headwater.documents.kinds import listings

        if listings.is_kept(self._parts.get(name, {})):
            del self._parts[name]
            self._listings.pop(name, None)
