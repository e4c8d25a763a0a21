import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
from headwater.evaluation.cache import ResultCache


def test_values_survive_and_the_first_one_stays(tmp_path: Path) -> None:
    ResultCache(tmp_path / "new").put("a", {"text": "größer", "ms": 1.5})
    again = ResultCache(tmp_path / "new")
    again.put("a", "other")
    again.put("b", 2.25)
    assert again.get(["a", "b", "c"]) == {"a": {"text": "größer", "ms": 1.5}, "b": 2.25}


def test_a_kill_loses_nothing_that_was_put(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from headwater.evaluation.cache import ResultCache\n"
        "cache = ResultCache(pathlib.Path(sys.argv[1]))\n"
        "for n in range(100000):\n"
        "    cache.put(str(n), n); print(n, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
    assert ResultCache(tmp_path).get(map(str, said)) == {str(n): n for n in said}


def test_a_broken_cache_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "evaluation.db").write_bytes(b"not a database" * 100)
    with pytest.raises(HeadwaterError, match="Delete it"):
        ResultCache(tmp_path)
