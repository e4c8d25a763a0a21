"""A small corpus and an encoder that needs no model."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from headwater.documents.split import embed_text
from headwater.embeddings.embed import TABLE
from headwater.embeddings.store import HIT_FIELDS, Contents, Point, point_list
from headwater.lake import Lake, rows_to_table
from headwater.records import digest_of, shard_of

DIMENSION = 32
SHARDS = 4
PASSAGES = {
    "with": "The with statement wraps a block with methods defined by a context manager.",
    "raise": "The raise statement evaluates an expression as the exception object.",
    "slots": "The variable __slots__ reserves space for declared variables of instances.",
    "lambda": "Lambda expressions create anonymous functions.",
    "yield": "The yield expression is used when defining a generator function.",
    "import": "The import statement finds a module and binds a name in the local namespace.",
    "slicing": "A slicing selects a range of items in a sequence object such as a string.",
    "return": "The return statement leaves the current function call with a value.",
}


class WordEncoder:
    """Unit vectors from hashed words: texts that share words are near. Counts what it encodes."""

    dimension = DIMENSION

    def __init__(self, digest: str = "words") -> None:
        self.digest = digest
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str], *, what: str = "") -> np.ndarray:
        self.encoded += texts
        return np.array([self._vector(text) for text in texts], dtype=np.float32)

    def _vector(self, text: str) -> np.ndarray:
        vector = np.full(DIMENSION, 1e-3)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4])
            vector += np.random.default_rng(seed).normal(size=DIMENSION)
        return vector / np.linalg.norm(vector)


def chunk(uri: str, text: str, *, heading: str = "", ordinal: int = 0, start: int = 0) -> dict:
    """A row of document_shards."""
    row = {
        "id": digest_of(uri, ordinal),
        "uri": uri,
        "source": "test",
        "shard": shard_of(uri, SHARDS),
        "ordinal": ordinal,
        "start": start,
        "end": start + len(text),
        "title": uri,
        "heading": heading,
        "text": text,
        "tokens": len(text.split()),
        "embed_digest": digest_of(" ".join(embed_text(heading, text).split())),
        "input_digest": digest_of(uri, text),
    }
    return {**row, "digest": digest_of(row)}


def corpus() -> list[dict]:
    return [chunk(f"doc://{name}", text, heading=name) for name, text in PASSAGES.items()]


def shard_keys() -> list[str]:
    return [f"{index:02x}" for index in range(SHARDS)]


def write_chunks(lake: Lake, rows: Sequence[dict]) -> None:
    lake.replace("document_shards", rows_to_table("document_shards", rows), keys=shard_keys())


def vector_keys(lake: Lake) -> set[tuple[str, str, str]]:
    rows = lake.read(TABLE, columns=["shard", "embed_digest", "model"]).to_pylist()
    keys = [(row["shard"], row["embed_digest"], row["model"]) for row in rows]
    assert len(keys) == len(set(keys)), "a vector is stored twice"
    return set(keys)


def contents(rows: Sequence[dict]) -> Contents:
    """What a store is given for these chunks."""
    encoder = WordEncoder()
    points = [
        Point(
            id=row["id"],
            digest=row["digest"],
            vector=encoder.encode([embed_text(row["heading"], row["text"])])[0],
            payload={name: row[name] for name in HIT_FIELDS},
        )
        for row in rows
    ]

    def fetch(rows: Sequence[int]) -> Iterator[Point]:
        return (points[row] for row in rows)

    return Contents(DIMENSION, point_list(points), fetch)
