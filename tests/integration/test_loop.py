"""The closed loop with the tiny model: a running daemon, real traffic, no hand on it."""

import pytest

from benchmarks.loop import measure, open_ends


@pytest.mark.loop
@pytest.mark.timeout(2400)
def test_drift_leads_to_one_retraining_and_a_release_that_answers_as_if_it_had_always_known(
    tmp_path,
):
    found = measure("smoke", tmp_path, port=18461)
    assert open_ends(found) == []
    (decision,) = [event for event in found["timeline"] if event["event"] == "decision"]
    assert decision["verdict"] == "retrain" and len(decision["reasons"]) > 2
