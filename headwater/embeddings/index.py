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

from headwater.documents.row_digests import BYTES, Digests, as_column, hex_digests, name_of
from headwater.embeddings import bm25
from headwater.embeddings.embed import TABLE, vector_rows
from headwater.embeddings.store import (
    BATCH,
    HIT_FIELDS,
    POINTS,
    BuildStats,
    Contents,
    Point,
    VectorStore,
)
from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.lake import Lake, sole_writer
from headwater.records import digest_of, short
from headwater.snapshot import MAKERS, Snapshot, read_ahead
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
        sizes = [self._chunks.sizes[shard] for shard in self._shards]
        self._ends = np.cumsum(sizes)
        ids, digests = (np.empty((sum(sizes), BYTES), np.uint8) for _ in POINTS.names)
        for (shard, named), end in zip(
            read_ahead(self._named, self._shards, readers=MAKERS), self._ends, strict=True
        ):
            size = self._chunks.sizes[shard]
            if len(named[0]) != size:
                raise IntegrityError(
                    f"document_shards has {len(named[0])} rows in shard {shard}, not {size}.",
                    mend="Put the table back with `headwater data restore`, and build again.",
                )
            ids[end - size : end], digests[end - size : end] = named
        #: Id and digest of each chunk, in order of shards.
        self.points = pa.table([as_column(ids), as_column(digests)], schema=POINTS)
        self._digests = digests
        #: What is stored of a chunk depends on it and on these.
        self.made_with = digest_of(STAGE_VERSION, model, bm25.DIGEST)

    def version(self) -> str:
        """The name of all points; a chunk's digest names its id, too."""
        return name_of(self.made_with, self._digests)

    def contents(self) -> Contents:
        """All points, as a store takes them."""
        dimension = len(next(self.fetch([0])).vector)
        return Contents(dimension, self.points, self.fetch, self.made_with)

    def _named(self, shard: str) -> tuple[Digests, Digests]:
        """Id and digest of each chunk of a shard."""
        rows = self._chunks.partition(shard, POINTS.names)
        return hex_digests(rows["id"]), hex_digests(rows["digest"])

    def fetch(self, rows: Sequence[int]) -> Iterator[Point]:
        """The points of some rows of `points`, in their order; the next shards are read meanwhile."""
        numbers = np.asarray(rows)
        of = np.searchsorted(self._ends, numbers, side="right")
        groups = np.split(numbers, np.flatnonzero(np.diff(of)) + 1)
        shards = [self._shards[number] for number in of[np.flatnonzero(np.diff(of, prepend=-1))]]
        wanted = dict(zip(shards, groups, strict=True))

        def read(name: str) -> tuple[pa.Table, pa.Table, Vectors]:
            listed = self.points.take(wanted[name])
            return listed, *_Shard(name, self._chunks, self._vectors, self._model).rows(listed)

        for _, (listed, chunks, vectors) in read_ahead(read, wanted, readers=MAKERS):
            for start in range(0, len(listed), BATCH):
                some = slice(start, start + BATCH)
                yield from _points(listed[some], chunks[some], vectors[some])


def _points(listed: pa.Table, chunks: pa.Table, vectors: Vectors) -> Iterator[Point]:
    """Chunks with their vectors as points."""
    digests = listed["digest"].to_pylist()
    for chunk, digest, vector in zip(chunks.to_pylist(), digests, vectors, strict=True):
        yield Point(
            id=chunk["id"],
            digest=digest.hex(),
            vector=vector,
            payload={name: chunk[name] for name in HIT_FIELDS},
        )


class _Shard:
    """The rows of one shard, and their vectors, of which as many are read as are needed."""

    def __init__(self, shard: str, chunks: Snapshot, vectors: Snapshot, model: str) -> None:
        self._shard, self._chunks, self._vectors = shard, chunks, vectors
        self._model = model

    def rows(self, listed: pa.Table) -> tuple[pa.Table, Vectors]:
        """Some of its chunks, by their ids, and a vector for each."""
        ids = [each.hex() for each in listed["id"].to_pylist()]
        found = self._chunks.fresh(self._shard, "id", ids, _COLUMNS)
        if found is None:
            found = self._chunks.partition(self._shard, _COLUMNS)
        at = pc.index_in(pa.array(ids), value_set=found["id"].combine_chunks())
        chunks = found.take(at)
        return chunks, self._vectors_of(chunks["embed_digest"].combine_chunks())

    def _vectors_of(self, digests: pa.Array) -> Vectors:
        """The vectors of some texts, a row each."""
        parts, places = [], []
        left = np.arange(len(digests))
        # An edit's vectors are in the newest file, the last one.
        for name in reversed(self._vectors.files.get(self._shard, ())):
            file = _VectorFile(self._vectors, self._shard, name, self._model)
            at = pc.index_in(digests.take(pa.array(left)), value_set=file.digests, skip_nulls=True)
            has = at.is_valid().to_numpy(zero_copy_only=False)
            if has.any():
                parts.append(file.vectors(at.drop_null().to_numpy()))
                places.append(left[has])
                left = left[~has]
            if not len(left):
                break
        if len(left):
            raise HeadwaterError(
                f"{len(left)} chunks of shard {self._shard} have no vector of this embedding model.",
                mend="Materialize chunk_embeddings for all shards first.",
            )
        found: Vectors = np.concatenate(parts)[np.argsort(np.concatenate(places))]
        return found


class _VectorFile:
    """A data file of vectors, of which those are read that are asked for, and what lies around them.

    Attributes:
        digests: of the texts, a row each; null where the vector is of another model.
    """

    def __init__(self, stored: Snapshot, shard: str, name: str, model: str) -> None:
        self._stored, self._place = stored, (shard, name)
        rows = stored.of_files(shard, [name], ["embed_digest", "model"]).combine_chunks()
        ours = pc.equal(rows["model"], model)
        self.digests = pc.if_else(ours, rows["embed_digest"], None).combine_chunks()

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """The vectors of some rows."""
        read, table = self._stored.around(*self._place, rows, ["vector"])
        # Around them may be vectors of another model, of another size.
        return vector_rows(table["vector"].take(pa.array(np.searchsorted(read, rows))))


_COLUMNS = ["embed_digest", *HIT_FIELDS]
