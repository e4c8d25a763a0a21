"""`chunk_embeddings`: every distinct text is embedded once, wherever and whenever it appears.

A vector's key is (digest of the embedded text, digest of the model). Knows the lake's tables, not
how a text is encoded or searched.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.documents.split import embed_text
from headwater.lake import SCHEMAS, Lake, sole_writer
from headwater.records import digest_of

STAGE_VERSION = "embed/1"
TABLE = "chunk_embeddings"
#: Texts that are embedded between two commits: the most that a kill can lose.
COMMIT_EVERY = 1024

Vector = npt.NDArray[np.float32]


class TextEncoder(Protocol):
    """What embedding needs of an encoder; `headwater.embeddings.encoder.Encoder` is one."""

    digest: str

    def encode(self, texts: Sequence[str], *, what: str = ...) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStats:
    """What one run over some shards did.

    `total` counts their chunks, `embedded` the texts that were encoded, `reused` the distinct
    texts of a shard that had a vector already, `removed` the vectors that nothing needs any more.
    `digest` names the content of the whole table, `shard_digests` that of each shard.
    """

    total: int
    embedded: int
    reused: int
    removed: int
    shards_written: tuple[str, ...]
    digest: str
    per_shard: dict[str, dict[str, int]]
    shard_digests: dict[str, str]


@sole_writer
def embed_chunks(lake: Lake, shards: Sequence[str], encoder: TextEncoder) -> EmbedStats:
    """Give every chunk of these shards its vector, and drop vectors that nothing needs.

    A vector that any shard has for the same text and model is copied, not computed. Shards whose
    texts are the same as before are not written. Every `COMMIT_EVERY` new vectors are committed,
    so a killed run is continued, not repeated. The encoder is not touched (no model is loaded)
    where no text is new.
    """
    run = _Run(lake, encoder.digest, shards)
    reused = {shard: len(run.needed[shard].keys() & run.known) for shard in run.shards}
    removed = {s: len(run.held[s] - run.needed[s]) + run.foreign[s] for s in run.shards}
    todo = run.missing()
    run.copy_from_other_shards()
    digests = list(todo)
    for start in range(0, len(digests), COMMIT_EVERY):
        block = digests[start : start + COMMIT_EVERY]
        what = f"embedding chunks {start + 1}-{start + len(block)} of {len(digests)}"
        run.encode(block, encoder, what)
        if start + COMMIT_EVERY < len(digests):
            run.commit(sorted({todo[digest] for digest in block}))
    run.commit(run.stale)

    embedded = Counter(todo.values())
    per_shard = {
        shard: {
            "chunks": run.needed[shard].total(),
            "embedded": embedded[shard],
            "reused": reused[shard],
            "removed": removed[shard],
        }
        for shard in run.shards
    }
    lake.ensure([TABLE])
    contents = _digests(lake)
    return EmbedStats(
        total=sum(counts["chunks"] for counts in per_shard.values()),
        embedded=len(todo),
        reused=sum(reused.values()),
        removed=sum(removed.values()),
        shards_written=tuple(sorted(run.written)),
        digest=digest_of(STAGE_VERSION, sorted(contents.items())),
        per_shard=per_shard,
        shard_digests={shard: contents.get(shard, _EMPTY) for shard in run.shards},
    )


class _Run:
    """What is to do in one run, from the columns that are cheap to read, and the doing of it."""

    def __init__(self, lake: Lake, model: str, shards: Sequence[str]) -> None:
        chunks = lake.read("document_shards", columns=["shard", "embed_digest"])
        rows = lake.read(TABLE, columns=["shard", "embed_digest", "model"])
        ours = pc.equal(rows["model"], model)
        self.lake, self.model = lake, model
        #: For each shard, the texts its chunks need, and those it has vectors of this model for.
        self.needed, self.held = _by_shard(chunks), _by_shard(rows.filter(ours))
        self.foreign = Counter(rows.filter(pc.invert(ours))["shard"].to_pylist())
        self.known: set[str] = set().union(*self.held.values())
        # Shards that no longer exist, because their number was lowered, are emptied.
        retired = (self.held.keys() | self.foreign.keys()) - self.needed.keys()
        self.shards = sorted({*shards, *retired})
        self.stale = [
            shard
            for shard in self.shards
            if self.needed[shard].keys() != self.held[shard].keys() or self.foreign[shard]
        ]
        self.vectors: dict[str, Vector] = {}  # copied or new
        self.written: set[str] = set()

    def missing(self) -> dict[str, str]:
        """Texts that no shard has a vector for, and the first shard that needs each."""
        todo: dict[str, str] = {}
        for shard in self.stale:
            for digest in sorted(self.needed[shard].keys() - self.known):
                todo.setdefault(digest, shard)
        return todo

    def copy_from_other_shards(self) -> None:
        """Fetch vectors that lie in another shard, before a commit can drop them there."""
        lacking = set().union(*(self.needed[s].keys() - self.held[s].keys() for s in self.stale))
        wanted = lacking & self.known
        sources = [shard for shard, held in self.held.items() if held.keys() & wanted]
        rows = self.lake.read(TABLE, where={"shard": sources, "model": [self.model]})
        rows = rows.filter(pc.is_in(rows["embed_digest"], pa.array(sorted(wanted), pa.string())))
        vectors = vector_rows(rows["vector"])
        self.vectors.update(zip(rows["embed_digest"].to_pylist(), vectors, strict=True))

    def encode(self, digests: Sequence[str], encoder: TextEncoder, what: str) -> None:
        """Read the texts of some digests and encode them."""
        columns = ["embed_digest", "heading", "text"]
        rows = self.lake.read("document_shards", columns=columns, where={"shard": self.stale})
        rows = rows.filter(pc.is_in(rows["embed_digest"], pa.array(digests, pa.string())))
        texts = {r["embed_digest"]: embed_text(r["heading"], r["text"]) for r in rows.to_pylist()}
        vectors = encoder.encode([texts[digest] for digest in digests], what=what)
        self.vectors.update(zip(digests, vectors, strict=True))

    def commit(self, shards: Sequence[str]) -> None:
        """Write all vectors of these shards that are known by now, in one commit."""
        if not shards:
            return
        old = self.lake.read(TABLE, where={"shard": shards, "model": [self.model]})
        parts = []
        for shard in shards:
            needed = self.needed[shard].keys()
            kept = old.filter(pc.equal(old["shard"], shard))
            kept = kept.filter(
                pc.is_in(kept["embed_digest"], pa.array(sorted(needed), pa.string()))
            )
            lacking = needed - set(kept["embed_digest"].to_pylist())
            parts += [kept, self._rows(shard, sorted(lacking & self.vectors.keys()))]
        order = [("shard", "ascending"), ("embed_digest", "ascending")]
        self.lake.replace(TABLE, pa.concat_tables(parts).sort_by(order), keys=shards)
        self.written.update(shards)

    def _rows(self, shard: str, digests: Sequence[str]) -> pa.Table:
        columns = {
            "shard": [shard] * len(digests),
            "embed_digest": digests,
            "model": [self.model] * len(digests),
            "vector": vector_array([self.vectors[digest] for digest in digests]),
        }
        return pa.table(columns, schema=SCHEMAS[TABLE])


def vector_array(vectors: Sequence[Vector]) -> pa.Array:
    """Vectors as a column of the lake."""
    if not vectors:
        return pa.array([], type=SCHEMAS[TABLE].field("vector").type)
    rows = np.stack(vectors).astype(np.float32, copy=False)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(offsets, rows.ravel())


def vector_rows(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A column of the lake as an array of shape (rows, dimension)."""
    flat: npt.NDArray[np.float32] = pc.list_flatten(column).to_numpy()
    return flat.reshape(len(column), -1) if len(column) else np.zeros((0, 0), np.float32)


def _by_shard(rows: pa.Table) -> defaultdict[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    columns = rows["shard"].to_pylist(), rows["embed_digest"].to_pylist()
    for shard, digest in zip(*columns, strict=True):
        found[shard][digest] += 1
    return found


def _digests(lake: Lake) -> dict[str, str]:
    """Digest of each shard's content; vectors are named by their keys, not by their last bits."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for row in lake.read(TABLE, columns=["shard", "embed_digest", "model"]).to_pylist():
        keys[row["shard"]].append(digest_of(row["embed_digest"], row["model"]))
    return {shard: digest_of(STAGE_VERSION, sorted(rows)) for shard, rows in keys.items()}


_EMPTY = digest_of(STAGE_VERSION, [])
