"""What this process does with memory that nothing uses any more.

Allocators keep what is freed for what comes next: after a stage over many documents that is a third of
what is resident, and the next stage's is added to it.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pyarrow as pa


def give_back() -> None:
    """Give what nothing uses back to the system; some milliseconds."""
    pa.default_memory_pool().release_unused()
    _trim()(0)


@contextmanager
def work_apart() -> Iterator[None]:
    """For a stage: the search for cycles passes over what was there before it, the modules of all libraries
    among that, which take it tenths of a second each time; and what nothing uses is given back at the end.

    For the whole process: where stages are in several threads, the first that ends ends this for all.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        give_back()


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for cycles, for making many objects that are in none and stay: the more of them
    there are, the longer it looks at all of them again and again.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@cache
def _trim() -> Callable[[int], int]:
    """`malloc_trim` of glibc; where the C library is another one, nothing."""
    trim: Callable[[int], int] = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
    return trim
