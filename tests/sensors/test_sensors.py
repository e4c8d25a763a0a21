"""Sensors with their contexts and cursors."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from headwater.datasets import golden
from headwater.documents.kinds.web import WebSource
from headwater.documents.sources import FolderSource
from headwater.serving import verdict_log
from headwater.serving.verdict_log import VerdictEntry, VerdictLog
from headwater.settings import Settings
from sensors.arrivals import arrivals_sensor
from sensors.drift import drift
from tests.documents.site import serving


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
        "prompt_registry",
        "document_verdicts",
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
    monkeypatch.setattr("sensors.arrivals.digest_in_force", lambda settings: "another")
    edited = sensor(dg.build_sensor_context(instance=instance, cursor=confirmed.cursor))
    (event,) = edited.asset_events
    assert event.asset_key.to_user_string() == "prompt_registry"
    assert event.data_version == "another"
    said = VerdictLog(verdict_log.log_folder(Settings()))
    about = {"id": "1", "uri": "drinks:///a.md", "digest": "d", "title": "Tea"}
    for verdict, changes in (("keep", False), ("leave_out", True), ("withdraw", True)):
        said.append(VerdictEntry(time=datetime.now(UTC), verdict=verdict, **about))
        judged = sensor(dg.build_sensor_context(instance=instance, cursor=edited.cursor))
        assert isinstance(judged, dg.SensorResult) is changes, verdict
        if changes:
            (event,) = judged.asset_events
            assert event.asset_key.to_user_string() == "document_verdicts"
            edited = judged
    said.close()


def test_a_tick_looks_at_a_site_for_a_bounded_time(tmp_path, instance, monkeypatch):
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    with serving() as site:
        site.put("/a", "<p>a")
        entry = WebSource(
            name="site", url=site.url, allow_private=[site.netloc], delay_seconds=3_600
        )
        sensor = arrivals_sensor([entry])
        first = sensor(dg.build_sensor_context(instance=instance))
        assert first.asset_events[0].metadata["documents"].value == 0
        assert site.asked == ["/robots.txt"]  # there is no time to wait for the next request
        again = sensor(dg.build_sensor_context(instance=instance, cursor=first.cursor))
        assert isinstance(again, dg.SkipReason)
        assert site.asked == ["/robots.txt"]


def decide(instance, *, drift: str, retrain: bool, reference: str = "r1", decision: str = "d1"):
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "retraining_decision",
            metadata={
                "drift": drift,
                "retrain": retrain,
                "verdict": "retrain" if retrain else "not_worth_it",
                "reference": reference,
                "decision": decision,
                "panel": "question_topics",
                "evidence": 250.0,
                "reasons": ["A third of the traffic is new."],
                "examples": [{"trace": "t1", "question": "What is mulch?", "unlike": 0.8}],
            },
        )
    )


def tick(instance, cursor=None):
    from definitions import defs

    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=defs.get_repository_def(),
    )
    return drift.evaluate_tick(context)


def test_a_decision_to_retrain_launches_one_run(instance):
    decide(instance, drift="ok", retrain=False)
    quiet = tick(instance)
    assert not quiet.run_requests and "ok" in quiet.skip_message
    decide(instance, drift="drift", retrain=True)
    fired = tick(instance, quiet.cursor)
    (request,) = fired.run_requests
    assert (request.job_name or "retrain") == "retrain"
    assert request.tags["headwater/drift_panel"] == "question_topics"
    assert request.tags["headwater/drift_traces"] == "t1"
    # A tick that was killed before its cursor was kept, and a decision that still stands.
    repeated = tick(instance, quiet.cursor)
    decide(instance, drift="drift", retrain=True)
    standing = tick(instance, fired.cursor)
    keys = {each.run_requests[0].run_key for each in (fired, repeated, standing)}
    assert keys == {request.run_key}  # the daemon launches nothing twice
    decide(instance, drift="drift", retrain=True, decision="d2")
    second = tick(instance, standing.cursor)
    assert second.run_requests[0].run_key != request.run_key


def test_a_drift_that_is_not_worth_it_launches_nothing(instance):
    decide(instance, drift="drift", retrain=False)
    said = tick(instance)
    assert not said.run_requests and "not_worth_it" in said.skip_message
