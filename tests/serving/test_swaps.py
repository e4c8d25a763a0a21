"""What `benchmarks.swaps` says, on a small scale: a real process, real swaps and a real kill."""

from pathlib import Path

import pytest

from benchmarks.swaps import measure


@pytest.mark.daemon
def test_no_answer_is_mixed_lost_or_falsely_whole_whatever_is_swapped_and_killed(
    tmp_path: Path,
) -> None:
    found = measure(tmp_path / "home", requests=160, clients=6, swaps=5)
    assert found["requests"] == 160 and found["refused"] == 0
    assert found["mixed"] == found["untraced"] == found["silent_cuts"] == 0
    assert all(found["answers_by_release"])
    assert found["streams_at_the_kill"] >= 1 and found["cut"] >= 1
    assert found["logged_as_cut"] >= 1
