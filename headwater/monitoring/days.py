"""A day of one of the endpoint's logs becomes a partition of a table of the lake.

Knows rows and tables, not what they mean.
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
from headwater.serving.durable_log import LoggedDay

log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestStats:
    """What a day's log held. `torn` lines were cut by a kill or are no entry at all."""

    day: str
    rows: int
    torn: int
    written: bool  # False where the lake already held these very rows
    digest: str


def as_day(text: str) -> str:
    """A UTC date as `YYYY-MM-DD`.

    Raises:
        HeadwaterError: the text is no date.
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise HeadwaterError(
            f"{text!r} is no day.", mend="Give a UTC date as YYYY-MM-DD."
        ) from error


def ingest(lake: Lake, name: str, day: str, logged: LoggedDay, *, version: str) -> IngestStats:
    """Replace a day of a table with what its log holds; the same log twice writes once.

    Args:
        name: of the table, which is partitioned by day.
        version: part of the digest: change it when the same log gives other rows.
    """
    whole = _whole(name, [row for row in logged.rows if row["day"] == day])
    torn = logged.torn + len(logged.rows) - len(whole)
    if torn:
        log.warning("%s of %s: %d torn lines were left out", name, day, torn)
    table = rows_to_table(name, whole)
    digest = _digest(table, version)
    written = digest != _digest(lake.read(name, where={"day": [day]}), version)
    if written:
        lake.replace(name, table, keys=[day])
    return IngestStats(day=day, rows=len(whole), torn=torn, written=written, digest=digest)


def _whole(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose fields have the table's types; one bad line must not stop a day."""
    try:
        rows_to_table(name, rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # A single row is known to be bad by the same exception, so halves lead to it quickly.
        if len(rows) == 1:
            return []
        half = len(rows) // 2
        return _whole(name, rows[:half]) + _whole(name, rows[half:])
    return list(rows)


def _digest(table: pa.Table, version: str) -> str:
    rows = [{**row, "time": row["time"].isoformat()} for row in table.to_pylist()]
    return digest_of(version, sorted(digest_of(row) for row in rows))
