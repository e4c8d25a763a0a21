"""The request log survives what it is for: kills, full disks, many writers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headwater.lake import rows_to_table
from headwater.serving import durable_log
from headwater.serving.durable_log import DurableLogError
from headwater.serving.request_log import (
    RequestEntry,
    RequestLog,
    log_folder,
    logged_days,
    read_requests,
)
from headwater.settings import Settings
from headwater.tables import SCHEMAS

DAY = "2026-03-01"


def entry(trace: str = "t", **changes: Any) -> RequestEntry:
    fields: dict[str, Any] = {
        "trace": trace,
        "time": datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC),
        "release": "r" * 64,
        "arm": "champion",
        "session": "s",
        "ungrounded": 0.5,
        "guard": ("pii redacted 1",),
        "question": "What is a \N{SNOWMAN}?\nSecond line",
        "answer": "Snow.",
        "status": "ok",
        "streamed": False,
        "refused": False,
        "uris": ("a", "b"),
        "scores": (0.5, 0.25),
        "chunk_ids": ("c1", "c2"),
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "retrieve_ms": 1.5,
        "generate_ms": 2.5,
        "total_ms": 4.5,
    }
    return RequestEntry(**{**fields, **changes})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def only_file(settings: Settings, day: str = DAY) -> Path:
    (path,) = (log_folder(settings) / day).glob("*.jsonl")
    return path


def test_entries_come_back_as_rows_of_the_lake_table(settings: Settings) -> None:
    log = RequestLog(log_folder(settings))
    log.append(entry("b"))
    log.append(entry("a"))
    log.close()
    day = read_requests(settings, DAY)
    assert [row["trace"] for row in day.rows] == ["a", "b"]
    assert day.torn == 0
    assert set(day.rows[0]) == set(SCHEMAS["requests"].names)
    table = rows_to_table("requests", day.rows)
    assert table.column("time")[0].as_py() == entry().time
    assert table.column("question")[0].as_py() == entry().question
    assert table.column("uris")[0].as_py() == ["a", "b"]


def test_an_entry_is_on_disk_when_append_returns(settings: Settings) -> None:
    log = RequestLog(log_folder(settings))
    log.append(entry())
    assert json.loads(only_file(settings).read_text())["trace"] == "t"
    log.close()


def test_a_request_belongs_to_the_day_of_its_arrival_in_utc(settings: Settings) -> None:
    log = RequestLog(log_folder(settings))
    late = datetime.fromisoformat("2026-02-28T23:59:59-03:00")  # 1 March in UTC
    log.append(entry("late", time=late))
    log.append(entry("early", time=datetime(2026, 2, 27, tzinfo=UTC)))
    log.append(entry("again", time=datetime(2026, 3, 2, tzinfo=UTC)))
    log.append(entry("early2", time=datetime(2026, 2, 27, tzinfo=UTC)))
    log.close()
    assert logged_days(settings) == ["2026-02-27", "2026-03-01", "2026-03-02"]
    assert [row["trace"] for row in read_requests(settings, DAY).rows] == ["late"]
    assert len(read_requests(settings, "2026-02-27").rows) == 2


def test_two_processes_write_two_files(settings: Settings) -> None:
    first, second = RequestLog(log_folder(settings)), RequestLog(log_folder(settings))
    first.append(entry("a"))
    second.append(entry("b"))
    first.close()
    second.close()
    assert len(list((log_folder(settings) / DAY).glob("*.jsonl"))) == 2
    assert len(read_requests(settings, DAY).rows) == 2


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_is_counted_and_left_out(settings: Settings, cut: int) -> None:
    log = RequestLog(log_folder(settings))
    log.append(entry("a"))
    log.append(entry("b"))
    log.close()
    path = only_file(settings)
    path.write_bytes(path.read_bytes()[: -1 - cut])
    day = read_requests(settings, DAY)
    assert [row["trace"] for row in day.rows] == ["a"]
    assert day.torn == 1


def test_no_log_is_an_empty_day(settings: Settings) -> None:
    assert read_requests(settings, DAY).rows == ()
    assert logged_days(settings) == []


def test_what_comes_at_once_shares_a_sync(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = []
    real = os.fsync

    def slow(descriptor: int) -> None:
        syncs.append(descriptor)
        time.sleep(0.02)
        real(descriptor)

    log = RequestLog(log_folder(settings))
    log.append(entry("first"))
    monkeypatch.setattr(durable_log.os, "fsync", slow)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: log.append(entry(f"{number:03}")), range(160)))
    log.close()
    assert len(read_requests(settings, DAY).rows) == 161
    assert len(syncs) < 40


def test_a_refused_write_is_told_and_does_not_spoil_later_ones(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def torn(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:30])
        raise OSError(28, "No space left on device")

    log = RequestLog(log_folder(settings))
    log.append(entry("a"))
    with monkeypatch.context() as patch:
        patch.setattr(durable_log.os, "write", torn)
        with pytest.raises(DurableLogError, match="No space left"):
            log.append(entry("b"))
    log.append(entry("c"))
    log.close()
    day = read_requests(settings, DAY)
    assert [row["trace"] for row in day.rows] == ["a", "c"]
    assert day.torn == 1


def test_a_closed_log_refuses(settings: Settings) -> None:
    log = RequestLog(log_folder(settings))
    log.close()
    log.close()
    with pytest.raises(DurableLogError, match="closed"):
        log.append(entry())


def test_close_writes_what_is_waiting(settings: Settings) -> None:
    log = RequestLog(log_folder(settings))
    threads = [threading.Thread(target=log.append, args=(entry(str(n)),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len(read_requests(settings, DAY).rows) == 20


_WRITER = """
import sys
from pathlib import Path
from tests.serving.test_request_log import entry
from headwater.serving.request_log import RequestLog
log = RequestLog(Path(sys.argv[1]))
for number in range(100_000):
    log.append(entry(f"{number:06}"))
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(settings: Settings) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(log_folder(settings))],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    acknowledged = [int(line) for line in told if line.strip()]
    day = read_requests(settings, DAY)
    assert [int(row["trace"]) for row in day.rows][: len(acknowledged)] == acknowledged
    assert len(day.rows) <= len(acknowledged) + 1
    assert day.torn <= 1
