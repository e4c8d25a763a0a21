"""The inbox: one open alert for each cause, each event once, and nothing lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from headwater.errors import HeadwaterError
from headwater.monitoring.alerts import RUNBOOKS, Alert, AlertInbox, Finding, Kind, iso
from headwater.monitoring.alerts_page import alerts_page


@pytest.fixture
def inbox(tmp_path: Path) -> AlertInbox:
    return AlertInbox(tmp_path / "alerts", "http://ui")


def fail(
    inbox: AlertInbox,
    subject: str = "lora_adapter",
    cause: str = "MemoryError",
    *,
    run: str = "1",
    at: float = 100.0,
    **more: Any,
) -> Alert | None:
    return inbox.failed(
        Finding(
            kind="run_failure",
            subject=subject,
            cause=cause,
            event=f"run:{run}",
            detail="ünexpected",
            owner="team:oncall",
            time=iso(at),
            **more,
        )
    )


def recover(inbox: AlertInbox, *, at: float, **facts: str) -> list[Alert]:
    return inbox.well("run_failure", "lora_adapter", time=iso(at), facts=facts)


def test_alert_survives_the_process_with_its_runbook_and_link(inbox: AlertInbox) -> None:
    raised = fail(inbox)
    assert raised is not None
    [read] = AlertInbox(inbox.file.folder).list()
    assert read == raised
    assert (read.state, read.runbook) == ("open", "docs/runbooks/run_failure.md")
    assert read.link == f"http://ui/assets/alerts?view=partitions&partition={read.id}"


def test_a_thousand_failures_of_one_cause_are_one_alert(inbox: AlertInbox) -> None:
    for number in range(1000):
        fail(inbox, run=str(number), at=100.0 + number)
    [alert] = inbox.list()
    assert (alert.count, alert.first_seen, alert.last_seen) == (1000, iso(100), iso(1099))
    fail(inbox, cause="OSError", run="other")
    assert len(inbox.list("open")) == 2


def test_the_same_event_twice_has_one_effect(inbox: AlertInbox) -> None:
    """A sensor's tick that was killed before its cursor was stored is repeated whole."""
    for _ in range(2):
        fail(inbox, run="1", at=1)
        recover(inbox, at=2)
        fail(inbox, run="3", at=3)
    assert [(a.state, a.count) for a in inbox.list()] == [("open", 1), ("resolved", 1)]


def test_a_subject_that_is_well_closes_its_alerts_and_may_fail_again(inbox: AlertInbox) -> None:
    first = fail(inbox)
    assert first is not None
    fail(inbox, cause="OSError", run="2")
    assert {a.state for a in recover(inbox, at=200)} == {"resolved"}
    assert inbox.list("open") == []
    second = fail(inbox, run="4", at=300)
    assert second is not None and second.id != first.id


def test_what_failed_later_is_not_mended_by_an_earlier_success(inbox: AlertInbox) -> None:
    fail(inbox, at=200)
    assert recover(inbox, at=150) == []
    assert len(inbox.list("open")) == 1


def test_an_alert_says_what_changed_since_its_subject_was_well(inbox: AlertInbox) -> None:
    recover(inbox, at=50, release="r1", commit="abc")
    alert = fail(inbox, facts={"release": "r2", "commit": "abc", "raw_documents": "d9"})
    assert alert is not None and alert.last_well == iso(50)
    assert alert.changed == (
        {"what": "raw_documents", "before": "none", "after": "d9"},
        {"what": "release", "before": "r1", "after": "r2"},
    )


def test_the_worst_severity_and_the_latest_words_stand(inbox: AlertInbox) -> None:
    fail(inbox, severity="warning")
    fail(inbox, run="2", at=200, severity="critical")
    fail(inbox, run="3", at=300, severity="warning")
    assert inbox.list()[0].severity == "critical"


def test_acknowledge_finds_by_the_beginning_of_an_id(inbox: AlertInbox) -> None:
    alert = fail(inbox)
    assert alert is not None
    assert inbox.acknowledge(alert.id[:5]).acknowledged
    assert inbox.show(alert.id).acknowledged
    for wrong in ("zz", "", "%"):
        with pytest.raises(HeadwaterError, match="No alert"):
            inbox.show(wrong)


def test_a_file_that_is_no_inbox_is_a_named_error(inbox: AlertInbox) -> None:
    inbox.file.folder.mkdir()
    inbox.file.path.write_bytes(b"not a database" * 100)
    with pytest.raises(HeadwaterError, match="cannot be used"):
        inbox.list()


def test_many_writers_raise_one_alert_and_lose_no_count(inbox: AlertInbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: fail(AlertInbox(inbox.file.folder), run=str(n)), range(64)))
    [alert] = inbox.list()
    assert alert.count == 64


@hypothesis_settings(deadline=None)
@given(st.text("fw", max_size=14))
def test_any_replay_of_a_history_changes_nothing(events: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        inbox = AlertInbox(Path(folder))

        def play(upto: int) -> None:
            for number, what in enumerate(events[:upto]):
                if what == "f":
                    fail(inbox, run=str(number), at=number + 1)
                else:
                    recover(inbox, at=number + 1)

        play(len(events))
        once = inbox.list()
        play(len(events) // 2)
        play(len(events))
        assert inbox.list() == once


CHILD = """
import sys
from pathlib import Path
from headwater.monitoring.alerts import AlertInbox, Finding, iso
inbox = AlertInbox(Path(sys.argv[1]))
for number in range(100_000):
    inbox.failed(Finding(kind="run_failure", subject=f"step {number % 7}", cause="killed",
        event=f"run:{number}", detail="", owner="team:oncall", time=iso(number)))
    print(number, flush=True)
"""


def test_kill_in_the_middle_of_raising_loses_and_doubles_nothing(inbox: AlertInbox) -> None:
    """Three times a child is killed while it writes; each begins from the first event again."""
    told = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(inbox.file.folder)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        until = told + 25
        for line in child.stdout:
            told = int(line)
            if told >= until:
                break
        os.kill(child.pid, signal.SIGKILL)
        told = max([told, *(int(line) for line in child.stdout.read().split())])
        child.wait()
        child.stdout.close()
    counted = sum(alert.count for alert in inbox.list())
    # What it said was done is done, and at most the one that it was at besides.
    assert told + 1 <= counted <= told + 2
    assert len(inbox.list()) == 7


def test_every_kind_has_a_runbook_with_what_a_person_needs() -> None:
    assert set(RUNBOOKS) == set(get_args(Kind))
    for path in RUNBOOKS.values():
        text = (Path(__file__).parents[2] / path).read_text("utf-8")
        for part in ("**What it means.**", "## First look", "## Mend", "## Escalate"):
            assert part in text, f"{path} lacks {part}"


def test_the_page_shows_what_is_open_and_runs_nothing(inbox: AlertInbox) -> None:
    evil = "<script>alert(1)</script>"
    more: Mapping[str, Any] = {"examples": [{evil: "<img src=x onerror=alert(1)>"}]}
    fail(inbox, subject=evil, **more)
    page = alerts_page([replace(alert, link="javascript:alert(1)") for alert in inbox.list()])
    assert "1 open alert<" in page and "&lt;script&gt;" in page
    assert "<script" not in page and "<img" not in page and "href" not in page
    assert "Nothing is waiting" in alerts_page([])
    assert time.strftime("%Y", time.gmtime(100)) in page
