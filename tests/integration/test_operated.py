"""The daemon at work, and killed: no alert is lost or doubled, no run is "started" for ever."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.definitions.run_request import InstigatorType

from headwater.files import write_atomic
from headwater.monitoring.alerts import AlertInbox
from resources.workers import started_by_server
from tests.monitoring.webhook import Webhook

REPOSITORY = Path(__file__).parents[2]
SENSORS = 5  # of tests.integration.operated
FAILED, STARTED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED


#: A daemon that looks every second which sensor is due, instead of every five.
MAIN = """
from dagster._daemon import cli, sensor
sensor.MIN_INTERVAL_LOOP_TIME = 1
cli.main()
"""

#: Half a dozen processes start, one after another, on two cores.
pytestmark = [pytest.mark.daemon, pytest.mark.timeout(900)]


class Daemon:
    """`dagster-daemon` with a code server of its own, over a home."""

    def __init__(self, home: Path, urls: str = "") -> None:
        self.home = home
        self.dagster_home = home / "dagster"
        write_atomic(self.dagster_home / "dagster.yaml", (REPOSITORY / "dagster.yaml").read_bytes())
        self.environment = os.environ | {
            "HEADWATER_HOME": str(home),
            "DAGSTER_HOME": str(self.dagster_home),
            "HEADWATER_ALERT_URLS": urls,
            "PYTHONPATH": str(REPOSITORY),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", MAIN, "run", "-m", "tests.integration.operated"]
        with (self.home / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env=self.environment, start_new_session=True,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def code_servers(self) -> list[psutil.Process]:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "grpc" in " ".join(child.cmdline())]

    def kill(self) -> None:
        """The daemon, its code server and its runs, at once and without a word."""
        if self.process is not None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            for process in [psutil.Process(self.process.pid), *family]:
                if process.is_running():
                    process.kill()
            self.process.wait()
            self.process = None

    def ask_for(self, *lines: str) -> None:
        write_atomic(self.home / "launch", "\n".join(lines) + "\n")

    def until(self, condition: Callable[[], object]) -> None:
        """Return once it holds; the test's own timeout is the limit."""
        while not condition():
            assert self.process is not None and self.process.poll() is None, (
                self.home / "daemon.log"
            ).read_text()
            time.sleep(0.2)


@pytest.fixture
def webhook():
    hook = Webhook()
    yield hook
    hook.close()


@pytest.fixture
def daemon(furnished: Callable[[Path], Path], tmp_path: Path, webhook: Webhook):
    process = Daemon(furnished(tmp_path), webhook.url)
    yield process
    process.kill()


def test_kill_of_the_daemon_in_mid_tick_loses_and_doubles_no_alert(
    daemon: Daemon, webhook: Webhook
) -> None:
    """The receiver is down at first, too."""
    webhook.up = False
    inbox = AlertInbox(daemon.home / "alerts")
    daemon.ask_for(*(f"job_fails{n % 3} key{n}" for n in range(6)))
    with dg.DagsterInstance.from_config(str(daemon.dagster_home)) as instance:
        daemon.start()
        daemon.until(lambda: inbox.list())
        daemon.kill()
        daemon.start()

        def failures() -> list[str]:
            return [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[FAILED]))]

        def all_counted() -> bool:
            return len(failures()) >= 6 and sum(a.count for a in inbox.list()) == len(failures())

        daemon.until(all_counted)
        daemon.until(lambda: webhook.refused)
        webhook.up = True
        expected = [f"{alert.id}-raised" for alert in reversed(inbox.list())]
        daemon.until(lambda: len(webhook.ids) >= len(expected))
        # Another round of ticks brings nothing new.
        tries, now = webhook.refused + len(webhook.taken), time.time()

        def all_ticked() -> bool:
            states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            ends = [data.last_tick_timestamp or 0 for s in states if (data := s.instigator_data)]
            return len(ends) == SENSORS and min(ends) > now

        daemon.until(all_ticked)
        # A run that is tried again may have failed in between; one that is counted twice stays so.
        daemon.until(all_counted)
    assert webhook.ids[: len(expected)] == expected
    assert Counter(webhook.ids).most_common(1)[0][1] == 1
    assert webhook.refused + len(webhook.taken) == tries
    assert {a.subject for a in inbox.list()} >= {"fails0", "fails1", "fails2"}


def test_a_worker_killed_with_its_code_server_is_noticed(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.ask_for("job_trains one")
    with dg.DagsterInstance.from_config(str(daemon.dagster_home)) as instance:
        daemon.start()
        daemon.until(lambda: (daemon.home / "training").exists())
        (run,) = instance.get_runs(dg.RunsFilter(statuses=[STARTED]))
        started = started_by_server(instance, run)
        assert started is not None
        (daemon.home / "trained").touch()
        for server in daemon.code_servers():
            server.kill()
        os.kill(started[0], signal.SIGKILL)
        killed = time.monotonic()
        daemon.until(lambda: instance.get_run_by_id(run.run_id).status is FAILED)
        with capsys.disabled():
            print(f"\nnoticed after {time.monotonic() - killed:.1f} s")
        # Dagster tries a run again only if its code server is there at that moment. The next run
        # gets the slot that the dead one held.
        daemon.ask_for("job_trains one", "job_trains two")
        success = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
        daemon.until(lambda: instance.get_runs(success))
        inbox = AlertInbox(daemon.home / "alerts")
        daemon.until(
            lambda: [a.state for a in inbox.list() if a.subject == "trains"] == ["resolved"]
        )
        # The ticks that found no code server are an alert of their own until the next ones pass.
        daemon.until(lambda: all(a.kind == "run_failure" for a in inbox.list("open")))
