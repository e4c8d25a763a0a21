"""The closed loop with the tiny model: a running daemon, real traffic, no hand on it."""

import pytest

from benchmarks.loop import measure


@pytest.mark.loop
@pytest.mark.timeout(2400)
def test_drift_leads_to_one_retraining_and_a_release_that_answers_as_if_it_had_always_known(
    tmp_path,
):
    found = measure("smoke", tmp_path, port=18461)
    assert found["false_firings"] == 0 and found["retrainings"] == 1
    # Random weights may find both topics equally unlikely; then nothing was lost.
    assert found["recovered"] is None or found["recovered"] >= 0.9
    assert found["old_topic_delta"]["low"] <= 0, "the old topic got worse beyond doubt"
    changes = [event for event in found["timeline"] if event["event"] == "traffic"]
    assert [change["change"] for change in changes][-1] == "promoted"
    (decision,) = [event for event in found["timeline"] if event["event"] == "decision"]
    assert decision["verdict"] == "retrain" and len(decision["reasons"]) > 2
