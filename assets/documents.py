"""Group `documents`: from a source's bytes to chunks, by shard."""

from typing import Any

import dagster as dg

from assets.partitions import settings, shards
from assets.policies import (
    BUILD_POOL,
    DATA,
    follows_source,
    note_shards,
    on_change,
    one_run,
    table,
    version,
)
from assets.sources import source_assets
from headwater.documents import chunk, clean, parse, raw
from headwater.documents.parser_pool import ParserLimits
from headwater.documents.sources import load_sources
from headwater.documents.stage import StageStats
from headwater.records import digest_of
from resources.environment import SettingsResource
from resources.lake import LakeResource

_common: dict[str, Any] = {
    "group_name": "documents",
    "partitions_def": shards,
    "backfill_policy": one_run,
    "automation_condition": on_change,
    "owners": [DATA],
    "pool": BUILD_POOL,
}


def _result(context: dg.AssetExecutionContext, stats: StageStats, **more: Any) -> Any:
    """Totals on every partition of the run, and each shard's own counts on its own."""
    note_shards(context, stats.per_shard)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(stats.digest),
        metadata={
            "seen": stats.seen,
            "processed": stats.processed,
            "reused": stats.reused,
            "removed": stats.removed,
            "quarantined": stats.quarantined,
            "shards_written": len(stats.shards_written),
            **more,
        },
    )


@dg.asset(
    deps=source_assets,
    kinds={"deltalake"},
    code_version=version(raw.STAGE_VERSION, settings.shards, settings.max_document_bytes),
    freshness_policy=follows_source,
    **_common,
)
def raw_documents(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """Every document's bytes with URI, digest and licence, exactly as its source gave them.

    Listing first, bytes second: only items whose size or time changed are read. Unreadable or
    oversized items go to the quarantine table with a reason.
    """
    choices = settings.get()
    stats = raw.update_raw(
        lake.get(),
        load_sources(choices.sources_file),
        context.partition_keys,
        n_shards=choices.shards,
        max_bytes=choices.max_document_bytes,
    )
    return _result(context, stats)


@dg.asset(
    deps=[raw_documents],
    kinds={"deltalake"},
    code_version=version(
        clean.STAGE_VERSION,
        settings.max_text_chars,
        settings.parser_memory_mb,
        settings.parser_seconds,
        # A program that is installed later reads what was turned away without it.
        *parse.programs(),
    ),
    **_common,
)
def clean_documents(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """Parsed, normalised text with headings and language; what cannot be read is quarantined.

    Parsing is done by child processes with bounds of memory and time, and no network.
    The quarantine table names the reason for each document that was turned away.
    """
    choices = settings.get()
    stats = clean.clean_documents(
        lake.get(),
        context.partition_keys,
        choices.max_text_chars,
        ParserLimits(memory_mb=choices.parser_memory_mb, seconds=choices.parser_seconds),
        children=choices.threads,
    )
    return _result(context, stats)


@dg.asset(
    deps=[raw_documents, clean_documents],
    group_name="documents",
    automation_condition=on_change,
    kinds={"deltalake"},
    owners=[DATA],
    code_version="quarantine/1",
)
def quarantine(lake: LakeResource) -> Any:
    """Documents that were turned away, each with a reason that a person can act on."""
    rows = lake.get().read("quarantine").sort_by("uri").to_pylist()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of(rows)),
        metadata={
            "dagster/row_count": len(rows),
            "documents": table(rows, ["uri", "reason", "detail", "stage"], limit=100),
        },
    )


@dg.asset(
    deps=[clean_documents],
    kinds={"deltalake"},
    code_version=version(chunk.STAGE_VERSION, settings.chunk_tokens, settings.embedding_model),
    **_common,
)
def document_shards(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """Chunks: spans of a document's text, bounded in the embedding model's tokens.

    Boundaries follow headings, paragraphs, then sentences; the spans of a document join to its
    text exactly, each with byte offsets and heading path.
    """
    choices = settings.get()
    stats = chunk.shard_documents(
        lake.get(),
        context.partition_keys,
        max_tokens=choices.chunk_tokens,
        embedding_model=choices.embedding_model,
    )
    return _result(context, stats, **{"dagster/row_count": stats.chunks})
