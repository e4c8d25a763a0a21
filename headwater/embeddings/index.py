"""`vector_index`: the lake's chunks and vectors, published as a version of the vector store.

A version is the digest of all that it holds, so the same corpus is never published twice.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.row_digests import hex_digests, name_of
from headwater.embeddings import bm25
from headwater.embeddings.embed import TABLE, vector_rows
from headwater.embeddings.store import (
    HIT_FIELDS,
    POINTS,
    BuildStats,
    Contents,
    Point,
    Vector,
    VectorStore,
)
from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.lake import Lake, sole_writer
from headwater.records import digest_of, short
from headwater.snapshot import Snapshot, read_ahead
from headwater.versions import note_index

STAGE_VERSION = "index/2"
#: Versions that are kept besides those that releases name.
KEEP_VERSIONS = 5

Vectors = npt.NDArray[np.float32]
log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """`added` points were written, `removed` deleted, both against the version before.

    `reused` means that this version was published already and nothing was done.
    """

    version: str
    points: int
    added: int
    removed: int
    reused: bool


@sole_writer
def publish_index(
    lake: Lake,
    store: VectorStore,
    *,
    model_digest: str,
    keep: Collection[str] = (),
    keep_versions: int = KEEP_VERSIONS,
) -> IndexStats:
    """Publish all chunks with their vectors as one version, starting from the newest one before.

    Where the files of both tables are those of last time, and the version is published, nothing is
    read.

    Args:
        model_digest: of the embedding model whose vectors are taken.
        keep: versions that must stay, because releases name them.
        keep_versions: how many of the newest stay besides.

    Raises:
        HeadwaterError: there are no chunks, or chunks without a vector.
    """
    memory = lake.root / ".rest" / "vector_index.json"
    files = [lake.snapshot(table).files for table in ("document_shards", TABLE)]
    key = digest_of(STAGE_VERSION, model_digest, bm25.DIGEST, files)
    published = store.versions()
    before: dict[str, Any] = read_json(memory) or {}
    if before.get("key") == key and before["version"] in published:
        return _reused(lake, store, before["version"], before["points"])
    source = _Source(lake, model_digest)
    if not len(source.points):
        raise HeadwaterError(
            "There are no chunks to index.",
            mend="Add a source, or see in `headwater status` why documents were turned away.",
        )
    version, points = source.version(), len(source.points)
    write_json(memory, {"key": key, "version": version, "points": points})
    if version in published:
        return _reused(lake, store, version, points)
    built = _build(store, version, source.contents(), published[-1] if published else None)
    note_index(lake, version)
    _prune(store, {version, *keep}, keep_versions)
    return IndexStats(
        version=version, points=points, added=built.added, removed=built.removed, reused=False
    )


def _reused(lake: Lake, store: VectorStore, version: str, points: int) -> IndexStats:
    store.renew(version)
    note_index(lake, version)
    return IndexStats(version=version, points=points, added=0, removed=0, reused=True)


def _build(store: VectorStore, version: str, contents: Contents, base: str | None) -> BuildStats:
    if base is not None:
        try:
            return store.build(version, contents, base=base)
        except IntegrityError as error:
            log.warning("building the index from scratch: %s", error)
    return store.build(version, contents)


def _prune(store: VectorStore, keep: Collection[str], keep_versions: int) -> None:
    published = store.versions()
    for version in published[: len(published) - keep_versions]:
        if version not in keep:
            log.info("removing index version %s", short(version))
            store.delete(version)


class _Source:
    """The points that the lake holds now: chunks joined with their vectors, a shard at a time.

    In memory are the id and the digest of every chunk, and the rows of some shards.
    """

    def __init__(self, lake: Lake, model: str) -> None:
        self._chunks, self._vectors = lake.snapshot("document_shards"), lake.snapshot(TABLE)
        self._model = model
        self._shards = sorted(self._chunks.files)
        self._loaded: _Shard | None = None
        parts, sizes = [POINTS.empty_table()], []
        for _, rows in self._chunks.partitions(self._shards, POINTS.names):
            parts.append(rows)
            sizes.append(len(rows))
        #: Id and digest of each chunk, in order of shards.
        self.points = pa.concat_tables(parts).combine_chunks()
        self._ends = np.cumsum(sizes)
        #: What is stored of a chunk depends on it and on these.
        self.made_with = digest_of(STAGE_VERSION, model, bm25.DIGEST)

    def version(self) -> str:
        """The name of all points; a chunk's digest names its id, too."""
        return name_of(self.made_with, hex_digests(self.points["digest"]))

    def contents(self) -> Contents:
        """All points, as a store takes them."""
        dimension = len(next(self.fetch([0])).vector)
        return Contents(dimension, self.points, self.fetch, self.made_with)

    def fetch(self, rows: Sequence[int]) -> Iterator[Point]:
        """The points of some rows of `points`, in their order; the next shards are read meanwhile."""
        numbers = np.asarray(rows)
        of = np.searchsorted(self._ends, numbers, side="right")
        groups = np.split(numbers, np.flatnonzero(np.diff(of)) + 1)
        shards = [self._shards[number] for number in of[np.flatnonzero(np.diff(of, prepend=-1))]]
        wanted = {
            shard: self.points.take(group) for shard, group in zip(shards, groups, strict=True)
        }
        for _, (shard, found) in read_ahead(lambda shard: self._read(shard, wanted[shard]), wanted):
            self._loaded = shard
            yield from shard.points(wanted[shard.shard], *found)

    def _read(self, name: str, wanted: pa.Table) -> "tuple[_Shard, tuple[pa.Table, Vectors]]":
        """A shard, and some of its chunks with their vectors."""
        shard = self._loaded
        if shard is None or shard.shard != name:
            shard = _Shard(name, self._chunks, self._vectors, self._model)
        return shard, shard.rows(wanted)


