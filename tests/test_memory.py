"""Memory is measured in processes of its own: what other tests have freed would count."""

import gc
import os
import subprocess
import sys

import pytest

from headwater.memory import uncollected

#: Frees Arrow's memory and the C library's, all but the last, and says how many MB stay resident before
#: and after.
FREED = """
import psutil, pyarrow as pa
from headwater.memory import give_back

me = psutil.Process()
give_back()
pa.array(["x"])  # loads what it needs
before = me.memory_info().rss
tables = [pa.array(["x" * 500] * 2_000) for _ in range(100)]
texts = [b"y" * 5_000 for _ in range(20_000)]
last = texts[-1]
del tables, texts
kept = me.memory_info().rss - before
give_back()
print(kept // 2**20, (me.memory_info().rss - before) // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as glibc does it")
@pytest.mark.parametrize("allocator", ["jemalloc", "mimalloc"])
def test_what_was_freed_is_given_back(allocator):
    """Of 200 MB; some stays with Arrow's allocators."""
    said = subprocess.run(
        [sys.executable, "-c", FREED],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": allocator},
    )
    kept, left = map(int, said.stdout.split())
    assert kept > 100 and left < 80


def test_the_collector_rests_and_is_as_it_was():
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(RuntimeError), uncollected():
        raise RuntimeError
    assert gc.isenabled()
