"""`chunk_embeddings`: every distinct text is embedded once, wherever and whenever it appears.

A vector's key is (digest of the embedded text, digest of the model). Knows the lake's tables, not
how a text is encoded or searched.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction

from headwater.documents.contents import contents
from headwater.documents.rest import Rest
from headwater.documents.split import embed_text
from headwater.documents.stage import with_retired
from headwater.lake import WRITERS, Lake, sole_writer, writer_of_shards
from headwater.records import digest_of
from headwater.tables import SCHEMAS

STAGE_VERSION = "embed/1"
TABLE = "chunk_embeddings"
#: Texts that are embedded at once, and then committed ...
COMMIT_EVERY = 1024

#: ... where that took longer than so many seconds: the most that a kill can lose.
COMMIT_SECONDS = 5.0
#: Bytes of vectors that are in memory before they are committed.
HELD_BYTES = 32 * 2**20
#: Files that a shard may come to have before they are joined.
MOST_FILES = 8
#: For each vector that a shard needs, as many may be there that nothing needs: an edit of a few texts
#: writes their vectors alone. `drop_unneeded` drops them all.
MOST_UNNEEDED = 1 / 8


class TextEncoder(Protocol):
    """What embedding needs of an encoder; `headwater.embeddings.encoder.Encoder` is one."""

    digest: str

    def encode(self, texts: Sequence[str], *, what: str = ...) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStats:
    """What one run over some shards did.

    `total` counts their chunks, `embedded` the texts that were encoded, `reused` the distinct
    texts of a shard that had a vector already, `removed` the vectors that nothing needs any more.
    `digest` names the vectors that all chunks need, `shard_digests` those of each shard: what else is
    there yet is no content.
    """

    total: int
    embedded: int
    reused: int
    removed: int
    shards_written: tuple[str, ...]
    digest: str
    per_shard: dict[str, dict[str, int]]
    shard_digests: dict[str, str]


@writer_of_shards
def embed_chunks(
    lake: Lake,
    shards: Sequence[str],
    encoder: TextEncoder,
    *,
    in_force: Sequence[str] | None = None,
) -> EmbedStats:
    """Give every chunk of these shards its vector.

    A vector that any shard has for the same text and model is copied, not computed, also where the
    number of shards is another than before. New vectors are added to their shards, and committed every
    few seconds, so a killed run is continued, not repeated. A shard is written anew without those that
    nothing needs once they are more than `MOST_UNNEEDED` of the others, and as one file once it has
    many. The encoder is not touched (no model is loaded) where no text is new. In memory are the vectors
    of a shard or two, or of `COMMIT_EVERY` texts, and a name for each text that lacks one.

    Args:
        in_force: all shards, where others may be at work beside this one (`with_retired`). A text that
            is in shards of several is then encoded by each of them.
    """
    run = _Run(lake, encoder.digest, with_retired(lake, TABLE, "document_shards", shards, in_force))
    run.copy_from_other_shards()
    run.encode_missing(encoder)
    run.settle()

    lake.ensure([TABLE])
    version = digest_of(STAGE_VERSION, encoder.digest)
    held = contents(
        lake,
        "document_shards",
        version=version,
        columns=("embed_digest",),
        by_shard=True,
        memory=TABLE,
    )
    run.remember()
    empty = digest_of(version, [])
    per_shard = {shard: run.per_shard[shard] for shard in run.shards}
    return EmbedStats(
        total=sum(counts["chunks"] for counts in per_shard.values()),
        embedded=sum(counts["embedded"] for counts in per_shard.values()),
        reused=sum(counts["reused"] for counts in per_shard.values()),
        removed=sum(counts["removed"] for counts in per_shard.values()),
        shards_written=tuple(sorted(run.written)),
        digest=held.whole,
        per_shard=per_shard,
        shard_digests={shard: held.shards.get(shard, empty) for shard in run.shards},
    )


@sole_writer
def drop_unneeded(lake: Lake) -> int:
    """Drop the vectors that no chunk of their shard needs any more; returns how many."""
    chunks, stored = lake.snapshot("document_shards"), lake.snapshot(TABLE)
    shards = sorted(stored.files)
    digests = ["embed_digest"]
    both = zip(chunks.partitions(shards, digests), stored.partitions(shards, digests), strict=True)
    dropped, files = 0, dict[str, AddAction | None]()
    for (shard, texts), (_, held) in both:
        needed = _distinct(texts["embed_digest"])
        is_needed = pc.is_in(held["embed_digest"], value_set=needed)
        unneeded = len(held) - (pc.sum(is_needed).as_py() or 0)
        if unneeded:
            rows = stored.partition(shard)
            kept = rows.filter(pc.is_in(rows["embed_digest"], value_set=needed))
            files[shard] = lake.write_file(TABLE, shard, kept)
            dropped += unneeded
    if files:
        lake.replace_by(TABLE, files)
    return dropped


class _Run:
    """What is to do in one run, from the columns that are cheap to read, and the doing of it.

    Vectors are added to the shards that lack them, and then shards are written anew that hold many that
    they do not need. So a kill loses little.
    """

    def __init__(self, lake: Lake, model: str, shards: Sequence[str]) -> None:
        self.lake, self.model = lake, model
        self.rest = Rest(lake, [TABLE], ["document_shards"], [STAGE_VERSION, model])
        self.shards = list(shards)
        self.chunks, self.stored = lake.snapshot("document_shards"), lake.snapshot(TABLE)
        self.per_shard: dict[str, dict[str, int]] = {}
        #: Shards that are not at rest, with the number of their distinct texts.
        self.awake: dict[str, int] = {}
        #: Those that hold too many vectors that they do not need.
        self.untidy: set[str] = set()
        self.written: set[str] = set()
        #: Pairs of a shard and a text that it has no vector for, in order.
        self.lacking = self._compare()
        self._gained: list[pa.Table] = []
        #: Whether they are too many to be lost.
        self._many = False

    def _compare(self) -> pa.Table:
        """See what each shard needs and has; returns what it lacks."""
        awake = []
        for shard in self.shards:
            counts = self.rest.counts(shard)
            if counts is None:
                awake.append(shard)
            else:
                self.per_shard[shard] = counts
        chunks = self.chunks.partitions(awake, ["embed_digest"])
        stored = self.stored.partitions(awake, ["embed_digest", "model"])
        lacking = [_LACKING.empty_table()]
        for (shard, texts), (_, rows) in zip(chunks, stored, strict=True):
            needed = _distinct(texts["embed_digest"])
            ours = rows.filter(pc.equal(rows["model"], self.model))
            held = _distinct(ours["embed_digest"])
            missing = sorted(_others(needed, held).to_pylist())
            useful = len(needed) - len(missing)
            # By what is needed: what a killed run has added already changes nothing about it.
            unneeded = len(rows) - len(ours) + len(held) - useful
            if unneeded > MOST_UNNEEDED * len(needed) or len(held) < len(ours):
                self.untidy.add(shard)
            self.awake[shard] = len(needed)
            self.per_shard[shard] = {
                "chunks": len(texts),
                "embedded": 0,
                "reused": useful,
                "removed": unneeded if shard in self.untidy else 0,
            }
            pairs = {"shard": [shard] * len(missing), "embed_digest": missing}
            lacking.append(pa.table(pairs, schema=_LACKING))
        return pa.concat_tables(lacking)

    def copy_from_other_shards(self) -> None:
        """Take the vectors that another shard has, a shard at a time."""
        if not len(self.lacking):
            return
        wanted = _distinct(self.lacking["embed_digest"])
        digests, sources = [pa.array([], pa.string())], [pa.array([], pa.string())]
        for source, rows in self.stored.partitions(
            sorted(self.stored.files), ["shard", "embed_digest", "model"]
        ):
            is_wanted = pc.is_in(rows["embed_digest"], value_set=wanted)
            found = rows.filter(pc.and_(is_wanted, pc.equal(rows["model"], self.model)))
            digests.append(found["embed_digest"].combine_chunks())
            sources.append(pa.array([source] * len(found), pa.string()))
        at = pc.index_in(self.lacking["embed_digest"], value_set=pa.concat_arrays(digests))
        found_at = at.drop_null().combine_chunks()
        copies = self.lacking.filter(pc.is_valid(at))
        copies = copies.append_column("source", pa.concat_arrays(sources).take(found_at))
        self.lacking = self.lacking.filter(pc.is_null(at))
        self._many = len(copies) + len(_distinct(self.lacking["embed_digest"])) > COMMIT_EVERY
        for shard, count in Counter(copies["shard"].to_pylist()).items():
            self.per_shard[shard]["reused"] += count
        for source in sorted(_distinct(copies["source"]).to_pylist()):
            mine = copies.filter(pc.equal(copies["source"], source))
            rows = self.stored.partition(source, ["embed_digest", "model", "vector"])
            rows = rows.filter(pc.equal(rows["model"], self.model)).combine_chunks()
            held = rows["embed_digest"].combine_chunks()
            at = pc.index_in(mine["embed_digest"].combine_chunks(), value_set=held)
            self._gain(mine, rows["vector"].take(at))
            if self._many and self._is_full():
                self._add()
        if self._many:
            self._add()

    def encode_missing(self, encoder: TextEncoder) -> None:
        """Encode each text that no shard has a vector for, once."""
        if not len(self.lacking):
            return
        # The pairs of one text beside each other, texts in the order of the first shard of each.
        codes = self.lacking["embed_digest"].combine_chunks().dictionary_encode().indices
        order = np.argsort(codes.to_numpy(), kind="stable")
        pairs = self.lacking.take(pa.array(order))
        codes = codes.to_numpy()[order]
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        bounds = np.append(starts, len(pairs))
        firsts = pairs.take(pa.array(starts))
        for shard, count in Counter(firsts["shard"].to_pylist()).items():
            self.per_shard[shard]["embedded"] = count
        texts, committed = self._texts(firsts), time.monotonic()
        for start in range(0, len(starts), COMMIT_EVERY):
            end = min(start + COMMIT_EVERY, len(starts))
            what = f"embedding chunks {start + 1}-{end} of {len(starts)}"
            vectors = encoder.encode(list(islice(texts, end - start)), what=what)
            which = np.repeat(np.arange(end - start), np.diff(bounds[start : end + 1]))
            rows = pairs.slice(int(bounds[start]), int(bounds[end] - bounds[start]))
            self._gain(rows, vector_array(vectors[which]))
            now = time.monotonic()
            if self._many and (now - committed >= COMMIT_SECONDS or self._is_full()):
                self._add()
                committed = now
        if self._many:
            self._add()

    def settle(self) -> None:
        """Add what is in memory, and write shards anew that hold too much that nothing needs, or have
        come to have many files.
        """
        self._add()
        now = self.lake.snapshot(TABLE)
        todo = [
            shard
            for shard in self.awake
            if shard in self.untidy or len(now.files.get(shard, ())) > MOST_FILES
        ]

        def settled(shard: str) -> AddAction | None:
            rows = now.partition(shard)
            if shard in self.untidy:
                needed = self.chunks.partition(shard, ["embed_digest"])["embed_digest"]
                ours = pc.equal(rows["model"], self.model)
                is_needed = pc.is_in(rows["embed_digest"], value_set=needed.combine_chunks())
                rows = _once_each(rows.filter(pc.and_(ours, is_needed)))
            return self.lake.write_file(TABLE, shard, rows)

        if todo:
            with ThreadPoolExecutor(WRITERS, "writing") as threads:
                files = dict(zip(todo, threads.map(settled, todo), strict=True))
            self.lake.replace_by(TABLE, files)
            self.written.update(todo)

    def remember(self) -> None:
        """Note what a run will count that finds the shards as this one leaves them."""
        counts = {
            shard: {**self.per_shard[shard], "embedded": 0, "reused": texts, "removed": 0}
            for shard, texts in self.awake.items()
        }
        self.rest.keep(counts)

    def _texts(self, firsts: pa.Table) -> Iterator[str]:
        """The text of each pair of a shard and a digest, read a shard at a time."""
        pairs = (
            (pair["shard"], pair["embed_digest"])
            for batch in firsts.to_batches(max_chunksize=COMMIT_EVERY)
            for pair in batch.to_pylist()
        )
        for shard, group in groupby(pairs, key=itemgetter(0)):
            digests = [digest for _, digest in group]
            columns = ["embed_digest", "heading", "text"]
            rows = self.chunks.chosen(shard, "embed_digest", digests, columns)
            texts = {
                row["embed_digest"]: embed_text(row["heading"], row["text"])
                for row in rows.to_pylist()
            }
            yield from (texts[digest] for digest in digests)

    def _gain(self, pairs: pa.Table, vectors: pa.Array) -> None:
        columns = {
            "shard": pairs["shard"],
            "embed_digest": pairs["embed_digest"],
            "model": pa.array([self.model] * len(pairs), pa.string()),
            "vector": vectors,
        }
        self._gained.append(pa.table(columns, schema=SCHEMAS[TABLE]))

    def _is_full(self) -> bool:
        return sum(part.nbytes for part in self._gained) >= HELD_BYTES

    def _add(self) -> None:
        """Commit what was gained beside what is there."""
        if self._gained:
            rows = pa.concat_tables(self._gained).sort_by(_ORDER)
            shards = sorted(_distinct(rows["shard"]).to_pylist())
            self.lake.append(TABLE, rows, keys=shards)
            self.written.update(shards)
            self._gained = []


def _distinct(column: pa.ChunkedArray) -> pa.Array:
    return pc.unique(column.combine_chunks())


def _others(values: pa.Array, known: pa.Array) -> pa.Array:
    """Those values that are not known."""
    return values.filter(pc.invert(pc.is_in(values, value_set=known)))


def _once_each(rows: pa.Table) -> pa.Table:
    """Vectors in order of their texts; a killed run may have left one twice."""
    rows = rows.sort_by("embed_digest")
    digests = rows["embed_digest"].combine_chunks()
    if len(rows) < 2 or pc.count_distinct(digests).as_py() == len(rows):
        return rows
    is_first = pc.not_equal(digests[1:], digests[:-1])
    return rows.filter(pa.concat_arrays([pa.array([True]), is_first]))


def vector_array(vectors: npt.NDArray[np.float32]) -> pa.Array:
    """Vectors, of shape (rows, dimension), as a column of the lake."""
    rows = vectors.astype(np.float32, copy=False)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(rows.ravel()))


def vector_rows(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """A column of the lake as an array of shape (rows, dimension)."""
    flat: npt.NDArray[np.float32] = pc.list_flatten(column).to_numpy()
    return flat.reshape(len(column), -1) if len(column) else np.zeros((0, 0), np.float32)


_LACKING = pa.schema([("shard", pa.string()), ("embed_digest", pa.string())])
_ORDER = [("shard", "ascending"), ("embed_digest", "ascending")]
