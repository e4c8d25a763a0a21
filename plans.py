"""What a build would do: the assets of `definitions` that are stale, and what sources have for them.

What is stale is what Dagster says is stale: an asset whose inputs have other data versions than
those it was made from, or whose code version changed. Training is a decision of its own: a build trains
when there is no adapter, or when its base model or recipe changed, and otherwise only when asked to.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    CachingStaleStatusResolver,
    StaleCauseCategory,
    StaleStatus,
)
from dagster._core.loader import LoadingContextForTest

from assets.sources import source_entries
from definitions import defs
from headwater.documents import removals
from headwater.documents.raw import Foreseen, foresee
from headwater.documents.sources import Source, asset_name
from headwater.lake import Lake
from headwater.records import SourceItem
from headwater.settings import Settings
from sensors.arrivals import PATIENCE, Arrival, look

#: Rebuilt by a decision to retrain, not because a document changed.
TRAINING = ("sft_dataset", "lora_adapter")
#: Looked at by the monitoring job, not by a build.
MONITORING = ("requests", "feedback", "drift_report", "retraining_decision", "ab_report")
#: Housekeeping of its own schedule.
RETENTION = ("lake_retention",)
#: From the sources to what answers are looked up in.
_TO_INDEX = (
    "raw_documents", "clean_documents", "duplicates", "document_shards", "chunk_embeddings",
    "vector_index",
)  # fmt: skip
#: The code that wrote a table which was held, in Dagster's eyes: not the present one.
HELD = "held"
#: The "partition" of an asset that has none.
_WHOLE: tuple[None] = (None,)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build would do, in the order it would do it."""

    stale: tuple[str, ...]
    deferred: tuple[str, ...]
    reasons: dict[str, str]
    observed: tuple[dg.AssetObservation, ...] = field(repr=False)
    #: Sources that lost too many documents to be read, and what the build will say of each.
    refused: dict[str, str] = field(default_factory=dict)
    #: What each source has for a build, by its listing.
    documents: dict[str, Foreseen] = field(default_factory=dict)


def make_plan(
    instance: dg.DagsterInstance, settings: Settings, *, train: bool, foretell: bool = False
) -> Plan:
    """What is stale and why.

    Args:
        foretell: also what there is to do about documents; looks at sites are not waited for then.
    """
    graph = defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    reasons: dict[str, str] = {}
    observed = []
    until = time.monotonic() + PATIENCE if foretell else None
    arrivals = look(source_entries, settings, until)
    arrived: dict[str, list[str]] = {}
    for arrival in arrivals:
        known = resolver.get_current_data_version(arrival.event.asset_key)
        if known.value != arrival.event.data_version:
            observed.append(arrival.event)
            arrived.setdefault(arrival.reads, []).append(arrival.name)
    reasons |= {name: f"{', '.join(inputs)} changed" for name, inputs in arrived.items()}
    shards = settings.shard_keys()
    must_train = train
    for key in graph.toposorted_asset_keys:
        name = key.to_user_string()
        node = graph.get(key)
        if not node.is_materializable or name in (*MONITORING, *RETENTION):
            continue
        causes = causes_of(resolver, key, shards if node.is_partitioned else _WHOLE)
        if causes is None:
            reasons.setdefault(name, "never built")
            must_train = must_train or name in TRAINING
        elif causes:
            reasons.setdefault(name, reason_of(instance, key, causes[0]))
            must_train = must_train or _forces_training(name, causes)
    if train:
        reasons.update(dict.fromkeys(TRAINING, "asked for"))
    deferred = [] if must_train else [name for name in TRAINING if name in reasons]
    starts = {
        dg.AssetKey(name.split("/")) for name in reasons if must_train or name not in TRAINING
    }
    stale = _downstream(graph, starts, stop=() if must_train else TRAINING)
    # What a retraining would teach is known to differ only once these are made.
    if not must_train and {"vector_index", "prompt"} & set(stale):
        deferred = list(TRAINING)
    return Plan(
        stale=tuple(stale),
        deferred=tuple(deferred),
        reasons=reasons,
        observed=tuple(observed),
        refused=_refused(settings, arrivals) if foretell and "raw_documents" in stale else {},
        documents=_foreseen(settings, arrivals) if foretell and "raw_documents" in stale else {},
    )


