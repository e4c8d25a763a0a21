"""Great Expectations on documents and chunks; a failure stops what is downstream."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from assets.documents import (
    MEASURED_OF,
    MEASURES,
    clean_documents,
    document_shards,
    duplicates,
)
from assets.embeddings import vector_index
from assets.partitions import settings
from assets.policies import table
from headwater.documents import quality
from headwater.documents.anomalies import LEAST_BUILDS, MOST_BUILDS, anomalies
from headwater.documents.asked import QualityResult, worst_first
from headwater.documents.suites import load_suite
from headwater.files import write_atomic
from resources.lake import LakeResource

#: Shards that a check shows, those that fail first.
_MOST_SHARDS = 50
#: Materializations that are looked through for builds that changed something.
_MOST_RECORDS = 4 * MOST_BUILDS
#: Whose materialization has documents and chunks checked. Expectations are of a whole table: where its
#: shards are made by several runs, it is asked when all of them are done, by what comes next.
_AFTER_DOCUMENTS, _AFTER_CHUNKS = (
    (duplicates, vector_index)
    if settings.executor == "pods"
    else (clean_documents, document_shards)
)


def _result(name: str, result: QualityResult) -> dg.AssetCheckResult:
    from headwater.evaluation.quality_page import quality_document

    page = settings.reports / "quality" / f"{name}.html"
    write_atomic(page, quality_document(f"Quality of {name}", result).to_html())
    failing = [each for each in result.expectations if not each["success"]]
    metadata: dict[str, Any] = {
        "expectations": table(
            result.expectations, ["expectation", "column", "success", "unexpected"]
        ),
        **result.statistics,
        "shards": table(
            worst_first(result.shards),
            ["shard", "rows", "unexpected", "status"],
            _MOST_SHARDS,
        ),
        "page": dg.MetadataValue.path(str(page)),
    }
    if result.failing_rows:
        metadata["failing_rows"] = table(result.failing_rows, ["uri", "column", "value"])
    return dg.AssetCheckResult(
        passed=result.success,
        metadata=metadata,
        description="; ".join(f"{each['expectation']} on {each['column']}" for each in failing)
        or "every expectation holds",
    )


@dg.asset_check(asset=_AFTER_DOCUMENTS, blocking=True)
def documents_meet_expectations(lake: LakeResource) -> dg.AssetCheckResult:
    """Unique URIs, text within bounds, known language, well-formed digests."""
    suite = load_suite("documents", settings.expectations)
    return _result("documents", quality.validate_documents(lake.get(), suite))


@dg.asset_check(asset=_AFTER_CHUNKS, blocking=True)
def chunks_meet_expectations(lake: LakeResource) -> dg.AssetCheckResult:
    """Unique ids, tokens within the bound, spans that follow one another without a gap."""
    suite = load_suite("chunks", settings.expectations)
    result = quality.validate_chunks(lake.get(), settings.chunk_tokens, suite)
    return _result("chunks", result)


@dg.asset_check(asset=duplicates)
def corpus_is_as_usual(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """A warning where volume, length, duplicates or languages are unlike those of earlier builds.

    Bounds are five median absolute deviations (scaled) around the median of the last builds that
    changed a document, and at least a tenth of it, half of it for the documents of one source, or five
    points of a share. Nothing is said before the sixth build.
    """
    records = context.instance.fetch_materializations(duplicates.key, limit=_MOST_RECORDS).records
    now, *earlier = _builds([record.asset_materialization for record in records]) or [{}]
    found = anomalies(now, earlier)
    description = "; ".join(map(str, found)) or "nothing is unusual"
    if len(earlier) < LEAST_BUILDS:
        description = f"{len(earlier)} earlier builds are known, {LEAST_BUILDS} are compared with"
    rows = [asdict(each) for each in found]
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "builds": len(earlier),
            "unusual": table(rows, ["measure", "value", "median", "low", "high"]),
        },
        description=description,
    )


def _builds(newest_first: Sequence[dg.AssetMaterialization | None]) -> list[dict[str, float]]:
    """What builds measured, without those that found the documents of the build before them."""
    builds, after = list[dict[str, float]](), ""
    for materialization in newest_first:
        measured = _measures(materialization)
        metadata: Mapping[str, Any] = materialization.metadata if materialization else {}
        kept = metadata.get(MEASURED_OF)
        of = str(kept.value) if kept else ""
        if measured and not (of and of == after):
            builds.append(measured)
        after = of
    return builds


def _measures(materialization: dg.AssetMaterialization | None) -> dict[str, float]:
    """What a build measured; nothing where it was made before there was such a thing."""
    metadata: Mapping[str, Any] = materialization.metadata if materialization else {}
    kept = metadata.get(MEASURES)
    value = kept.value if kept else None
    if not isinstance(value, Mapping):
        return {}
    return {str(name): float(each) for name, each in value.items()}
