"""Group `sources`: what people put in. One observed asset for each entry of sources.yaml, one for
the questions they confirm, one for the prompt they put in force, and one for the documents they left
out.

A source's data version is the digest of its listing, so that listing decides what is stale and
bytes are read only where the listing changed.
"""

import dagster as dg

from assets.policies import DATA, ML
from headwater.documents.sources import (
    Source,
    asset_name,
    list_items,
    listing_digest,
    load_sources,
)
from headwater.settings import Settings


def _observed(source: Source) -> dg.SourceAsset:
    @dg.observable_source_asset(
        name=asset_name(source),
        group_name="sources",
        description=f"Documents of the {source.kind} source `{source.name}`, by their listing.",
        metadata={
            "kind": source.kind,
            "licence": source.licence,
            "access": ", ".join(source.access) or "none",
        },
        tags={"owner": DATA.removeprefix("team:")},
    )
    def observe() -> dg.ObserveResult:
        items = list_items(source)
        return dg.ObserveResult(
            data_version=dg.DataVersion(listing_digest(items)),
            metadata={
                "documents": len(items),
                "bytes": sum(item.size for item in items),
                "examples": dg.MetadataValue.json([item.uri for item in items[:10]]),
            },
        )

    return observe


@dg.observable_source_asset(group_name="sources", tags={"owner": ML.removeprefix("team:")})
def golden_questions() -> dg.ObserveResult:
    """Questions that people added, confirmed or rejected by `headwater golden`."""
    from headwater.datasets.golden import file_digest

    return dg.ObserveResult(data_version=dg.DataVersion(file_digest(Settings().golden_file)))


@dg.observable_source_asset(group_name="sources", tags={"owner": ML.removeprefix("team:")})
def prompt_registry() -> dg.ObserveResult:
    """The prompt that is in force: what the alias `candidate` names in MLflow's prompt registry."""
    from headwater.datasets.prompt_registry import digest_in_force

    return dg.ObserveResult(data_version=dg.DataVersion(digest_in_force(Settings())))


@dg.observable_source_asset(group_name="sources", tags={"owner": DATA.removeprefix("team:")})
def document_verdicts() -> dg.ObserveResult:
    """Documents that people left out of the corpus on the endpoint's page of outliers."""
    from headwater.serving.verdict_log import left_out, verdicts_digest

    entries = left_out(Settings())
    return dg.ObserveResult(
        data_version=dg.DataVersion(verdicts_digest(entries)),
        metadata={
            "documents": len(entries),
            "examples": dg.MetadataValue.json([each.uri for each in entries[:10]]),
        },
    )


settings = Settings()
source_entries = load_sources(settings.sources_file)
source_assets = [
    *(_observed(source) for source in source_entries),
    golden_questions,
    prompt_registry,
]
