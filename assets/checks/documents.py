"""Great Expectations on documents and chunks; a failure stops what is downstream."""

from typing import Any

import dagster as dg

from assets.documents import clean_documents, document_shards
from assets.partitions import settings
from assets.policies import table
from headwater.documents import quality
from resources.lake import LakeResource


def _result(result: quality.QualityResult) -> dg.AssetCheckResult:
    failing = [each for each in result.expectations if not each["success"]]
    metadata: dict[str, Any] = {
        "expectations": table(
            result.expectations, ["expectation", "column", "success", "unexpected"]
        ),
        **result.statistics,
    }
    if result.failing_rows:
        metadata["failing_rows"] = table(result.failing_rows, ["uri", "column", "value"])
    return dg.AssetCheckResult(
        passed=result.success,
        metadata=metadata,
        description="; ".join(f"{each['expectation']} on {each['column']}" for each in failing)
        or "every expectation holds",
    )


@dg.asset_check(asset=clean_documents, blocking=True)
def documents_meet_expectations(lake: LakeResource) -> dg.AssetCheckResult:
    """Unique URIs, text within bounds, known language, well-formed digests."""
    return _result(quality.validate_documents(lake.get()))


@dg.asset_check(asset=document_shards, blocking=True)
def chunks_meet_expectations(lake: LakeResource) -> dg.AssetCheckResult:
    """Unique ids, tokens within the bound, spans that follow one another without a gap."""
    return _result(quality.validate_chunks(lake.get(), max_tokens=settings.chunk_tokens))
