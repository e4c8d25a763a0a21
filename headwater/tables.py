"""The lake's tables: their columns, types and partitions.

Knows nothing of how they are stored.
"""

import pyarrow as pa

_text, _int, _bytes = pa.string(), pa.int64(), pa.large_binary()
#: Access tags in order; null where there are none, as in rows older than the column.
_TAGS = pa.list_(_text)
_HEADINGS = pa.list_(pa.struct([("start", _int), ("level", _int), ("text", _text)]))
_COUNTS = pa.list_(pa.struct([("kind", _text), ("count", _int)]))
_SPANS = pa.list_(
    pa.struct(
        [
            ("id", _text),
            ("parent", _text),
            ("name", _text),
            ("start_ms", pa.float64()),
            ("ms", pa.float64()),
            ("error", _text),
            ("links", pa.list_(_text)),
            ("attributes", _text),
        ]
    )
)

#: Schema of every table, so that an empty table is as typed as a full one.
SCHEMAS: dict[str, pa.Schema] = {
    "raw_documents": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("etag", _text),
            ("media_type", _text),
            ("size", _int),
            ("licence", _text),
            ("content", _bytes),
            ("digest", _text),
            ("access", _TAGS),
        ]
    ),
    "clean_documents": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("title", _text),
            ("language", _text),
            ("text", pa.large_string()),
            ("headings", _HEADINGS),
            ("licence", _text),
            ("input_digest", _text),
            ("digest", _text),
            ("access", _TAGS),
            ("quality_flags", pa.list_(_text)),
            ("folded_digest", _text),
            ("signature", _bytes),
            ("personal_data", _COUNTS),
        ]
    ),
    "quarantine": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("stage", _text),
            ("reason", _text),
            ("detail", _text),
            ("input_digest", _text),
            ("licence", _text),
            ("access", _TAGS),
        ]
    ),
    "tombstones": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("licence", _text),
            ("access", _TAGS),
            ("reason", _text),
        ]
    ),
    "duplicates": pa.schema(
        [
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("cluster", _text),
            ("survivor", _text),
            ("similarity", pa.float64()),
            ("kind", _text),
        ]
    ),
    "document_shards": pa.schema(
        [
            ("id", _text),
            ("uri", _text),
            ("source", _text),
            ("shard", _text),
            ("ordinal", _int),
            ("start", _int),
            ("end", _int),
            ("title", _text),
            ("heading", _text),
            ("text", _text),
            ("tokens", _int),
            ("embed_digest", _text),
            ("digest", _text),
            ("input_digest", _text),
            ("licence", _text),
            ("access", _TAGS),
        ]
    ),
    "chunk_embeddings": pa.schema(
        [
            ("shard", _text),
            ("embed_digest", _text),
            ("model", _text),
            ("vector", pa.list_(pa.float32())),
        ]
    ),
    "golden_set": pa.schema(
        [
            ("id", _text),
            ("question", _text),
            ("reference", _text),
            ("uris", pa.list_(_text)),
            ("category", _text),
            ("provisional", pa.bool_()),
        ]
    ),
    "sft_dataset": pa.schema(
        [
            ("id", _text),
            ("kind", _text),
            ("question", _text),
            ("answer", _text),
            ("chunk_id", _text),
            ("uri", _text),
            ("context", pa.list_(_text)),
            ("split", _text),
            ("trace", _text),
            ("licence", _text),
            ("access", _TAGS),
        ]
    ),
    "preference_pairs": pa.schema(
        [
            ("id", _text),
            ("question", _text),
            ("context", pa.list_(_text)),
            ("chosen", _text),
            ("rejected", _text),
            ("traces", pa.list_(_text)),
            ("source", _text),
        ]
    ),
    "requests": pa.schema(
        [
            ("day", _text),
            ("trace", _text),
            ("time", pa.timestamp("us", tz="UTC")),
            ("release", _text),
            ("arm", _text),
            ("session", _text),
            ("key", _text),
            ("question", _text),
            ("answer", _text),
            ("status", _text),
            ("streamed", pa.bool_()),
            ("refused", pa.bool_()),
            ("ungrounded", pa.float64()),
            ("guard", pa.list_(_text)),
            ("uris", pa.list_(_text)),
            ("scores", pa.list_(pa.float64())),
            ("chunk_ids", pa.list_(_text)),
            ("prompt_tokens", _int),
            ("completion_tokens", _int),
            ("retrieve_ms", pa.float64()),
            ("generate_ms", pa.float64()),
            ("total_ms", pa.float64()),
            ("energy_wh", pa.float64()),
            ("cost", pa.float64()),
            ("spans", _SPANS),
        ]
    ),
    "feedback": pa.schema(
        [
            ("day", _text),
            ("id", _text),
            ("time", pa.timestamp("us", tz="UTC")),
            ("trace", _text),
            ("release", _text),
            ("user", _text),
            ("thumb", _text),
            ("correction", _text),
            ("tags", pa.list_(_text)),
            ("rival", _text),
            ("rival_release", _text),
            ("preferred", _text),
        ]
    ),
}
#: Tables whose rows are bucketed, and the column that does it.
PARTITIONED = {
    "raw_documents": "shard", "clean_documents": "shard", "quarantine": "shard",
    "tombstones": "shard", "document_shards": "shard", "chunk_embeddings": "shard",
    "requests": "day", "feedback": "day",
}  # fmt: skip
#: Columns that make most of a table's bytes.
LARGE = frozenset({"content", "text", "signature"})
