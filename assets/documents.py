"""Group `documents`: from a source's bytes to chunks, by shard."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from assets.partitions import settings, shards
from assets.policies import (
    BUILD_POOL,
    DATA,
    follows_source,
    note_shards,
    of_shards,
    on_change,
    one_run,
    table,
    version,
    version_of_run,
)
from assets.sources import document_verdicts, source_assets, source_entries
from headwater.documents import accounting, anomalies, chunk, clean, parse, personal, raw
from headwater.documents import duplicates as find
from headwater.documents.contents import contents
from headwater.documents.parser_pool import ParserLimits
from headwater.documents.rated_out import by_shard
from headwater.documents.sources import Source, load_sources
from headwater.documents.stage import StageStats
from headwater.documents.suites import load_suite
from headwater.executors.choice import executor_of
from headwater.records import digest_of
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource

#: Where the documents of a source went, in the order of the account.
_ACCOUNT = (
    "source", "documents", "indexed", "duplicates", "quarantined", "filtered", "unaccounted",
)  # fmt: skip
#: Metadata that the next builds are compared with, and the name of the documents that it is of.
MEASURES, MEASURED_OF = "measures", "documents_digest"
_common: dict[str, Any] = {
    "group_name": "documents",
    "automation_condition": on_change,
    "owners": [DATA],
}


def _policies(chosen: Settings, sources: Sequence[Source]) -> personal.PersonalPolicies:
    own = {source.name: source.personal_data for source in sources}
    return personal.policies_of(chosen.document_pii, chosen.document_pii_kinds, own)


def _result(context: dg.AssetExecutionContext, stats: StageStats, **more: Any) -> Any:
    """Totals on every partition of the run, and each shard's own counts on its own."""
    note_shards(context, stats.per_shard)
    return dg.MaterializeResult(
        data_version=version_of_run(context, stats.digest, stats.shard_digests),
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
    partitions_def=shards,
    backfill_policy=one_run,
    pool=BUILD_POOL,
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
    deps=[raw_documents, document_verdicts],
    kinds={"deltalake"},
    code_version=version(
        clean.STAGE_VERSION,
        settings.max_text_chars,
        settings.quality_filter,
        _policies(settings, source_entries).digest,
        # Read here so that an edit has the documents checked again, and a mistake is named at once.
        load_suite("documents", settings.expectations).digest,
        settings.parser_memory_mb,
        settings.parser_seconds,
        # A program that is installed later reads what was turned away without it.
        *parse.programs(),
    ),
    **of_shards,
    **_common,
)
def clean_documents(
    context: dg.AssetExecutionContext, settings: SettingsResource, lake: LakeResource
) -> Any:
    """Parsed, normalised text with headings and language; what cannot be read is quarantined.

    Parsing is done by child processes with bounds of memory and time, and no network. Mojibake is
    undone. Personal data is counted (`personal_data`) and replaced by the name of its kind, unless
    HEADWATER_DOCUMENT_PII or the source says otherwise. Heuristics of quality that a document fails
    are noted on it (`quality_flags`), or turn it away, as HEADWATER_QUALITY_FILTER says. What people
    rated out is left out. The quarantine table names the reason for each document that was turned
    away.
    """
    from headwater.serving.verdict_log import left_out

    choices, store = settings.get(), lake.get()
    with executor_of(choices) as executor:
        stats = clean.clean_documents(
            store,
            context.partition_keys,
            choices.max_text_chars,
            quality_filter=choices.quality_filter,
            personal=_policies(choices, load_sources(choices.sources_file)),
            suite=load_suite("documents", choices.expectations),
            rated_out=by_shard(left_out(choices), choices.shards),
            limits=ParserLimits(memory_mb=choices.parser_memory_mb, seconds=choices.parser_seconds),
            children=choices.threads,
            executor=executor,
            in_force=choices.shard_keys(),
        )
    flags, held = accounting.flags(store), accounting.personal_data(store)
    return _result(
        context,
        stats,
        quality_flags=table(flags, ["source", "flag", "documents"], 50),
        personal_data=table(held, ["source", "kind", "documents", "finds"], 50),
    )


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
    group_name="documents",
    automation_condition=on_change,
    kinds={"deltalake"},
    owners=[DATA],
    pool=BUILD_POOL,
    code_version=version(find.STAGE_VERSION, settings.duplicate_threshold),
)
def duplicates(settings: SettingsResource, lake: LakeResource) -> Any:
    """Documents that say what another one says, over all shards, and which one is indexed.

    Exact where the text is the same but for whitespace, near where signatures (MinHash) say that
    most of its word 5-grams are. The shortest path stays, then the alphabet decides. The account
    says where every document went.
    """
    store = lake.get()
    stats = find.find_duplicates(store, settings.get().duplicate_threshold)
    rows = store.read("duplicates").sort_by([("cluster", "ascending"), ("uri", "ascending")])
    accounts = [
        {
            **{name: getattr(each, name) for name in _ACCOUNT},
            "reasons": ", ".join(
                f"{each.reasons[reason]} {reason}" for reason in sorted(each.reasons)
            ),
        }
        for each in accounting.account(store)
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(stats.digest),
        metadata={
            "documents": stats.documents,
            "duplicates": stats.exact + stats.near,
            "exact": stats.exact,
            "near": stats.near,
            "clusters": stats.clusters,
            MEASURES: dg.MetadataValue.json(anomalies.measures(store)),
            MEASURED_OF: contents(
                store,
                clean.OUTPUT.table,
                version=clean.OUTPUT.version,
                columns=clean.OUTPUT.columns,
                where_given=clean.OUTPUT.where_given,
            ).whole,
            "account": table(accounts, [*_ACCOUNT, "reasons"], limit=100),
            "left_out": table(
                rows.to_pylist(), ["uri", "survivor", "similarity", "kind"], limit=100
            ),
        },
    )


@dg.asset(
    deps=[clean_documents, duplicates],
    kinds={"deltalake"},
    code_version=version(
        chunk.STAGE_VERSION,
        settings.chunk_tokens,
        settings.embedding_model,
        load_suite("chunks", settings.expectations).digest,
    ),
    **of_shards,
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
    with executor_of(choices) as executor:
        stats = chunk.shard_documents(
            lake.get(),
            context.partition_keys,
            max_tokens=choices.chunk_tokens,
            embedding_model=choices.embedding_model,
            executor=executor,
            in_force=choices.shard_keys(),
        )
    return _result(context, stats, **{"dagster/row_count": stats.chunks})
