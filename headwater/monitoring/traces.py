"""Single requests, read back from the endpoint's durable log: what was asked, what answered it.

Knows the logs and releases; the lake's `requests` table is for many requests at once.
"""

import json
from itertools import islice
from typing import Any

from headwater.errors import HeadwaterError
from headwater.release import manifest
from headwater.serving import durable_log, feedback_log
from headwater.serving.request_log import logged_days, read_requests
from headwater.settings import Settings


def latest(settings: Settings, limit: int) -> list[dict[str, Any]]:
    """The latest `limit` requests as plain JSON, oldest first: `requests` without their spans."""
    newest = (
        row
        for day in reversed(logged_days(settings))
        for row in reversed(read_requests(settings, day).rows)
    )
    latest = [_plain(row) for row in islice(newest, limit)][::-1]
    return [{name: row[name] for name in row if name != "spans"} for row in latest]


def find(settings: Settings, trace: str) -> dict[str, Any]:
    """One request as plain JSON, by its trace or an unambiguous beginning of it.

    Returns:
        The fields of `requests`, the attributes of spans as mappings; `parts`, what the release that answered is made of; `feedback`,
        what people said of it, since.

    Raises:
        HeadwaterError: there is none, or more than one on the day that has any.
    """
    rows: list[dict[str, Any]] = []
    for day in reversed(logged_days(settings) if trace else []):
        rows = [row for row in read_requests(settings, day).rows if row["trace"].startswith(trace)]
        if rows:
            break
    if len(rows) != 1:
        raise HeadwaterError(
            f"{len(rows)} requests have a trace that begins with {trace!r}.",
            mend="`headwater traces tail` lists the latest; give more of the id.",
        )
    (row,) = rows
    return {
        **_plain(row),
        "spans": [{**span, "attributes": json.loads(span["attributes"])} for span in row["spans"]],
        "parts": _parts(settings, row["release"]),
        "feedback": _feedback(settings, row["trace"], since=row["day"]),
    }


def _parts(settings: Settings, release_id: str) -> dict[str, str]:
    """What the release that answered is made of; its id alone where the manifest is gone."""
    if not release_id or not manifest.manifest_path(settings, release_id).exists():
        return {"release": release_id}
    release = manifest.load(settings, release_id)
    return {
        "release": release.id,
        "base": release.base_model.name,
        "adapter": release.adapter.id if release.adapter else "none",
        "prompt": release.prompt.digest,
        "index": release.index,
        "guards": release.guardrails,
        "run": release.run_id,
        "commit": release.commit,
    }


def _feedback(settings: Settings, trace: str, *, since: str) -> list[dict[str, Any]]:
    """What was said of a trace; the same said twice is there once."""
    said = {
        row["id"]: _plain(row)
        for day in durable_log.logged_days(feedback_log.log_folder(settings))
        if day >= since
        for row in feedback_log.read_feedback(settings, day).rows
        if row["trace"] == trace
    }
    return list(said.values())


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "time": row["time"].isoformat()}
