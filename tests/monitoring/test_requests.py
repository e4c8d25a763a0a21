"""A day's log in the lake: whole rows only, written once."""

import json
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.monitoring.requests import ingest_day
from headwater.serving.request_log import RequestEntry, RequestLog, log_folder
from headwater.settings import Settings
from tests.monitoring.conftest import ask

DAY = "2026-01-02"


def write(settings: Settings, *rows: dict[str, Any]) -> Path:
    """Log requests as the endpoint does; returns the file."""
    log = RequestLog(log_folder(settings))
    for row in rows:
        lists = {name: tuple(row[name]) for name in ("uris", "scores", "chunk_ids")}
        log.append(RequestEntry(**{k: v for k, v in row.items() if k != "day"} | lists))
    log.close()
    [*_, newest] = sorted((log_folder(settings) / DAY).iterdir())
    return newest


def traces(lake: Lake) -> list[str]:
    return sorted(lake.read("requests").column("trace").to_pylist())


def test_days_log_becomes_rows(lake: Lake, settings: Settings) -> None:
    rows = ask("r1", 3)
    write(settings, *rows)
    stats = ingest_day(lake, settings, DAY)
    assert (stats.rows, stats.torn, stats.written) == (3, 0, True)
    assert lake.read("requests").sort_by("trace").to_pylist() == rows


def test_same_log_again_writes_nothing(lake: Lake, settings: Settings) -> None:
    write(settings, *ask("r1", 3))
    first = ingest_day(lake, settings, DAY)
    version = lake.version("requests")
    again = ingest_day(lake, settings, DAY)
    assert (again.written, again.digest) == (False, first.digest)
    assert lake.version("requests") == version


def test_longer_log_replaces_the_day_and_no_other(lake: Lake, settings: Settings) -> None:
    write(settings, *ask("r1", 2))
    write(settings, *ask("r1", 1, day="2026-01-01"), *ask("r1", 1, first=7))
    first = ingest_day(lake, settings, DAY)
    ingest_day(lake, settings, "2026-01-01")
    write(settings, *ask("r1", 1, first=9))
    second = ingest_day(lake, settings, DAY)
    assert (second.rows, second.digest != first.digest) == (4, True)
    assert len(traces(lake)) == 5


def test_torn_and_foreign_lines_are_counted_and_left_out(lake: Lake, settings: Settings) -> None:
    path = write(settings, *ask("r1", 5))
    lines = path.read_bytes().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"scores": ["high"]}).encode()
    lines[3] = json.dumps(json.loads(lines[3]) | {"day": "2020-01-01"}).encode()
    path.write_bytes(b"\n".join(lines[:4]) + b"\n" + lines[4][:30])
    stats = ingest_day(lake, settings, DAY)
    assert (stats.rows, stats.torn) == (2, 3)
    assert traces(lake) == [json.loads(lines[i])["trace"] for i in (0, 2)]


def test_day_without_a_log_is_empty(lake: Lake, settings: Settings) -> None:
    stats = ingest_day(lake, settings, DAY)
    assert (stats.rows, stats.written) == (0, False)


def test_what_is_no_day_is_said(lake: Lake, settings: Settings) -> None:
    with pytest.raises(HeadwaterError, match="YYYY-MM-DD"):
        ingest_day(lake, settings, "../secrets")
