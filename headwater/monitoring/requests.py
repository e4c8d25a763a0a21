"""A day of the endpoint's request log becomes a partition of the lake's `requests` table.

Knows the log and the lake, not what requests mean.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.records import digest_of
from headwater.serving.request_log import read_requests
from headwater.settings import Settings

#: Part of the digest of a day: change it when the same log gives other rows.
STAGE_VERSION = "1"
log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestStats:
    """What a day's log held. `torn` lines were cut by a kill or are no request at all."""

    day: str
    rows: int
    torn: int
    written: bool  # False where the lake already held these very rows
    digest: str


def ingest_day(lake: Lake, settings: Settings, day: str) -> IngestStats:
    """Replace a day of `requests` with what the log holds; the same log twice writes once.

    Args:
        day: UTC date, `YYYY-MM-DD`.

    Raises:
        HeadwaterError: `day` is no date.
    """
    try:
        day = date.fromisoformat(day).isoformat()
    except ValueError as error:
        raise HeadwaterError(
            f"{day!r} is no day.", mend="Give a UTC date as YYYY-MM-DD."
        ) from error
    logged = read_requests(settings, day)
    whole = _whole([row for row in logged.rows if row["day"] == day])
    torn = logged.torn + len(logged.rows) - len(whole)
    if torn:
        log.warning("requests of %s: %d torn lines were left out", day, torn)
    table = rows_to_table("requests", whole)
    digest = _digest(table)
    written = digest != _digest(lake.read("requests", where={"day": [day]}))
    if written:
        lake.replace("requests", table, keys=[day])
    return IngestStats(day=day, rows=len(whole), torn=torn, written=written, digest=digest)


def _whole(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose fields have the table's types; one bad line must not stop a day."""
    try:
        rows_to_table("requests", rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # A single row is known to be bad by the same exception, so halves lead to it quickly.
        if len(rows) == 1:
            return []
        half = len(rows) // 2
        return _whole(rows[:half]) + _whole(rows[half:])
    return list(rows)


def _digest(table: pa.Table) -> str:
    rows = [{**row, "time": row["time"].isoformat()} for row in table.to_pylist()]
    return digest_of(STAGE_VERSION, sorted(digest_of(row) for row in rows))
