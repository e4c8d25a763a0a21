"""From what Dagster knows to the inbox, and back into Dagster's UI; on a real instance's files."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from headwater.monitoring.alerts import AlertInbox
from headwater.monitoring.exporter import metrics_file
from headwater.serving.request_log import log_folder
from headwater.settings import Settings
from resources.alerts import AlertsResource
from resources.environment import SettingsResource
from sensors.alerts import alert_delivery, failed_checks, failed_runs, lasting_conditions

BROKEN = {"table": False, "check": False}


@dg.asset(owners=["team:data"], code_version="1")
def source() -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion(f"{time.time()}"))


@dg.asset(deps=[source], owners=["team:ml"], code_version="1")
def table() -> None:
    if BROKEN["table"]:
        raise OSError("No space left on device")


@dg.asset_check(asset=table)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not BROKEN["check"],
        description="three rows lack a URI",
        metadata={"without_uri": [{"row": 7}, {"row": 9}]},
    )


follows = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1))


@dg.asset(deps=[source], freshness_policy=follows)
def index() -> None: ...


@dg.sensor(job_name="build", default_status=dg.DefaultSensorStatus.RUNNING)
def arrivals() -> None: ...


build = dg.define_asset_job("build", executor_def=dg.in_process_executor)
SENSORS = [failed_runs, failed_checks, lasting_conditions, alert_delivery]


class Stand:
    """An installation: an instance on disk, an inbox, and the sensors of it."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        self.settings = Settings(home=home)
        self.inbox = AlertInbox(self.settings.alerts, self.settings.ui)
        self.resources = {
            "alerts": AlertsResource(path=str(self.settings.alerts), ui=self.settings.ui),
            "settings": SettingsResource(home=str(home)),
        }
        self.defs = dg.Definitions(
            assets=[source, table, index, dg.AssetSpec("alerts", partitions_def=PARTITIONS)],
            asset_checks=[sound],
            jobs=[build],
            sensors=[arrivals, *SENSORS],
            resources=self.resources,
        )
        self.cursors: dict[str, str | None] = {}

    def run(self, *assets: str) -> str:
        """Run the job, or some of its assets; returns the run's id."""
        done = self.defs.resolve_job_def("build").execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in assets] or None,
        )
        return done.run_id

    def tick(self, sensor: Any, *, killed: bool = False) -> Any:
        """One tick; a killed one has its effects, but its cursor is lost."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor.name),
            repository_def=self.defs.get_repository_def(),
            resources=self.resources,
        )
        result = sensor(context)
        if not killed:
            self.cursors[sensor.name] = context.cursor
        return result

    def open(self) -> list[Any]:
        return self.inbox.list("open")


PARTITIONS = dg.DynamicPartitionsDefinition(name="alerts")


@pytest.fixture
def stand(tmp_path: Path):
    for name in BROKEN:
        BROKEN[name] = False
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield Stand(tmp_path / "home", instance)


def test_a_failed_step_is_one_alert_until_it_succeeds(stand: Stand) -> None:
    stand.run()
    stand.tick(failed_runs)
    assert stand.inbox.list() == []
    BROKEN["table"] = True
    first = stand.run()
    stand.run()
    stand.tick(failed_runs, killed=True)
    stand.tick(failed_runs)
    [alert] = stand.open()
    assert (alert.subject, alert.cause, alert.count) == ("table", "OSError", 2)
    assert "No space left" in alert.detail and alert.owner == "team:ml" and alert.run == first
    assert alert.place == f"{stand.settings.ui}/runs/{first}"
    assert [row["what"] for row in alert.changed] == ["input source"]
    stand.run("index")  # another part of the same job is no news
    stand.tick(failed_runs)
    assert len(stand.open()) == 1
    BROKEN["table"] = False
    stand.run("table")
    stand.tick(failed_runs)
    assert [a.state for a in stand.inbox.list()] == ["resolved"]


def test_failures_and_successes_beyond_one_batch_keep_their_order(
    stand: Stand, monkeypatch
) -> None:
    monkeypatch.setattr("sensors.outcomes.BATCH", 2)
    BROKEN["table"] = True
    for _ in range(3):
        stand.run("table")
    BROKEN["table"] = False
    stand.run("table")
    while not isinstance(stand.tick(failed_runs), dg.SkipReason):
        pass
    assert [(a.state, a.count) for a in stand.inbox.list()] == [("resolved", 3)]


def test_a_worker_that_was_killed_leaves_its_step_as_the_subject(stand: Stand) -> None:
    job = stand.defs.resolve_job_def("build")
    run = stand.instance.create_run_for_job(job)
    stand.instance.report_run_failed(run, "Run execution process exited with code -9.")
    stand.tick(failed_runs)
    [alert] = stand.open()
    assert (alert.subject, alert.cause) == ("build", "ended without an error")
    assert "code -9" in alert.detail


def test_a_failed_check_is_one_alert_until_it_passes(stand: Stand) -> None:
    BROKEN["check"] = True
    for _ in range(3):
        stand.run("table", "source")
    stand.tick(failed_checks, killed=True)
    stand.tick(failed_checks)
    [alert] = stand.open()
    assert (alert.kind, alert.subject, alert.count) == ("check_failure", "table: sound", 3)
    assert alert.examples == ({"row": "7"}, {"row": "9"}) and "three rows" in alert.detail
    BROKEN["check"] = False
    stand.run("table")
    stand.tick(failed_checks)
    assert stand.open() == []
    assert isinstance(stand.tick(failed_checks), dg.SkipReason)


def freshness(stand: Stand, state: FreshnessState) -> None:
    stand.instance._report_runless_asset_event(
        FreshnessStateChange(
            key=dg.AssetKey("index"),
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=time.time(),
        )
    )


def test_stale_is_what_has_something_newer_to_be_made_from(stand: Stand) -> None:
    stand.run()
    freshness(stand, FreshnessState.FAIL)
    stand.tick(lasting_conditions)
    assert stand.open() == []  # old, and as new as its source
    stand.run("source")
    stand.tick(lasting_conditions)
    stand.tick(lasting_conditions)
    [alert] = stand.open()
    assert (alert.kind, alert.subject, alert.count) == ("stale_asset", "index", 1)
    stand.run("index")
    freshness(stand, FreshnessState.PASS)
    stand.tick(lasting_conditions)
    assert stand.open() == []


def test_drift_is_an_alert_while_the_latest_decision_says_so(stand: Stand) -> None:
    for status, waiting in (("ok", 0), ("drift", 1), ("drift", 1), ("ok", 0)):
        stand.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "retraining_decision",
                metadata={
                    "drift": status,
                    "verdict": "not_worth_it",
                    "panel": "question_topics",
                    "evidence": 250.0,
                    "reasons": ["A third of the traffic is new."],
                    "examples": [{"trace": "t1", "question": "Roses?"}],
                },
            )
        )
        stand.tick(lasting_conditions)
        assert len(stand.open()) == waiting
    [alert] = stand.inbox.list()
    assert alert.count == 2 and alert.examples[0]["trace"] == "t1"
    assert "question_topics" in alert.detail and "A third" in alert.detail


def test_a_run_that_says_nothing_is_stuck_until_it_ends(stand: Stand, monkeypatch) -> None:
    job = stand.defs.resolve_job_def("build")
    run = stand.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    stand.instance.report_engine_event("Training began.", run)
    stand.tick(lasting_conditions)
    assert stand.open() == []
    monkeypatch.setenv("HEADWATER_STUCK_MINUTES", "0.0000001")
    stand.tick(lasting_conditions)
    [alert] = stand.open()
    assert (alert.kind, alert.run) == ("stuck_run", run.run_id)
    assert "Training began" in alert.detail
    stand.instance.report_run_canceled(run)
    stand.tick(lasting_conditions)
    assert stand.open() == []


def test_a_sensor_whose_tick_failed_is_an_alert_until_one_does_not(stand: Stand) -> None:
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import (
        RegisteredCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        SensorInstigatorData,
        TickData,
        TickStatus,
    )  # fmt: skip
    from dagster._utils.error import SerializableErrorInfo

    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("headwater"), "__repository__"),
        "arrivals",
    )
    state = InstigatorState(
        origin, InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE, SensorInstigatorData()
    )
    stand.instance.add_instigator_state(state)

    def ended(status: TickStatus, error: str | None = None, of: str = "PermissionError") -> None:
        stand.instance.create_tick(
            TickData(
                state.instigator_origin_id, "arrivals", InstigatorType.SENSOR, status, time.time(),
                selector_id=state.selector_id,
                error=error and SerializableErrorInfo(error, [], of),
            )
        )  # fmt: skip

    ended(TickStatus.SKIPPED)
    stand.tick(lasting_conditions)
    assert stand.open() == []
    for _ in range(3):
        ended(TickStatus.FAILURE, "PermissionError: /documents")
    stand.tick(lasting_conditions)
    stand.tick(lasting_conditions)
    [alert] = stand.open()
    assert (alert.kind, alert.subject, alert.count) == ("sensor_error", "arrivals", 3)
    assert "/documents" in alert.detail
    ended(TickStatus.SKIPPED)
    stand.tick(lasting_conditions)
    assert stand.open() == []
    for _ in range(2):
        ended(TickStatus.FAILURE, "the code server is gone", "_InactiveRpcError")
    stand.tick(lasting_conditions)
    assert [(a.subject, a.count) for a in stand.open()] == [("code location", 2)]
    ended(TickStatus.SKIPPED)
    stand.tick(lasting_conditions)
    assert stand.open() == []


def test_errors_of_the_endpoint_burn_the_budget(stand: Stand) -> None:
    moment = datetime.now(UTC)
    folder = log_folder(stand.settings) / moment.date().isoformat()
    folder.mkdir(parents=True)
    rows = [
        {"time": moment.isoformat(), "status": status, "trace": f"t{number}", "release": "r1"}
        for number, status in enumerate(["ok"] * 20 + ["error"] * 20 + ["aborted"] * 20)
    ]
    (folder / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stand.tick(lasting_conditions)
    assert {(a.subject, a.severity) for a in stand.open()} == {
        ("endpoint, fast window", "critical"),
        ("endpoint, slow window", "warning"),
    }
    assert stand.open()[0].examples[-1]["trace"] == "t39"
    text = metrics_file(stand.settings).read_text()
    assert 'headwater_alerts_open{kind="slo_burn",severity="critical"} 1.0' in text
    (rate,) = re.findall(r'headwater_slo_burn_rate{window="fast"} (.*)', text)
    assert float(rate) == pytest.approx(50)


def test_an_alert_has_a_page_in_the_ui_with_cause_examples_and_runbook(stand: Stand) -> None:
    BROKEN["check"] = True
    stand.run()
    stand.tick(failed_checks)
    stand.tick(alert_delivery)
    [alert] = stand.open()
    assert alert.link.endswith(f"/assets/alerts?view=partitions&partition={alert.id}")
    assert stand.instance.get_dynamic_partitions("alerts") == [alert.id]

    def page() -> dict[str, Any]:
        event = stand.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey("alerts"), asset_partitions=[alert.id]), 1
        ).records[0]
        return {k: v.value for k, v in event.asset_materialization.metadata.items()}

    shown = page()
    assert "three rows" in shown["detail"] and shown["state"] == "open, critical"
    assert shown["runbook"].startswith("# A check failed")
    assert [dict(record.data) for record in shown["examples"].records] == [
        {"row": "7"},
        {"row": "9"},
    ]
    BROKEN["check"] = False
    stand.run()
    stand.tick(failed_checks)
    stand.tick(alert_delivery)
    assert page()["state"] == "resolved"


def test_somebody_looks_within_half_a_minute() -> None:
    """The tests of a running daemon look more often, and so say nothing of it."""
    intervals = {
        each.name: each.minimum_interval_seconds
        for each in (failed_runs, failed_checks, alert_delivery, lasting_conditions)
    }
    assert intervals == {
        "failed_runs": 15, "failed_checks": 15, "alert_delivery": 15, "lasting_conditions": 30
    }  # fmt: skip
