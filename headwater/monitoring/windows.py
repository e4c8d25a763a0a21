"""Which requests are compared with which: the reference window and the current one.

Knows requests and releases, not how windows are compared. A reference belongs to one adapter: it is
the first requests that the adapter answered, so a retraining starts a new one by itself.
"""

import functools
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headwater.files import write_atomic
from headwater.lake import Lake
from headwater.records import digest_of, short
from headwater.release.manifest import load, manifest_path
from headwater.settings import Settings

_COLUMNS = [
    "trace",
    "time",
    "release",
    "arm",
    "status",
    "question",
    "answer",
    "refused",
    "uris",
    "scores",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Features of two sets of requests that the same adapter answered, oldest first.

    Each row holds `trace`, `question` and what a panel compares. `reference` is None while there
    are too few requests to make one.
    """

    reference: tuple[Mapping[str, Any], ...] | None
    current: tuple[Mapping[str, Any], ...]

    @property
    def reference_digest(self) -> str:
        """Names the reference window; empty where there is none."""
        return digest_of(self.reference) if self.reference is not None else ""


def windows(lake: Lake, settings: Settings, *, reference_size: int, current_size: int) -> Windows:
    """The stored reference window, made now if it can be, and the latest requests after it.

    Only requests that were answered (status `ok`) by a release that is still known count.
    """
    adapter_of = functools.cache(lambda release: _adapter(settings, release))
    days = pc.unique(lake.read("requests", columns=["day"]).column("day")).to_pylist()
    newest = next(_requests(lake, sorted(days, reverse=True), adapter_of, newest_first=True), None)
    if newest is None:
        return Windows(reference=None, current=())
    adapter = newest["adapter"]

    path = reference_path(settings, adapter)
    if not path.exists():
        oldest = (r for r in _requests(lake, sorted(days), adapter_of) if r["adapter"] == adapter)
        first = [_features(row) for row, _ in zip(oldest, range(reference_size), strict=False)]
        if len(first) < reference_size:
            return Windows(reference=None, current=tuple(first))
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(first), buffer)
        write_atomic(path, buffer.getvalue())
    reference = pq.read_table(path).to_pylist()

    taken = {row["trace"] for row in reference}
    current: list[dict[str, Any]] = []
    for row in _requests(lake, sorted(days, reverse=True), adapter_of, newest_first=True):
        if len(current) == current_size:
            break
        if row["adapter"] == adapter and row["trace"] not in taken:
            current.append(_features(row))
    return Windows(reference=tuple(reference), current=tuple(reversed(current)))


def reference_path(settings: Settings, adapter: str) -> Path:
    """Where the reference window of an adapter lies; remove the file to start another."""
    return settings.root / "monitoring" / f"reference-{short(digest_of(adapter))}.parquet"


def _requests(
    lake: Lake,
    days: list[str],
    adapter_of: Callable[[str], str | None],
    *,
    newest_first: bool = False,
) -> Iterator[dict[str, Any]]:
    """Answered requests, read day by day as they are asked for, with the adapter that answered."""
    for day in days:
        rows = lake.read("requests", columns=_COLUMNS, where={"day": [day]}).to_pylist()
        rows.sort(key=lambda row: (row["time"], row["trace"]), reverse=newest_first)
        for row in rows:
            adapter = adapter_of(row["release"])
            if row["status"] == "ok" and row["arm"] != "shadow" and adapter is not None:
                yield {**row, "adapter": adapter}


def _adapter(settings: Settings, release: str) -> str | None:
    """What answered for a release: its adapter, or the bare base; None for an unknown release."""
    if not manifest_path(settings, release).exists():
        return None
    known = load(settings, release)
    return known.adapter.id if known.adapter else known.base_model.digest


def _features(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "trace": row["trace"],
        "question": row["question"],
        "question_characters": float(len(row["question"])),
        "answer_characters": float(len(row["answer"])),
        # Nothing retrieved is the worst score there is, not a missing one.
        "top_score": max(row["scores"], default=0.0),
        "documents_cited": float(len(set(row["uris"]))),
        "refused": "yes" if row["refused"] else "no",
    }
