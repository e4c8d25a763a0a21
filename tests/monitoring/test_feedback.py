"""A day's feedback in the lake: each thing said once, and on to the rows that teach."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.datasets.feedback import read_corrections
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.monitoring.feedback import ingest_day
from headwater.serving.feedback_log import FeedbackEntry, FeedbackLog, log_folder
from headwater.settings import Settings
from tests.monitoring.conftest import ask, log_requests

DAY = "2026-01-02"


def at(minute: int, day: int = 2) -> datetime:
    return datetime(2026, 1, day, 3, minute, tzinfo=UTC)


def say(settings: Settings, *entries: dict[str, Any]) -> None:
    """Log feedback as the endpoint does."""
    log = FeedbackLog(log_folder(settings))
    for entry in entries:
        log.append(FeedbackEntry(**{"trace": "t", "release": "r", **entry}))
    log.close()


def rows(lake: Lake) -> list[dict[str, Any]]:
    return list(lake.read("feedback").sort_by("time").to_pylist())


def test_days_log_becomes_rows(lake: Lake, settings: Settings) -> None:
    say(
        settings,
        {"time": at(1), "thumb": "down", "correction": "Snow \N{SNOWMAN}.", "tags": ("a", "b")},
        {"time": at(2), "rival": "R.", "rival_release": "r2", "preferred": "rival", "user": "ann"},
    )
    stats = ingest_day(lake, settings, DAY)
    assert (stats.rows, stats.torn, stats.written) == (2, 0, True)
    first, second = rows(lake)
    assert (first["thumb"], first["correction"], first["tags"]) == (
        "down",
        "Snow \N{SNOWMAN}.",
        ["a", "b"],
    )
    assert (first["rival"], first["user"], first["day"]) == (None, "", DAY)
    assert (second["preferred"], second["rival_release"], second["user"]) == ("rival", "r2", "ann")


def test_the_same_said_twice_is_one_row_with_the_later_time(lake: Lake, settings: Settings) -> None:
    up, down = {"thumb": "up"}, {"thumb": "down"}
    say(settings, {"time": at(1), **up}, {"time": at(2), **down}, {"time": at(3), **up})
    assert ingest_day(lake, settings, DAY).rows == 2
    assert [(row["thumb"], row["time"]) for row in rows(lake)] == [("down", at(2)), ("up", at(3))]


def test_tags_in_another_order_say_the_same_and_another_user_does_not(
    lake: Lake, settings: Settings
) -> None:
    say(
        settings,
        {"time": at(1), "tags": ("a", "b")},
        {"time": at(2), "tags": ("b", "a")},
        {"time": at(3), "tags": ("a", "b"), "user": "ann"},
    )
    assert ingest_day(lake, settings, DAY).rows == 2


def test_same_log_again_writes_nothing(lake: Lake, settings: Settings) -> None:
    say(settings, {"time": at(1), "thumb": "up"})
    first = ingest_day(lake, settings, DAY)
    version = lake.version("feedback")
    again = ingest_day(lake, settings, DAY)
    assert (again.written, again.digest) == (False, first.digest)
    assert lake.version("feedback") == version


def test_other_days_stay_as_they_are(lake: Lake, settings: Settings) -> None:
    say(settings, {"time": at(1), "thumb": "up"}, {"time": at(1, day=3), "thumb": "down"})
    ingest_day(lake, settings, DAY)
    ingest_day(lake, settings, "2026-01-03")
    ingest_day(lake, settings, DAY)
    assert [row["day"] for row in rows(lake)] == [DAY, "2026-01-03"]


def test_a_torn_line_is_counted_and_left_out(lake: Lake, settings: Settings) -> None:
    say(settings, {"time": at(1), "thumb": "up"}, {"time": at(2), "thumb": "down"})
    [path] = (log_folder(settings) / DAY).iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    stats = ingest_day(lake, settings, DAY)
    assert (stats.rows, stats.torn) == (1, 1)


def test_what_is_no_day_is_said(lake: Lake, settings: Settings) -> None:
    with pytest.raises(HeadwaterError, match="YYYY-MM-DD"):
        ingest_day(lake, settings, "yesterday")


def test_a_logged_correction_reaches_the_training_stage_with_its_question(
    lake: Lake, settings: Settings
) -> None:
    [request] = ask("r1", 1)
    log_requests(lake, [request])
    say(settings, {"time": at(1), "trace": request["trace"], "correction": "Better."})
    ingest_day(lake, settings, DAY)
    [given] = read_corrections(lake)
    assert (given.trace, given.question) == (request["trace"], request["question"])
    assert (given.correction, given.chunk_ids) == ("Better.", ("c",))
