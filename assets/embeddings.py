"""Group `embeddings`: vectors of chunks, and the index that is searched."""

from typing import Any

import dagster as dg

from assets.documents import document_shards
from assets.partitions import settings
from assets.policies import (
    BUILD_POOL,
    DATA,
    ML,
    follows_source,
    note_shards,
    of_shards,
    on_change,
    version,
    version_of_run,
)
from headwater.embeddings import embed, index
from headwater.embeddings.apart import encoder_over
from headwater.executors.choice import executor_of
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource


@dg.asset(
    deps=[document_shards],
    group_name="embeddings",
    automation_condition=on_change,
    kinds={"pytorch", "deltalake"},
    owners=[ML],
    code_version=version(embed.STAGE_VERSION, settings.embedding_model),
    **of_shards,
)
def chunk_embeddings(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    lake: LakeResource,
    models: ModelsResource,
) -> Any:
    """One unit vector (float32, 384) for each distinct chunk text, cached by its digest.

    Text that was embedded before, in any shard, is never embedded again; the model is loaded
    only when there is something to embed.
    """
    choices = settings.get()
    with executor_of(choices) as executor:
        encoder = encoder_over(executor, models.encoder(), choices.embedding_model)
        stats = embed.embed_chunks(
            lake.get(), context.partition_keys, encoder, in_force=choices.shard_keys()
        )
    note_shards(context, stats.per_shard)
    return dg.MaterializeResult(
        data_version=version_of_run(context, stats.digest, stats.shard_digests),
        metadata={
            "chunks": stats.total,
            "embedded": stats.embedded,
            "reused": stats.reused,
            "removed": stats.removed,
            "shards_written": len(stats.shards_written),
        },
    )


@dg.asset(
    deps=[chunk_embeddings, document_shards],
    group_name="embeddings",
    automation_condition=on_change,
    freshness_policy=follows_source,
    kinds={"qdrant"},
    owners=[ML, DATA],
    pool=BUILD_POOL,
    code_version=version(index.STAGE_VERSION, settings.vectors),
)
def vector_index(
    settings: SettingsResource,
    lake: LakeResource,
    vectors: VectorsResource,
    models: ModelsResource,
) -> Any:
    """A published, read-only version of the searchable index: dense vectors and BM25.

    Built beside the earlier version from what changed, then published by one rename. Versions
    that a release names are kept. The map shows where texts lie, and which are far from all others;
    documents with such texts are queued for people to judge.
    """
    from headwater.datasets.outliers import outlying_documents, save_outliers
    from headwater.embeddings.map import embedding_map
    from headwater.evaluation.map_page import map_document
    from headwater.release.traffic import indexes_in_use
    from headwater.serving.verdict_log import Verdicts

    choices, tables = settings.get(), lake.get()
    stats = index.publish_index(
        tables,
        vectors.get(),
        model_digest=models.encoder().digest,
        keep=indexes_in_use(choices),
    )
    metadata: dict[str, Any] = {
        "version": stats.version,
        "points": stats.points,
        "added": stats.added,
        "removed": stats.removed,
        "already_published": stats.reused,
    }
    drawn = embedding_map(tables, models.encoder().digest)
    found = outlying_documents(tables, drawn.outliers if drawn else (), choices.shards)
    save_outliers(choices, found)
    if drawn is not None:
        judged = Verdicts(choices).read()
        kept = {
            each.uri: judged[each.id].by
            for each in found
            if each.id in judged and judged[each.id].verdict == "keep"
        }
        metadata |= {
            "outliers": len(drawn.outliers),
            "map": dg.MetadataValue.md(map_document(drawn, kept).to_markdown()),
        }
    return dg.MaterializeResult(data_version=dg.DataVersion(stats.version), metadata=metadata)
