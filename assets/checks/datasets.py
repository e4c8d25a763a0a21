"""The contamination firewall: nothing that judges may teach, and nothing that is restricted."""

from collections.abc import Sequence

import dagster as dg

from assets.datasets import golden_set, preference_pairs, sft_dataset
from assets.policies import table
from headwater.datasets import firewall
from headwater.datasets.golden import read_golden
from headwater.datasets.preferences import pair_leaks, read_pairs
from headwater.datasets.restricted import restricted_rows
from headwater.datasets.sft import read_rows
from resources.lake import LakeResource


@dg.asset_check(asset=sft_dataset, blocking=True, additional_deps=[golden_set])
def no_golden_item_in_training(lake: LakeResource) -> dg.AssetCheckResult:
    """No training row is, or nearly is, a golden question; read back from the table."""
    store = lake.get()
    return _no_leaks(firewall.leaks(read_rows(store), read_golden(store)))


@dg.asset_check(asset=preference_pairs, blocking=True, additional_deps=[golden_set])
def no_golden_item_in_preferences(lake: LakeResource) -> dg.AssetCheckResult:
    """No pair's question or answer is, or nearly is, golden; read back from the table."""
    store = lake.get()
    return _no_leaks(pair_leaks(read_pairs(store), read_golden(store)))


def _no_leaks(leaks: Sequence[firewall.Leak]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not leaks,
        metadata={
            "leaks": table(
                [
                    {"row": leak.row_id, "golden": leak.golden_id, "similarity": leak.similarity}
                    for leak in leaks
                ],
                ["row", "golden", "similarity"],
            )
        },
    )


@dg.asset_check(asset=sft_dataset, blocking=True)
def no_restricted_rows(lake: LakeResource) -> dg.AssetCheckResult:
    """No training row is made of a document tagged `restricted`, or shows one; read back.

    Nor is one a correction of an answer that was given from one, also where that is gone by now.
    """
    return _none_restricted(lake, "sft_dataset")


@dg.asset_check(asset=preference_pairs, blocking=True)
def no_restricted_pairs(lake: LakeResource) -> dg.AssetCheckResult:
    """No pair shows a document tagged `restricted`; read back from the table.

    Nor was an answer of one given from one, also where that is gone by now.
    """
    return _none_restricted(lake, "preference_pairs")


def _none_restricted(lake: LakeResource, name: str) -> dg.AssetCheckResult:
    found = restricted_rows(lake.get(), name)
    return dg.AssetCheckResult(
        passed=not found,
        metadata={
            "restricted_rows": len({row.row_id for row in found}),
            "rows": table(
                [{"row": row.row_id, "place": row.place, "document": row.uri} for row in found],
                ["row", "place", "document"],
            ),
        },
    )


@dg.asset_check(asset=sft_dataset, blocking=True)
def enough_rows_to_train(lake: LakeResource) -> dg.AssetCheckResult:
    """There is something to learn from: at least 2 rows, every one with a source chunk."""
    rows = read_rows(lake.get())
    without = [row.id for row in rows if not row.chunk_id]
    return dg.AssetCheckResult(
        passed=len(rows) >= 2 and not without,
        metadata={"rows": len(rows), "without_source_chunk": without[:20]},
    )


@dg.asset_check(asset=golden_set)
def golden_set_is_curated(lake: LakeResource) -> dg.AssetCheckResult:
    """A warning while only provisional questions judge; `headwater golden review` mends it."""
    items = read_golden(lake.get())
    curated = sum(not item.provisional for item in items)
    return dg.AssetCheckResult(
        passed=curated > 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"curated": curated, "provisional": len(items) - curated},
    )
