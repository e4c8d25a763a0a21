"""The records that travel between stages, and the digests that name them.

Knows nothing about how a record is made or stored; every stage may import this module.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

#: The access tag of documents whose text must never become training data.
RESTRICTED = "restricted"
#: Made once: a call with options of its own would make an encoder for each digest.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def digest_bytes(data: bytes) -> str:
    """SHA-256 of bytes, 64 hex characters."""
    return hashlib.sha256(data).hexdigest()


def digest_of(*parts: Any) -> str:
    """SHA-256 of JSON-serialisable parts: the name of whatever they determine.

    Mappings are sorted by key, so equal content gives equal digests.
    """
    return digest_bytes(_encode(parts).encode("utf-8", "surrogatepass"))


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short(digest: str) -> str:
    """The first 12 characters: enough to tell things apart on a screen."""
    return digest[:12]


def shard_of(uri: str, shards: int) -> str:
    """The shard a document lives in: a hash of its URI, so it never moves."""
    return f"{int.from_bytes(hashlib.sha256(uri.encode()).digest()[:8]) % shards:02x}"


class SourceItem(NamedTuple):
    """One line of a source's listing; `etag` changes whenever the bytes may have.

    A tuple, since there may be millions, and those of columns are made in a fraction of the time.
    """

    uri: str
    source: str
    size: int
    etag: str
    media_type: str
    licence: str | None = None  # where it has one of its own; else the source's
    access: tuple[str, ...] = ()  # its own tags and the source's
    locator: str = ""  # where the source keeps it, if the URI does not say so
    fault: tuple[str, str] | None = None  # reason and detail, where it can never be read


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDocument:
    """A document's bytes as the source gave them."""

    uri: str
    source: str
    shard: str
    etag: str
    media_type: str
    size: int
    licence: str
    content: bytes
    digest: str  # of content
    access: tuple[str, ...] | None = None  # tags in order, None where there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading at a byte offset of the cleaned text; level 1 is the title's."""

    start: int
    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalCount:
    """How often a document's text holds one kind of personal data."""

    kind: str  # as Presidio names it: "EMAIL_ADDRESS", ...
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanDocument:
    """Parsed and normalised text (UTF-8), with the headings that structure it."""

    uri: str
    source: str
    shard: str
    title: str
    language: str  # ISO 639-1, or "und"
    text: str
    headings: tuple[Heading, ...]
    licence: str
    input_digest: str  # of the raw bytes and the stage's version
    digest: str  # of title, text and headings
    access: tuple[str, ...] | None = None  # tags in order, None where there are none
    quality_flags: tuple[str, ...] = ()  # heuristics of quality that it fails
    folded_digest: str = ""  # of the text with whitespace folded
    signature: bytes = b""  # MinHash; see headwater.documents.signature
    # by kind, in order; None where nothing was looked for
    personal_data: tuple[PersonalCount, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A document that was turned away, with a reason a person can act on."""

    uri: str
    source: str
    shard: str
    stage: str  # "raw", "clean" or "filter"
    reason: str  # a code: "empty", "encrypted_pdf", ...
    detail: str
    input_digest: str
    licence: str | None = None  # the document's; None in rows older than the column
    access: tuple[str, ...] | None = None  # tags in order, None where there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A span of one document's cleaned text.

    `start` and `end` are byte offsets into the UTF-8 text; a document's spans join to the whole.
    `text` is what is embedded and shown: the span without outer whitespace. `embed_digest` names
    the embedding's input (heading path and text, whitespace folded), `id` the chunk within the
    corpus, `digest` every field that the index stores.
    """

    id: str
    uri: str
    source: str
    shard: str
    ordinal: int
    start: int
    end: int
    title: str
    heading: str  # path, " > " between levels
    text: str
    tokens: int
    embed_digest: str
    digest: str
    input_digest: str  # of the document and the stage's version
    licence: str | None = None  # the document's
    access: tuple[str, ...] | None = None  # the document's


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A retrieved chunk with its score; higher is better, comparable within one query."""

    id: str
    score: float
    uri: str
    title: str
    heading: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenItem:
    """A frozen question. `uris[0]` holds the answer; the others hold the same passage."""

    id: str
    question: str
    reference: str
    uris: tuple[str, ...]
    category: str
    provisional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """One supervised example, with the chunks it was made from."""

    id: str
    # "definition", "heading", "signature", "detail", "location", "written", "asked", "correction"
    kind: str
    question: str
    answer: str
    chunk_id: str
    uri: str
    context: tuple[str, ...]  # chunk ids in the order the prompt shows them
    split: str  # "train" or "validation"
    trace: str | None = None  # of a correction: the request whose answer it corrects
    licence: str | None = None  # of the document at `uri`
    access: tuple[str, ...] | None = None  # its tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The prompt template of a release; see `headwater.datasets.prompt` for how it is filled."""

    system: str
    user: str
    max_context_tokens: int
    top_k: int
    examples: tuple[tuple[str, str], ...] = ()  # what a user asks, what the assistant answers

    @property
    def digest(self) -> str:
        parts: list[Any] = [self.system, self.user, self.max_context_tokens, self.top_k]
        # Nothing is added where there are none: prompts older than examples keep their names.
        return digest_of(*parts, *([self.examples] if self.examples else []))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        examples = tuple((user, assistant) for user, assistant in value.get("examples", ()))
        return cls(**{**value, "examples": examples})
