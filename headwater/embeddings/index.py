"""`vector_index`: the lake's chunks and vectors, published as a version of the vector store.

A version is the digest of all that it holds, so the same corpus is never published twice.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from headwater.embeddings import bm25
from headwater.embeddings.embed import TABLE, vector_rows
from headwater.embeddings.store import HIT_FIELDS, BuildStats, Contents, Point, VectorStore
from headwater.errors import HeadwaterError, IntegrityError
from headwater.lake import Lake, sole_writer
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

    Args:
        model_digest: of the embedding model whose vectors are taken.
        keep: versions that must stay, because releases name them.
        keep_versions: how many of the newest stay besides.

    Raises:
        HeadwaterError: there are no chunks, or chunks without a vector.
    """
    source = _Source(lake, model_digest)
    if not source.digests:
        raise HeadwaterError(
            "There are no chunks to index.",
            mend="Add a source, or see in `headwater status` why documents were turned away.",
        )
    version, points = _version(source.digests), len(source.digests)
    published = store.versions()
    if version in published:
        store.renew(version)
        note_index(lake, version)
        return IndexStats(version=version, points=points, added=0, removed=0, reused=True)
    built = _build(store, version, source.contents(), published[-1] if published else None)
    note_index(lake, version)
    _prune(store, {version, *keep}, keep_versions)
    return IndexStats(
        version=version, points=points, added=built.added, removed=built.removed, reused=False
    )


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
    """The points that the lake holds now: chunks joined with their vectors, a shard at a time."""

    def __init__(self, lake: Lake, model: str) -> None:
        columns = ["shard", "id", "digest", "embed_digest"]
        rows = lake.read("document_shards", columns=columns)
        rows = rows.sort_by([("shard", "ascending"), ("id", "ascending")]).to_pylist()
        self.lake, self.model = lake, model
        self._shards = {row["id"]: row["shard"] for row in rows}
        self._loaded: tuple[str, dict[str, Point]] = ("", {})
        #: What is stored of each chunk, by id, in order of shards.
        self.digests = {
            row["id"]: digest_of(row["digest"], row["embed_digest"], model, bm25.DIGEST)
            for row in rows
        }

    def contents(self) -> Contents:
        """All points, as a store takes them."""
        first = next(iter(self.digests))
        dimension = len(next(self.fetch([first])).vector)
        return Contents(dimension=dimension, digests=self.digests, fetch=self.fetch)

    def fetch(self, ids: Sequence[str]) -> Iterator[Point]:
        """The points of some ids; ids of one shard should stand together."""
        for id in ids:
            shard = self._shards[id]
            if self._loaded[0] != shard:
                self._loaded = (shard, self._load(shard))
            yield self._loaded[1][id]

    def _load(self, shard: str) -> dict[str, Point]:
        where = {"shard": [shard]}
        chunks = self.lake.read("document_shards", columns=_COLUMNS, where=where).to_pylist()
        columns = ["embed_digest", "vector"]
        rows = self.lake.read(TABLE, columns=columns, where={**where, "model": [self.model]})
        vectors = dict(
            zip(rows["embed_digest"].to_pylist(), vector_rows(rows["vector"]), strict=True)
        )
        lacking = sum(chunk["embed_digest"] not in vectors for chunk in chunks)
        if lacking:
            raise HeadwaterError(
                f"{lacking} chunks of shard {shard} have no vector of this embedding model.",
                mend="Materialize chunk_embeddings for all shards first.",
            )
        return {
            chunk["id"]: Point(
                id=chunk["id"],
                digest=self.digests[chunk["id"]],
                vector=vectors[chunk["embed_digest"]],
                payload={name: chunk[name] for name in HIT_FIELDS},
            )
            for chunk in chunks
        }


_COLUMNS = ["embed_digest", *HIT_FIELDS]