class _Shard:
    """The rows of one shard, and their vectors, of which as many files are read as are needed."""

    def __init__(self, shard: str, chunks: Snapshot, vectors: Snapshot, model: str) -> None:
        self.shard = shard
        self._stored, self._model = vectors, model
        self._chunks = chunks.partition(shard, _COLUMNS).combine_chunks()
        self._ids = self._chunks["id"].combine_chunks()
        # An edit's vectors are in the newest file, the last one.
        self._unread = list(vectors.files.get(shard, ()))
        self._vectors: list[tuple[pa.Array, Vectors]] = []

    def rows(self, wanted: pa.Table) -> tuple[pa.Table, Vectors]:
        """Some of its chunks, and a vector for each."""
        chunks = self._chunks.take(pc.index_in(wanted["id"], value_set=self._ids))
        return chunks, self._vectors_of(chunks["embed_digest"].combine_chunks())

    @staticmethod
    def points(wanted: pa.Table, chunks: pa.Table, vectors: Vectors) -> Iterator[Point]:
        """Chunks with their vectors as points."""
        digests = wanted["digest"].to_pylist()
        for chunk, digest, vector in zip(chunks.to_pylist(), digests, vectors, strict=True):
            yield Point(
                id=chunk["id"],
                digest=digest,
                vector=vector,
                payload={name: chunk[name] for name in HIT_FIELDS},
            )

    def _vectors_of(self, digests: pa.Array) -> Vectors:
        """The vectors of some texts, a row each."""
        found: list[Vector | None] = [None] * len(digests)
        for known, vectors in self._read():
            places = pc.index_in(digests, value_set=known).to_pylist()
            for number, at in enumerate(places):
                if at is not None:
                    found[number] = vectors[at]
            if all(each is not None for each in found):
                break
        if lacking := sum(each is None for each in found):
            raise HeadwaterError(
                f"{lacking} chunks of shard {self.shard} have no vector of this embedding model.",
                mend="Materialize chunk_embeddings for all shards first.",
            )
        return np.array(found, np.float32)

    def _read(self) -> Iterator[tuple[pa.Array, Vectors]]:
        """The digests and vectors of each file, those that are read already first."""
        yield from self._vectors
        while self._unread:
            rows = self._stored.of_files(self.shard, [self._unread.pop()], _VECTOR)
            rows = rows.filter(pc.equal(rows["model"], self._model))
            part = rows["embed_digest"].combine_chunks(), vector_rows(rows["vector"])
            self._vectors.append(part)
            yield part


_VECTOR = ["embed_digest", "model", "vector"]
_COLUMNS = ["embed_digest", *HIT_FIELDS]
