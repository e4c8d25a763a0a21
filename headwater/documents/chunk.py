"""`document_shards`: the chunks of every document, split along its structure.

Duplicates have none: what several documents say is indexed once. A document is split again only
where its text, title or headings changed, where its licence or access tags did, which every chunk
carries, or where it is no duplicate any more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from headwater.documents.clean import read_documents
from headwater.documents.duplicates import left_out_by_shard
from headwater.documents.parsed import fold
from headwater.documents.rest import Rest
from headwater.documents.split import embed_text, split_text
from headwater.documents.stage import (
    Output,
    ShardCounts,
    ShardWriter,
    StageStats,
    as_it_stands,
    at_rest,
    stage_stats,
    with_retired,
)
from headwater.documents.tokens import TokenCounter, token_counter, tokenizer_digest
from headwater.lake import Lake, sole_writer
from headwater.progress import track
from headwater.records import Chunk, CleanDocument, digest_of

STAGE_VERSION = "chunk/1"
#: Columns that name the content.
OUTPUT = Output(
    table="document_shards",
    stages=("chunk",),
    version=STAGE_VERSION,
    columns=("digest",),
    where_given=("access",),
)
_LIGHT = ["uri", "shard", "digest", "licence", "access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStats(StageStats):
    """Counts are documents, as in `StageStats`; `chunks` is what these shards now hold."""

    chunks: int


@sole_writer
def shard_documents(
    lake: Lake, shards: Sequence[str], max_tokens: int, embedding_model: str
) -> ChunkStats:
    """Bring `document_shards` up to `clean_documents` and `duplicates`, in these shards.

    Args:
        max_tokens: bound of a chunk with its heading path, special tokens not counted.
        embedding_model: whose tokenizer counts.
    """
    if "document_shards" in lake.holds():
        return _with_chunks(lake, as_it_stands(lake, OUTPUT, shards))
    shards = with_retired(lake, "document_shards", "clean_documents", shards)
    version = digest_of(STAGE_VERSION, max_tokens, tokenizer_digest(embedding_model))
    left_out = left_out_by_shard(lake, shards)
    named = {shard: digest_of(sorted(uris)) for shard, uris in left_out.items()}
    rest = Rest(lake, ["document_shards"], ["clean_documents"], version, named)
    counts = {shard: ShardCounts(**(rest.counts(shard) or {})) for shard in shards}
    awake = [shard for shard in shards if rest.counts(shard) is None]
    count_tokens = token_counter(embedding_model)

    writer = ShardWriter(lake, "document_shards")
    documents = lake.snapshot("clean_documents").partitions(awake, _LIGHT)
    stored = lake.snapshot("document_shards").partitions(awake, ["uri", "input_digest"])
    both = zip(documents, stored, strict=True)
    for (shard, rows), (_, held) in track(both, what="splitting documents", total=len(awake)):
        out = left_out.get(shard, set())
        want = {
            row["uri"]: _input_digest(version, row)
            for row in rows.to_pylist()
            if row["uri"] not in out
        }
        have = dict(zip(held["uri"].to_pylist(), held["input_digest"].to_pylist(), strict=True))
        count = counts[shard]
        keep = {uri for uri in want if have.get(uri) == want[uri]}
        changed = sorted(want.keys() - keep)
        new = [
            {**asdict(chunk), "input_digest": want[document.uri]}
            for document in read_documents(lake, shard, changed)
            for chunk in split(document, max_tokens, count_tokens)
        ]
        count.seen, count.processed, count.reused = len(want), len(changed), len(keep)
        count.removed = len(have.keys() - want.keys())
        if changed or count.removed:
            writer.replace(shard, keep, new)
    stats = stage_stats(writer, OUTPUT, counts)
    rest.keep({shard: at_rest(counts[shard]) for shard in awake})
    return _with_chunks(lake, stats)


def _input_digest(version: str, document: dict[str, Any]) -> str:
    tags = [document["access"]] if document["access"] else []
    facts = (document["uri"], document["digest"], document["licence"])
    return digest_of(version, *facts, *tags)


def split(document: CleanDocument, max_tokens: int, count_tokens: TokenCounter) -> list[Chunk]:
    """The chunks of a document, in order; their spans join to its text.

    Args:
        max_tokens: bound of `embed_text(chunk.heading, chunk.text)`, special tokens not counted.
        count_tokens: counts the tokens of each of a batch of texts.
    """
    spans = split_text(document.text, document.title, document.headings, max_tokens, count_tokens)
    offsets = [0]
    for span in spans:
        offsets.append(offsets[-1] + len(span.text.encode()))
    seen: Counter[str] = Counter()
    chunks = []
    for ordinal, (start, end) in enumerate(pairwise(offsets)):
        heading, text = spans[ordinal].heading, spans[ordinal].text.strip()
        embed_digest = digest_of(fold(embed_text(heading, text)))
        # Named by what it says, so that an edit before it does not rename it.
        name = digest_of(document.uri, embed_digest, seen[embed_digest])
        seen[embed_digest] += 1
        stored = (name, document.uri, document.source, ordinal, start, end, document.title)
        chunks.append(
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
    return chunks


def _with_chunks(lake: Lake, stats: StageStats) -> ChunkStats:
    chunks = lake.snapshot("document_shards").sizes
    values = {field.name: getattr(stats, field.name) for field in fields(stats)}
    values["per_shard"] = {
        shard: {**count, "chunks": chunks[shard]} for shard, count in stats.per_shard.items()
    }
    return ChunkStats(**values, chunks=sum(chunks[shard] for shard in stats.per_shard))
