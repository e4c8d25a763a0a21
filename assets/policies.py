"""Freshness, automation, owners and versions, mapped over the graph in one place."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from assets.partitions import in_runs, settings, shards
from headwater.records import digest_of, short

DATA, ML, ONCALL = "team:data", "team:ml", "team:oncall"

#: Content-addressed work: run when there is nothing yet, when an input is a new version, or when
#: the code is. `eager()` would run on every upstream materialization, even of the same version.
#: A run in progress is awaited, so that a chain is not asked for twice.
_changed = (
    dg.AutomationCondition.missing()
    | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    | dg.AutomationCondition.code_version_changed()
)
on_change = (
    (
        _changed.since_last_handled()  # type: ignore[misc]
        | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
    )
    & ~dg.AutomationCondition.in_progress()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.any_deps_missing()
).with_label("on_change")

#: Age at which data that should follow its source is called stale.
follows_source = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=2), warn_window=timedelta(days=1)
)
#: Age at which a report on production says too little about today.
watches_production = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=48), warn_window=timedelta(hours=26)
)

#: For steps that talk to another process (the endpoint, MLflow), which may be starting: 2, 4 and 8
#: seconds later it may be there. Not for training, evaluation, checks or documents: what fails
#: there fails again, and a second hour of it tells nobody more.
talks_to_others = dg.RetryPolicy(
    max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)

#: What is one piece of work, whatever its shards: a source is listed once.
one_run = dg.BackfillPolicy.single_run()

#: Pools bound what runs at once across runs (limits in dagster.yaml).
TRAINING_POOL, DBT_POOL, BUILD_POOL = "training", "dbt", "documents"
#: Stages that work on shards by themselves: beside each other where these are pods, since each takes
#: a lock on every shard of its own.
of_shards: dict[str, Any] = {
    "partitions_def": shards,
    "backfill_policy": in_runs(settings),
    "pool": None if settings.executor == "pods" else BUILD_POOL,
}


def await_ancestors(assets: Iterable[Any]) -> list[Any]:
    """The assets, with `on_change` waiting for any of their ancestors that a run is making.

    A direct parent is waited for as it is. But of two parents that follow one change, one may be
    new while the other is not even asked for, since what it is made from is still being made:
    `golden_set` while `chunk_embeddings` runs. A report that were asked for now would judge an
    index that is about to be replaced. No condition of Dagster's looks further than parents, so
    the ancestors, which only the whole graph tells, are named one by one.
    """
    assets = list(assets)
    parents = {
        spec.key: {dep.asset_key for dep in spec.deps}
        for asset in assets
        if isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs
    }

    def further(key: dg.AssetKey) -> list[dg.AssetKey]:
        found: set[dg.AssetKey] = set()
        ahead = list(parents[key])
        while ahead:
            new = parents.get(ahead.pop(), set()) - found
            found |= new
            ahead.extend(new)
        return sorted(each for each in found - parents[key] - {key} if each in parents)

    def waiting(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.automation_condition != on_change:
            return spec
        condition: Any = on_change
        for ancestor in further(spec.key):
            condition &= ~dg.AutomationCondition.asset_matches(
                ancestor, dg.AutomationCondition.in_progress()
            )
        return spec.replace_attributes(automation_condition=condition.with_label("on_change"))

    return [
        asset.map_asset_specs(waiting) if isinstance(asset, dg.AssetsDefinition) else asset
        for asset in assets
    ]


def version(stage: str, *choices: Any) -> str:
    """The code version of an asset: its stage's version and the choices that shape its output.

    A changed choice (chunk size, recipe, model) then shows as a changed code version in the UI.
    """
    return f"{stage}-{short(digest_of(choices))}" if choices else stage


def version_of_run(
    context: dg.AssetExecutionContext, whole: str, by_shard: Mapping[str, str]
) -> dg.DataVersion:
    """The digest of the shards in a run: of the whole table where it has them all (ADR 7).

    Else what other runs have written in the meantime would show in it.

    Args:
        by_shard: the digest of each shard.
    """
    if len(context.partition_keys) == settings.shards:
        return dg.DataVersion(whole)
    return dg.DataVersion(digest_of([[key, by_shard[key]] for key in context.partition_keys]))


def note_shards(
    context: dg.AssetExecutionContext, per_shard: Mapping[str, Mapping[str, int]]
) -> None:
    """Put each shard's own counts on its partition, beside the totals of the run."""
    for shard in context.partition_keys:
        counts = per_shard.get(shard, {})
        context.add_asset_metadata(
            {f"shard_{name}": count for name, count in counts.items()}, partition_key=shard
        )


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], limit: int = 20) -> Any:
    """Rows as a Markdown table for the UI; cells are escaped, since they may be document text."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join(_cell(row.get(column)) for column in columns) + " |"
        for row in rows[:limit]
    ]
    if len(rows) > limit:
        lines.append(f"\n{len(rows) - limit} more rows.")
    return dg.MetadataValue.md("\n".join(lines))


def picture(png: bytes, alt: str) -> Any:
    """A PNG as Markdown that the UI shows in place."""
    import base64

    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(raw, safe)
    for mark in "[]`!":
        text = text.replace(mark, f"\\{mark}")
    return text if len(text) <= 200 else text[:199] + "…"
