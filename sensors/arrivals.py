"""Notices what people put in: new, changed and vanished documents, questions they confirm, the
prompt they put in force, and documents they leave out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from headwater.datasets.golden import file_digest
from headwater.datasets.prompt_registry import digest_in_force
from headwater.documents.sources import Source, asset_name, list_items, listing_digest
from headwater.serving.verdict_log import left_out, verdicts_digest
from headwater.settings import Settings

#: Seconds that one tick may look at web sites and repositories; the next one goes on. Dagster ends a
#: tick after 60, which tables, databases, archives and stores that take longer to list run into.
_PATIENCE = 20.0


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What an input holds now, as an observation whose data version is a digest of it.

    `reads` is the asset that is stale where the digest is another than before.
    """

    event: dg.AssetObservation
    reads: str

    @property
    def name(self) -> str:
        return self.event.asset_key.to_user_string()


def look(
    sources: Sequence[Source], settings: Settings, until: float | None = None
) -> list[Arrival]:
    """Every input as it is now; listings are read, documents are not.

    Args:
        until: when looks at web sites and repositories must stop, of the monotonic clock.
    """
    questions = dg.AssetObservation(
        asset_key="golden_questions",
        tags={"dagster/data_version": file_digest(settings.golden_file)},
    )
    prompt = dg.AssetObservation(
        asset_key="prompt_registry",
        tags={"dagster/data_version": digest_in_force(settings)},
    )
    verdicts = dg.AssetObservation(
        asset_key="document_verdicts",
        tags={"dagster/data_version": verdicts_digest(left_out(settings))},
    )
    seen = [Arrival(event=_listing(source, until), reads="raw_documents") for source in sources]
    return [
        *seen,
        Arrival(event=questions, reads="golden_set"),
        Arrival(event=prompt, reads="prompt"),
        Arrival(event=verdicts, reads="clean_documents"),
    ]


def _listing(source: Source, until: float | None) -> dg.AssetObservation:
    items = list_items(source, until)
    return dg.AssetObservation(
        asset_key=asset_name(source),
        metadata={"documents": len(items), "bytes": sum(item.size for item in items)},
        tags={"dagster/data_version": listing_digest(items)},
    )


def arrivals_sensor(sources: list[Source]) -> dg.SensorDefinition:
    """A sensor that reports an input only when it is another than last time."""

    @dg.sensor(
        name="arrivals",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lists every source and reports those that changed, confirmed questions, the"
        " prompt in force, and documents that people left out.",
    )
    def arrivals(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = look(sources, Settings(), time.monotonic() + _PATIENCE)
        versions = {each.name: each.event.data_version or "" for each in seen}
        cursor = ";".join(f"{key}={version}" for key, version in sorted(versions.items()))
        before = dict(part.split("=", 1) for part in (context.cursor or "").split(";") if part)
        changed = [each.event for each in seen if before.get(each.name) != versions[each.name]]
        if not changed:
            return dg.SkipReason("no source has changed")
        return dg.SensorResult(asset_events=changed, cursor=cursor)

    return arrivals
