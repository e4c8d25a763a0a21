"""Delivery: to a real receiver on loopback, down and up, with kills in the middle."""

import itertools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
from headwater.monitoring.alerts import AlertInbox, Finding, iso
from headwater.monitoring.outbox import LONGEST_WAIT, Message, deliver
from headwater.monitoring.receivers import receivers
from headwater.settings import Settings
from tests.monitoring.webhook import Webhook


@pytest.fixture
def inbox(tmp_path: Path) -> AlertInbox:
    return AlertInbox(tmp_path / "alerts")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


class Clock:
    """Seconds since 1970 that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Recorder:
    """A receiver in this process."""

    def __init__(self, key: str) -> None:
        self.key = self.name = key
        self.up = True
        self.taken: list[Message] = []
        self.tries = 0

    def send(self, message: Message) -> bool:
        self.tries += 1
        if self.up:
            self.taken.append(message)
        return self.up


def fail(inbox: AlertInbox, number: int, **more: object) -> str:
    alert = inbox.failed(
        Finding(
            kind="run_failure", subject=f"step{number}", cause="OSError", event=f"run:{number}",
            detail="No space left", owner="team:oncall", time=iso(number), **more,  # type: ignore[arg-type]
        )
    )  # fmt: skip
    assert alert is not None
    return alert.id


def configured(url: str, home: Path) -> Settings:
    return Settings(home=home, alert_urls=url)  # type: ignore[arg-type]


def test_receiver_that_is_down_first_gets_all_in_order_each_once(
    inbox: AlertInbox, webhook: Webhook, tmp_path: Path
) -> None:
    clock = Clock()
    told = receivers(configured(webhook.url, tmp_path))
    webhook.up = False
    expected = []
    for number in range(12):  # three minutes
        expected.append(f"{fail(inbox, number)}-raised")
        deliver(inbox, told, clock=clock)
        clock.now += 15
    inbox.well("run_failure", "step3")
    expected.append(f"{inbox.list('resolved')[0].id}-resolved")
    assert webhook.taken == [] and 1 < webhook.refused < 12  # tried again, ever more rarely
    webhook.up = True
    clock.now += LONGEST_WAIT
    assert deliver(inbox, told, clock=clock).sent == 13
    assert deliver(inbox, told, clock=clock).sent == 0
    assert webhook.ids == expected
    assert "[critical] run failure: step0" in webhook.taken[0]["title"]
    assert "docs/runbooks/run_failure.md" in webhook.taken[0]["message"]
    assert webhook.taken[-1]["title"].startswith("[resolved]")


def test_backoff_doubles_up_to_a_minute_and_starts_again(inbox: AlertInbox) -> None:
    clock, receiver = Clock(), Recorder("a")
    receiver.up = False
    fail(inbox, 0)
    tries = []
    for _ in range(400):
        before = receiver.tries
        deliver(inbox, [receiver], clock=clock)
        if receiver.tries > before:
            tries.append(clock.now)
        clock.now += 1
    assert [int(b - a) for a, b in itertools.pairwise(tries)] == [
        5,
        10,
        20,
        40,
        60,
        60,
        60,
        60,
        60,
    ]
    receiver.up = True
    clock.now += LONGEST_WAIT
    assert deliver(inbox, [receiver], clock=clock).waiting == {}


def test_one_receiver_that_is_down_does_not_hold_up_the_others(inbox: AlertInbox) -> None:
    dead, alive = Recorder("dead"), Recorder("alive")
    dead.up = False
    fail(inbox, 0)
    done = deliver(inbox, [dead, alive])
    assert (done.sent, done.waiting) == (1, {"dead": 1})


def test_failures_of_one_cause_are_one_message(inbox: AlertInbox) -> None:
    receiver = Recorder("a")
    for number in range(50):
        inbox.failed(
            Finding(kind="drift", subject="requests", cause="topics", event=str(number), detail="", owner="x")
        )  # fmt: skip
    deliver(inbox, [receiver])
    [message] = receiver.taken
    assert "50 times" in message.body


def test_a_new_receiver_hears_of_what_is_open_and_new_not_of_all_history(inbox: AlertInbox) -> None:
    clock = Clock()
    clock.now = 4_000_000_000.0  # notices are a long time ago by then
    fail(inbox, 0)
    inbox.well("run_failure", "step0")
    first = Recorder("first")
    assert deliver(inbox, [first], clock=clock).sent == 0
    fail(inbox, 1)
    late = Recorder("late")
    assert deliver(inbox, [first, late], clock=clock).sent == 2


def test_users_words_stay_in_the_inbox(inbox: AlertInbox) -> None:
    receiver = Recorder("a")
    fail(inbox, 0, examples=[{"trace": "t1", "question": "my name is Ada"}])
    deliver(inbox, [receiver])
    assert "t1" in receiver.taken[0].body and "Ada" not in receiver.taken[0].body
    assert "Ada" in str(inbox.list()[0].examples)


def test_two_deliveries_at_once_are_one(inbox: AlertInbox) -> None:
    receiver = Recorder("a")
    fail(inbox, 0)
    with inbox.file.alone("delivery") as alone:
        assert alone
        assert deliver(inbox, [receiver]).busy
    assert deliver(inbox, [receiver]).sent == 1


def test_no_token_is_ever_shown(
    webhook: Webhook, inbox: AlertInbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = configured(f"{webhook.url}, {webhook.url}", tmp_path)
    with caplog.at_level(logging.DEBUG):
        [receiver] = receivers(settings)
        fail(inbox, 0)
        deliver(inbox, [receiver])
        webhook.up = False
        fail(inbox, 1)
        deliver(inbox, [receiver])
    with pytest.raises(HeadwaterError, match="Entry 1") as error:
        receivers(configured("nonsense-s3cret-canary", tmp_path))
    files = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    seen = caplog.text + str(error.value) + receiver.name + receiver.key + repr(settings)
    assert "s3cret-canary" not in seen and b"s3cret-canary" not in files
    assert len(webhook.taken) == 1


CHILD = """
import sys
from pathlib import Path
from headwater.monitoring.alerts import AlertInbox
from headwater.monitoring.outbox import deliver
from headwater.monitoring.receivers import receivers
from headwater.settings import Settings
deliver(AlertInbox(Path(sys.argv[1])), receivers(Settings(alert_urls=sys.argv[2])), seconds=600)
"""


def test_kill_in_the_middle_of_delivering_loses_nothing(
    inbox: AlertInbox, webhook: Webhook
) -> None:
    """A kill costs at most one repetition, and that has the id of the first."""
    expected = [f"{fail(inbox, number)}-raised" for number in range(120)]
    kills = 0
    for until in (10, 40, 70):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(inbox.file.folder), webhook.url])
        webhook.wait_for(until)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        kills += 1
    subprocess.run([sys.executable, "-c", CHILD, str(inbox.file.folder), webhook.url], check=True)
    assert list(dict.fromkeys(webhook.ids)) == expected
    assert len(webhook.ids) <= len(expected) + kills
