"""Memory is measured in processes of its own: what other tests have freed would count."""

import gc
import subprocess
import sys

import pytest

from headwater.memory import uncollected

#: Frees Arrow's memory and the C library's, and says how many MB stay resident before and after.
FREED = """
import psutil, pyarrow as pa
from headwater.memory import give_back

me = psutil.Process()
give_back()
before = me.memory_info().rss
tables = [pa.array(["x" * 500] * 2_000) for _ in range(100)]
texts = [b"y" * 5_000 for _ in range(20_000)]
del tables, texts
kept = me.memory_info().rss - before
give_back()
print(kept // 2**20, (me.memory_info().rss - before) // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as glibc does it")
def test_what_was_freed_is_given_back():
    said = subprocess.run([sys.executable, "-c", FREED], capture_output=True, check=True, text=True)
    kept, left = map(int, said.stdout.split())
    assert left < kept - 50


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
