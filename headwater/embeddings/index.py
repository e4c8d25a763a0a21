"""`vector_index`: the lake's chunks and vectors, published as a version of the vector store.

A version is the digest of all that it holds, so the same corpus is never published twice.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.row_digests import row_digests
from headwater.embeddings import bm25
from headwater.embeddings.embed import TABLE, vector_rows
from headwater.embeddings.store import HIT_FIELDS, BuildStats, Contents, Point, VectorStore
from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.lake import Lake, Snapshot, sole_writer
from headwater.records import digest_of, short
from headwater.versions import note_index

STAGE_VERSION = "index/1"
#: Versions that are kept besides those that releases name.
KEEP_VERSIONS = 5

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


def index_digest(lake: Lake, model_digest: str) -> str:
    """The version that publishing now would give; reads digests only."""
    return _version(_Source(lake, model_digest).digests)


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
    if not source.digests:
        raise HeadwaterError(
            "There are no chunks to index.",
            mend="Add a source, or see in `headwater status` why documents were turned away.",
        )
    version, points = _version(source.digests), len(source.digests)
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


def _version(digests: Mapping[str, str]) -> str:
    return digest_of(STAGE_VERSION, sorted(digests.items()))


class _Source:
    """The points that the lake holds now: chunks joined with their vectors, a shard at a time.

    In memory are the id and the digest of every chunk, and the rows of one shard.
    """

    def __init__(self, lake: Lake, model: str) -> None:
        self._chunks, self._vectors = lake.snapshot("document_shards"), lake.snapshot(TABLE)
        self._model = model
        self._loaded: _Shard | None = None
        self._shards: dict[str, str] = {}
        #: What is stored of each chunk, by id, in order of shards.
        self.digests: dict[str, str] = {}
        columns = ["id", "digest", "embed_digest"]
        for shard, stored in self._chunks.partitions(sorted(self._chunks.files), columns):
            rows = stored.sort_by("id")
            constant = {"model": model, "bm25": bm25.DIGEST}
            for name, value in constant.items():
                rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
            digests = row_digests(rows, ("digest", "embed_digest", *constant))
            for id, digest in zip(rows["id"].to_pylist(), digests.tolist(), strict=True):
                self._shards[id] = shard
                self.digests[id] = digest.decode()

    def contents(self) -> Contents:
        """All points, as a store takes them."""
        first = next(iter(self.digests))
        dimension = len(next(self.fetch([first])).vector)
        return Contents(dimension=dimension, digests=self.digests, fetch=self.fetch)

    def fetch(self, ids: Sequence[str]) -> Iterator[Point]:
        """The points of some ids; ids of one shard should stand together."""
        for shard, group in groupby(ids, key=self._shards.__getitem__):
            if self._loaded is None or self._loaded.shard != shard:
                self._loaded = None  # before the next one, not beside it
                self._loaded = _Shard(shard, self._chunks, self._vectors, self._model)
            yield from self._loaded.points(list(group), self.digests)


class _Shard:
    """The rows of one shard, and where in them a chunk and its vector are."""

    def __init__(self, shard: str, chunks: Snapshot, vectors: Snapshot, model: str) -> None:
        self.shard = shard
        self._chunks = chunks.partition(shard, _COLUMNS)
        rows = vectors.partition(shard, ["embed_digest", "model", "vector"])
        rows = rows.filter(pc.equal(rows["model"], model))
        self._vectors = vector_rows(rows["vector"])
        self._at = {id: at for at, id in enumerate(self._chunks["id"].to_pylist())}
        self._vector_at = {key: at for at, key in enumerate(rows["embed_digest"].to_pylist())}
        has_vector = pc.is_in(
            self._chunks["embed_digest"], value_set=rows["embed_digest"].combine_chunks()
        )
        lacking = len(has_vector) - (pc.sum(has_vector).as_py() or 0)
        if lacking:
            raise HeadwaterError(
                f"{lacking} chunks of shard {shard} have no vector of this embedding model.",
                mend="Materialize chunk_embeddings for all shards first.",
            )

    def points(self, ids: Sequence[str], digests: Mapping[str, str]) -> Iterator[Point]:
        """The points of some of its chunks."""
        rows = self._chunks.take(pa.array([self._at[id] for id in ids], pa.int64()))
        for chunk in rows.to_pylist():
            yield Point(
                id=chunk["id"],
                digest=digests[chunk["id"]],
                vector=self._vectors[self._vector_at[chunk["embed_digest"]]],
                payload={name: chunk[name] for name in HIT_FIELDS},
            )


_COLUMNS = ["embed_digest", *HIT_FIELDS]
