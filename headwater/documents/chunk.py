"""`document_shards`: the chunks of every document, split along its structure.

Duplicates have none: what several documents say is indexed once. A document is split again only
where its text, title or headings changed, where its licence or access tags did, which every chunk
carries, or where it is no duplicate any more.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from headwater.documents.clean import RECORD, records_of
from headwater.documents.duplicates import left_out_by_shard
from headwater.documents.parsed import fold
from headwater.documents.rest import Rest
from headwater.documents.row_digests import encode, joined, json_of, names_of
from headwater.documents.split import Span, Text, embed_text, split_texts
from headwater.documents.stage import (
    BLOCK,
    BLOCK_BYTES,
    Output,
    ShardCounts,
    ShardWriter,
    StageStats,
    as_it_stands,
    at_rest,
    made_from,
    stage_stats,
    with_retired,
)
from headwater.documents.tokens import adds_up, token_counter, tokenizer_digest
from headwater.executors.base import Executor, in_blocks, map_groups, refuse_unlike
from headwater.executors.inline import Inline
from headwater.lake import Lake, chosen_rows, rows_to_table, writer_of_shards
from headwater.progress import track
from headwater.records import Chunk, CleanDocument, digest_of
from headwater.snapshot import read_ahead
from headwater.tables import SCHEMAS

STAGE_VERSION = "chunk/1"
#: Columns that name the content.
OUTPUT = Output(
    table="document_shards",
    stages=("chunk",),
    version=STAGE_VERSION,
    columns=("digest",),
    where_given=("access",),
)
_CHUNK = [field.name for field in fields(Chunk)]
#: Columns of documents that tell which are to be split, and those that it takes besides.
_NAMED = ["uri", "digest", "licence", "access"]
_TEXT = [name for name in RECORD if name not in _NAMED]
#: A document, and the digest of what its chunks are made from.
Unsplit = tuple[CleanDocument, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splitting:
    """How documents are split, wherever that is; `version` names it."""

    max_tokens: int
    embedding_model: str
    version: str


def _version(max_tokens: int, embedding_model: str) -> str:
    """Names what chunks depend on besides their document, as this process has it."""
    return digest_of(STAGE_VERSION, max_tokens, tokenizer_digest(embedding_model))


#: The same of a worker, which lives for one stage: the tokenizer's file is read once.
_own_version = cache(_version)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStats(StageStats):
    """Counts are documents, as in `StageStats`; `chunks` is what these shards now hold."""

    chunks: int


@dataclass(slots=True)
class _Work:
    """A shard that is looked at: input digests of what its documents are to be, those of them to be
    split, and the stored ones whose chunks go.
    """

    shard: str
    want: dict[str, str]
    changed: list[str]
    gone: set[str]


@writer_of_shards
def shard_documents(
    lake: Lake,
    shards: Sequence[str],
    max_tokens: int,
    embedding_model: str,
    *,
    executor: Executor | None = None,
    in_force: Sequence[str] | None = None,
) -> ChunkStats:
    """Bring `document_shards` up to `clean_documents` and `duplicates`, in these shards.

    Args:
        max_tokens: bound of a chunk with its heading path, special tokens not counted.
        embedding_model: whose tokenizer counts.
        executor: who splits documents; the default is this process.
        in_force: all shards, where others may be at work beside this one (`with_retired`).
    """
    if "document_shards" in lake.holds():
        return _with_chunks(lake, as_it_stands(lake, OUTPUT, shards))
    executor = executor or Inline()
    shards = with_retired(lake, "document_shards", "clean_documents", shards, in_force)
    how = Splitting(
        max_tokens=max_tokens,
        embedding_model=embedding_model,
        version=_version(max_tokens, embedding_model),
    )
    left_out = left_out_by_shard(lake, shards)
    named = {shard: digest_of(sorted(uris)) for shard, uris in left_out.items()}
    rest = Rest(lake, ["document_shards"], ["clean_documents"], how.version, named, recall=True)
    counts = {shard: ShardCounts(**(rest.counts(shard) or {})) for shard in shards}
    awake = [shard for shard in shards if rest.counts(shard) is None]
    writer, named_by = ShardWriter(lake, OUTPUT), partial(_input_digests, how.version)

    def works() -> Iterator[tuple[_Work, list[list[Unsplit]]]]:
        """Shards with documents to split, with these in blocks; the other shards are finished."""
        # With the texts, ahead: a shard that is awake has nearly always something to split.
        documents, stored = lake.snapshot("clean_documents"), lake.snapshot("document_shards")

        def split(shard: str) -> dict[str, str]:
            """What the stored chunks of each document were made from."""
            rows = _first_chunks(stored.partition(shard, ["uri", "input_digest"]))
            digests = rows["input_digest"].to_pylist()
            return dict(zip(rows["uri"].to_pylist(), digests, strict=True))

        both = zip(documents.partly(awake, _NAMED, _TEXT), read_ahead(split, awake), strict=True)
        for (shard, found), (_, have) in track(both, what="splitting documents", total=len(awake)):
            out = left_out.get(shard, set())
            rows = chosen_rows(found.rows, out, but=True)
            want = made_from(rows, have, rest.touched(shard, documents, stored), named_by)
            keep = {uri for uri in want if have.get(uri) == want[uri]}
            changed = sorted(want.keys() - keep)
            work = _Work(shard, want, changed, gone=have.keys() - keep)
            if changed:
                yield work, _blocks(found.of(changed), work, apart=executor.apart)
            else:
                finish(work, [])

    def finish(work: _Work, made: Sequence[pa.Table]) -> None:
        """Have a shard hold what is kept and what was made."""
        count = counts[work.shard]
        count.seen, count.processed = len(work.want), len(work.changed)
        count.reused = len(work.want) - len(work.changed)
        count.removed = len(work.gone - work.want.keys())
        if work.changed or work.gone:
            empty = SCHEMAS["document_shards"].empty_table()
            writer.replace(work.shard, work.gone, pa.concat_tables([empty, *made]))

    function = split_apart if executor.apart else split_documents
    for work, made in map_groups(executor, partial(function, how), works()):
        finish(work, made)
        del work, made  # not held while the next shard is made
    stats = stage_stats(writer, counts)
    rest.keep({shard: at_rest(counts[shard]) for shard in awake})
    return _with_chunks(lake, stats)


def _first_chunks(chunks: pa.Table) -> pa.Table:
    """A row for each document that has chunks."""
    codes = chunks["uri"].combine_chunks().dictionary_encode().indices.to_numpy()
    return chunks.take(pa.array(np.unique(codes, return_index=True)[1]))


def _input_digests(version: str, documents: pa.Table) -> dict[str, str]:
    """What the chunks of each document are made from, as `digest_of` names it, by URI."""
    facts: list[Any] = []
    for name in ("uri", "digest", "licence"):
        facts += [",", json_of(documents[name])]
    tags = [f",{encode(tags)}" if tags else "" for tags in documents["access"].to_pylist()]
    texts = joined(f"[{encode(version)}", *facts, pa.array(tags, pa.string()), "]")
    names = names_of(texts)
    return dict(zip(documents["uri"].to_pylist(), names, strict=True))


def _blocks(documents: pa.Table, work: _Work, *, apart: bool) -> list[list[Unsplit]]:
    """The changed documents of a shard: all together, or a task's worth each."""
    unsplit = [(document, work.want[document.uri]) for document in records_of(documents)]
    if not apart:
        return [unsplit]
    return list(
        in_blocks(unsplit, lambda each: len(each[0].text), most=BLOCK, most_size=BLOCK_BYTES)
    )


