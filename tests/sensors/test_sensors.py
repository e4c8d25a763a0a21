"""Sensors with their contexts and cursors."""

import dagster as dg
import pytest

from headwater.datasets import golden
from headwater.documents.sources import FolderSource
from headwater.settings import Settings
from sensors.arrivals import arrivals_sensor
from sensors.drift import drift


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_arrivals_reports_only_what_changed(tmp_path, instance, monkeypatch):
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.md").write_text("# Tea\n\nTea is a drink.")
    sensor = arrivals_sensor([FolderSource(name="drinks", path=documents)])
    first = sensor(dg.build_sensor_context(instance=instance))
    assert [event.asset_key.to_user_string() for event in first.asset_events] == [
        "drinks",
        "golden_questions",
    ]
    again = sensor(dg.build_sensor_context(instance=instance, cursor=first.cursor))
    assert isinstance(again, dg.SkipReason)
    (documents / "b.md").write_text("# Coffee\n\nCoffee is a drink too.")
    changed = sensor(dg.build_sensor_context(instance=instance, cursor=first.cursor))
    (event,) = changed.asset_events
    assert event.data_version != first.asset_events[0].data_version
    golden.add(Settings().golden_file, "What is tea?", "A drink.", "drinks:///a.md")
    confirmed = sensor(dg.build_sensor_context(instance=instance, cursor=changed.cursor))
    (event,) = confirmed.asset_events
    assert event.asset_key.to_user_string() == "golden_questions"


def report(instance, status: str, reference: str, digest: str):
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "drift_report",
            metadata={"status": status, "reference": reference},
            tags={"dagster/data_version": digest},
        )
    )


def tick(instance, cursor=None):
    from definitions import defs

    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=defs.get_repository_def()
    )
    return drift.evaluate_tick(context)


def test_drift_launches_one_retraining_for_a_reference(instance):
    report(instance, "ok", "r1", "d1")
    quiet = tick(instance)
    assert not quiet.run_requests and "ok" in quiet.skip_message
    report(instance, "drift", "r1", "d2")
    fired = tick(instance, quiet.cursor)
    assert [request.job_name or "retrain" for request in fired.run_requests] == ["retrain"]
    report(instance, "drift", "r1", "d3")
    repeated = tick(instance, fired.cursor)
    # The same run key: the daemon launches nothing twice.
    assert repeated.run_requests[0].run_key == fired.run_requests[0].run_key
    report(instance, "drift", "r2", "d4")
    other = tick(instance, repeated.cursor)
    assert other.run_requests[0].run_key != fired.run_requests[0].run_key