def _listed(arrivals: Sequence[Arrival]) -> list[tuple[Source, Sequence[SourceItem]]]:
    found = {each.name: each.items for each in arrivals}
    return [(source, found[asset_name(source)]) for source in source_entries]


def _refused(settings: Settings, arrivals: Sequence[Arrival]) -> dict[str, str]:
    listed = {source.name: len(items) for source, items in _listed(arrivals)}
    refusals = removals.refusals(Lake(settings.lake), source_entries, listed)
    return {name: str(error) for name, error in refusals.items()}


def _foreseen(settings: Settings, arrivals: Sequence[Arrival]) -> dict[str, Foreseen]:
    lake = Lake(settings.lake)
    if "raw_documents" in lake.holds():
        return {}
    return foresee(lake, _listed(arrivals), settings.shards, settings.max_document_bytes)


def seconds_a_document(instance: dg.DagsterInstance) -> float | None:
    """From source to index, of the build that made the most documents lately; None before any.

    A build of few documents is mostly what every build takes, so it says little of many.
    """
    records = instance.fetch_materializations(dg.AssetKey("clean_documents"), limit=100).records
    made: dict[str, int] = {}
    for record in records:
        event = record.asset_materialization
        count = event.metadata.get("processed") if event is not None else None
        if count is not None and isinstance(count.value, int):
            made[record.run_id] = count.value
    run, most = max(made.items(), key=lambda each: each[1], default=("", 0))
    if not most:
        return None
    stages = instance.get_run_step_stats(run, [*_TO_INDEX])
    seconds = [
        each.end_time - each.start_time for each in stages if each.start_time and each.end_time
    ]
    return sum(seconds) / most


def causes_of(
    resolver: CachingStaleStatusResolver, key: dg.AssetKey, partitions: Sequence[str | None]
) -> list[Any] | None:
    """Why an asset is stale, [] where it is fresh, None where any of it was never made."""
    causes: list[Any] = []
    for partition in partitions:
        status = resolver.get_status(key, partition)
        if status is StaleStatus.MISSING:
            return None
        if status is StaleStatus.STALE:
            causes.extend(resolver.get_stale_causes(key, partition))
    return causes


def reason_of(instance: dg.DagsterInstance, key: dg.AssetKey, cause: Any) -> str:
    """Why an asset is stale, in words."""
    if cause.category is StaleCauseCategory.CODE:
        event = instance.get_latest_materialization_event(key)
        made = event.asset_materialization if event is not None else None
        if made is not None and (made.tags or {}).get(CODE_VERSION_TAG) == HELD:
            return "was held, and follows its inputs again"
    return str(cause.reason)


def _forces_training(name: str, causes: Sequence[Any]) -> bool:
    """Whether an adapter can't serve on: another recipe or base, or a retraining cut short."""
    if name not in TRAINING:
        return False
    depends_on = {
        cause.dependency_asset_key.to_user_string()
        for cause in causes
        if cause.dependency is not None
    }
    return (
        any(cause.category is StaleCauseCategory.CODE for cause in causes)
        or "base_model" in depends_on
        or (name == "lora_adapter" and "sft_dataset" in depends_on)
    )


def _downstream(graph: Any, starts: set[dg.AssetKey], stop: Sequence[str]) -> list[str]:
    """`starts` and all that is downstream of them but `stop`, in topological order."""
    chosen: set[dg.AssetKey] = set()
    excluded = {*stop, *MONITORING, *RETENTION}
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if not node.is_materializable or key.to_user_string() in excluded:
            continue
        if key in starts or node.parent_keys & chosen:
            chosen.add(key)
    return [key.to_user_string() for key in graph.toposorted_asset_keys if key in chosen]
