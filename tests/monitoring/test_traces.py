from datetime import UTC, datetime

import pytest

from headwater.errors import HeadwaterError
from headwater.monitoring.traces import find, latest
from headwater.serving import feedback_log, request_log
from headwater.serving.feedback_log import FeedbackEntry, FeedbackLog
from headwater.serving.request_log import RequestEntry, RequestLog
from headwater.settings import Settings
from tests.monitoring.conftest import ask, release_with


@pytest.fixture
def logged(tmp_path) -> tuple[Settings, list[dict]]:
    """Three requests of two days, and a thumb on the second."""
    settings = Settings(home=tmp_path)
    release = release_with(settings, "adapter-1")
    rows = ask(release, 1, day="2026-01-01") + ask(release, 2, day="2026-01-02", first=7)
    log = RequestLog(request_log.log_folder(settings))
    for number, row in enumerate(rows):
        row["trace"] = f"{number}{'ab' * 15}{number}"
        lists = {n: tuple(row[n]) for n in ("uris", "scores", "chunk_ids", "guard")}
        row["scores"] = [0.5, 0.4]
        lists["scores"] = (0.5, 0.4)
        log.append(RequestEntry(**{k: v for k, v in row.items() if k != "day"} | lists))
    log.close()
    said = FeedbackLog(feedback_log.log_folder(settings))
    entry = FeedbackEntry(
        time=datetime(2026, 1, 2, tzinfo=UTC), trace=rows[1]["trace"], release=release, thumb="down"
    )
    said.append(entry)
    said.append(entry)
    said.close()
    return settings, rows


def test_the_latest_come_last(logged):
    settings, rows = logged
    assert [row["trace"] for row in latest(settings, 2)] == [row["trace"] for row in rows[1:]]
    assert len(latest(settings, 20)) == 3


def test_a_trace_names_what_answered_and_what_was_said_of_it(logged):
    settings, rows = logged
    found = find(settings, rows[1]["trace"][:5])
    assert found["question"] == rows[1]["question"]
    assert found["parts"]["adapter"] == "adapter-1"
    assert [said["thumb"] for said in found["feedback"]] == ["down"]
    assert find(settings, rows[0]["trace"])["feedback"] == []


def test_no_trace_and_no_log_are_told(logged, tmp_path):
    settings, _ = logged
    for trace in ("zz", ""):
        with pytest.raises(HeadwaterError, match="have a trace"):
            find(settings, trace)
    with pytest.raises(HeadwaterError, match="0 requests"):
        find(Settings(home=tmp_path / "fresh"), "ab")
    assert latest(Settings(home=tmp_path / "fresh"), 3) == []