def split_apart(how: Splitting, documents: Sequence[Unsplit]) -> pa.Table:
    """`split_documents` in a worker.

    Raises:
        HeadwaterError: this worker would split them otherwise.
    """
    refuse_unlike(
        "versions or tokenizers", how.version, _own_version(how.max_tokens, how.embedding_model)
    )
    return split_documents(how, documents)


def split_documents(how: Splitting, documents: Sequence[Unsplit]) -> pa.Table:
    """The chunks of some documents, as rows of `document_shards`."""
    count_tokens = token_counter(how.embedding_model)
    rows: list[dict[str, Any]] = []
    for block in in_blocks(
        documents, lambda each: len(each[0].text), most=BLOCK, most_size=BLOCK_BYTES
    ):
        split = split_texts(
            [Text(each.text, each.title, each.headings) for each, _ in block],
            how.max_tokens,
            count_tokens,
            adds_up=adds_up(how.embedding_model),
        )
        for (document, input_digest), spans in zip(block, split, strict=True):
            for chunk in chunks(document, spans):
                row = {name: getattr(chunk, name) for name in _CHUNK}
                rows.append({**row, "input_digest": input_digest})
    return rows_to_table("document_shards", rows)


def chunks(document: CleanDocument, spans: Sequence[Span]) -> list[Chunk]:
    """The chunks of a document, in order.

    Args:
        spans: that join to its text; `embed_text(chunk.heading, chunk.text)` is bounded in tokens.
    """
    offsets = [0]
    for span in spans:
        offsets.append(offsets[-1] + len(span.text.encode()))
    seen: Counter[str] = Counter()
    made = []
    for ordinal, (start, end) in enumerate(pairwise(offsets)):
        heading, text = spans[ordinal].heading, spans[ordinal].text.strip()
        embed_digest = digest_of(fold(embed_text(heading, text)))
        # Named by what it says, so that an edit before it does not rename it.
        name = digest_of(document.uri, embed_digest, seen[embed_digest])
        seen[embed_digest] += 1
        stored = (name, document.uri, document.source, ordinal, start, end, document.title)
        made.append(
            Chunk(
                id=name,
                uri=document.uri,
                source=document.source,
                shard=document.shard,
                ordinal=ordinal,
                start=start,
                end=end,
                title=document.title,
                heading=heading,
                text=text,
                tokens=spans[ordinal].tokens,
                embed_digest=embed_digest,
                digest=digest_of(*stored, heading, text),
                input_digest=document.digest,
                licence=document.licence,
                access=document.access,
            )
        )
    return made


def _with_chunks(lake: Lake, stats: StageStats) -> ChunkStats:
    chunks = lake.snapshot("document_shards").sizes
    values = {field.name: getattr(stats, field.name) for field in fields(stats)}
    values["per_shard"] = {
        shard: {**count, "chunks": chunks[shard]} for shard, count in stats.per_shard.items()
    }
    return ChunkStats(**values, chunks=sum(chunks[shard] for shard in stats.per_shard))
