"""Notices new, changed and vanished documents: observes each source by its listing."""

import dagster as dg

from headwater.documents.sources import Source, asset_name, list_items, listing_digest


def observation(source: Source) -> dg.AssetObservation:
    """What a source holds now, as an observation whose data version is its listing's digest."""
    items = list_items(source)
    return dg.AssetObservation(
        asset_key=asset_name(source),
        metadata={"documents": len(items), "bytes": sum(item.size for item in items)},
        tags={"dagster/data_version": listing_digest(items)},
    )


def arrivals_sensor(sources: list[Source]) -> dg.SensorDefinition:
    """A sensor that reports a source only when its listing is another than last time."""

    @dg.sensor(
        name="arrivals",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lists every source and reports those that changed.",
    )
    def arrivals(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = [observation(source) for source in sources]
        versions = {each.asset_key.to_user_string(): each.data_version or "" for each in seen}
        cursor = ";".join(f"{key}={version}" for key, version in sorted(versions.items()))
        before = dict(part.split("=", 1) for part in (context.cursor or "").split(";") if part)
        changed = [
            each
            for each in seen
            if before.get(each.asset_key.to_user_string()) != (each.data_version or "")
        ]
        if not changed:
            return dg.SkipReason("no source has changed")
        return dg.SensorResult(asset_events=changed, cursor=cursor)

    return arrivals
