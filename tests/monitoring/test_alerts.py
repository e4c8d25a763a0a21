"""The inbox: one open alert for each cause, and nothing lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from headwater.monitoring.alerts import RUNBOOKS, Alert, AlertInbox, Kind, raise_alert


@pytest.fixture
def inbox(tmp_path: Path) -> AlertInbox:
    return AlertInbox(tmp_path / "alerts")


def fail(inbox: AlertInbox, subject: str = "build", cause: str = "train", run: str = "1") -> Alert:
    return raise_alert(
        inbox,
        kind="run_failure",
        subject=subject,
        cause=cause,
        detail="ünexpected",
        owner="team:oncall",
        run=run,
    )


def test_alert_survives_the_process_with_its_runbook(inbox: AlertInbox) -> None:
    raised = fail(inbox)
    [read] = AlertInbox(inbox.file.parent).list()
    assert read == raised
    assert (read.status, read.runbook) == ("open", "docs/runbooks/run_failure.md")


def test_same_cause_again_is_the_same_alert(inbox: AlertInbox) -> None:
    first = fail(inbox, run="1")
    assert fail(inbox, run="2") == first
    fail(inbox, cause="embed")
    assert len(inbox.list("open")) == 2
    assert len(inbox.file.read_text().splitlines()) == 2


def test_resolved_cause_may_be_raised_again(inbox: AlertInbox) -> None:
    first = fail(inbox)
    closed = inbox.resolve(kind="run_failure", subject="build", cause="train")
    assert closed is not None
    assert (closed.id, closed.status) == (first.id, "resolved")
    assert inbox.list("open") == []
    second = fail(inbox)
    assert second.id != first.id
    assert [alert.id for alert in inbox.list()] == [second.id, first.id]


def test_resolving_what_is_not_open_does_nothing(inbox: AlertInbox) -> None:
    assert inbox.resolve(kind="run_failure", subject="build", cause="train") is None
    assert not inbox.file.exists()


def test_torn_last_line_costs_that_line_only(inbox: AlertInbox) -> None:
    first = fail(inbox)
    with inbox.file.open("ab") as file:
        file.write(b'{"event": "raised", "al')
    assert inbox.list() == [first]
    second = fail(inbox, subject="retrain")
    assert {alert.id for alert in inbox.list()} == {first.id, second.id}


def test_many_writers_raise_one_alert(inbox: AlertInbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: fail(AlertInbox(inbox.file.parent), run=str(n)), range(32)))
    assert len(inbox.list()) == 1


def test_every_kind_has_a_runbook_that_exists() -> None:
    assert set(RUNBOOKS) == set(get_args(Kind))
    for path in RUNBOOKS.values():
        assert (Path(__file__).parents[2] / path).is_file(), path
