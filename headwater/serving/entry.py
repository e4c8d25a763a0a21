"""The log entry of a request, from what is known of its answer."""

from headwater.guardrails.decisions import told
from headwater.release.canary import ungrounded
from headwater.serving.answer import Response
from headwater.serving.footprint import Footprint
from headwater.serving.job import Job, Twin
from headwater.serving.request_log import RequestEntry, Status, session_of


def entry_of(
    job: Job | Twin, response: Response | None, status: Status, spent: Footprint
) -> RequestEntry:
    """What the log keeps; an entry without a response tells of a request that had none."""
    hits = response.hits if response else []
    return RequestEntry(
        trace=job.trace,
        time=job.time,
        release=job.release,
        arm=job.arm,
        session=session_of(job.key),
        key=job.caller.key,
        question=response.question if response else "",
        answer=response.text if response else "",
        status=status,
        streamed=job.streamed,
        refused=bool(response and response.refused),
        ungrounded=ungrounded_of(response) if response and status == "ok" else None,
        guard=told(response.decisions if response else ()),
        uris=tuple(hit.uri for hit in hits),
        scores=tuple(hit.score for hit in hits),
        chunk_ids=tuple(hit.id for hit in hits),
        prompt_tokens=response.prompt_tokens if response else 0,
        completion_tokens=response.completion_tokens if response else 0,
        retrieve_ms=response.retrieve_ms if response else 0.0,
        generate_ms=response.generate_ms if response else 0.0,
        total_ms=job.seconds * 1000,
        energy_wh=spent.energy_wh,
        cost=spent.cost,
        spans=job.spans.records(),
    )


def ungrounded_of(response: Response) -> float | None:
    """Part of the answer's words that stand in none of its passages; None for a refusal."""
    if response.refused:
        return None
    return ungrounded(response.text, [f"{hit.heading} {hit.text}" for hit in response.hits])
