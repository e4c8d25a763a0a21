"""Burn rates: what fires, what does not, and a log that is read once."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from headwater.monitoring.slo import Traffic, burn_rates, read_traffic
from headwater.serving.request_log import log_folder
from headwater.settings import Settings

START = datetime(2026, 11, 1, tzinfo=UTC)
MINUTE = int(START.timestamp()) // 60


def firing(minutes: dict[int, tuple[int, int]], at: int) -> set[str]:
    now = datetime.fromtimestamp((MINUTE + at) * 60 + 30, UTC)
    traffic = Traffic(minutes=minutes, errors=())
    return {b.window.name for b in burn_rates(traffic, now=now, target=0.99) if b.firing}


def ordinary(days: int, seed: int = 0) -> dict[int, tuple[int, int]]:
    """Twenty requests a minute by day, three by night; one in a thousand fails."""
    random = np.random.default_rng(seed)
    counts = {}
    for minute in range(days * 1440):
        requests = int(random.poisson(20 if 480 <= minute % 1440 < 1200 else 3))
        counts[MINUTE + minute] = (requests, int(random.binomial(requests, 0.001)))
    return counts


def test_ordinary_days_fire_nothing() -> None:
    counts = ordinary(30)
    for at in range(4320, 30 * 1440, 30):
        kept = {minute: counts[minute] for minute in range(MINUTE + at - 4320, MINUTE + at + 1)}
        assert firing(kept, at) == set()


def test_an_incident_fires_fast_and_ends_soon_after() -> None:
    counts = ordinary(5)
    began = 4 * 1440 + 600
    for minute in range(began, began + 30):
        counts[MINUTE + minute] = (20, 10)
    fired = [at for at in range(began - 60, began + 120) if "fast" in firing(counts, at)]
    assert began < fired[0] <= began + 20  # 14.4% of an hour is 17 minutes at half
    assert began + 29 <= fired[-1] <= began + 36  # the short window lets go


def test_a_slow_leak_is_a_warning_not_a_page() -> None:
    random = np.random.default_rng(1)
    counts = {MINUTE + m: (20, int(random.binomial(20, 0.03))) for m in range(4 * 1440)}
    assert firing(counts, 4 * 1440 - 1) == {"slow"}


def test_one_unlucky_request_of_few_is_nobodys_page() -> None:
    assert firing({MINUTE + 100: (1, 1), MINUTE + 101: (3, 3)}, 101) == set()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def log(settings: Settings, when: datetime, *statuses: str, end: str = "\n") -> None:
    folder = log_folder(settings) / when.date().isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "1.jsonl").open("a") as file:
        for status in statuses:
            row = {"time": when.isoformat(), "status": status, "trace": "t", "release": "r"}
            file.write(json.dumps(row) + end)


def test_each_line_is_counted_once_and_a_torn_one_when_it_is_whole(settings: Settings) -> None:
    log(settings, START, "ok", "error", "aborted")
    log(settings, START, "error", end="")
    moment = START + timedelta(minutes=1)
    for _ in range(2):
        assert read_traffic(settings, now=moment).minutes == {MINUTE: (2, 1)}
    with (log_folder(settings) / "2026-11-01" / "1.jsonl").open("a") as file:
        file.write("\n{torn\n")
    log(settings, START, "ok")
    assert read_traffic(settings, now=moment).minutes == {MINUTE: (4, 2)}


def test_what_is_older_than_the_longest_window_is_forgotten(settings: Settings) -> None:
    log(settings, START, "error")
    read_traffic(settings, now=START)
    later = START + timedelta(days=4)
    log(settings, later, "ok")
    found = read_traffic(settings, now=later)
    assert len(found.minutes) == 1 and sum(found.minutes.values(), ()) == (1, 0)
