"""Notes of requests at work, and what becomes of them after a kill."""

import subprocess
import sys
from pathlib import Path

import pytest

from headwater.serving.durable_log import DurableLogError
from headwater.serving.in_flight import InFlight

_KILLED = """
import os, signal, sys
from pathlib import Path
from headwater.serving.in_flight import InFlight
notes = InFlight(Path(sys.argv[1]))
notes.note("a", session="s")
notes.note("a", release="r")
notes.note("b", session="t")
notes.end("b")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_what_it_was_doing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    notes = InFlight(tmp_path)
    assert list(notes.left_behind()) == [{"a": {"session": "s", "release": "r"}}]
    assert list(notes.left_behind()) == [], "it is told once"
    notes.close()


def test_a_living_endpoint_is_left_alone(tmp_path: Path) -> None:
    first, second = InFlight(tmp_path), InFlight(tmp_path)
    first.note("a", session="s")
    assert list(second.left_behind()) == []
    first.close()
    assert list(second.left_behind()) == [], "one that ends in order leaves nothing"
    second.close()


def test_a_torn_fact_is_left_out(tmp_path: Path) -> None:
    notes = InFlight(tmp_path)
    notes.note("a", session="s")
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    with (folder / "a").open("a") as file:
        file.write('{"release": "r')
    notes._lock.close()  # as a kill does
    after = InFlight(tmp_path)
    assert list(after.left_behind()) == [{"a": {"session": "s"}}]
    after.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    notes = InFlight(tmp_path)
    notes.close()
    with pytest.raises(DurableLogError, match="cannot be written"):
        notes.note("a", session="s")
