"""The executor that the settings choose."""

import atexit
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from headwater.executors.base import Executor
from headwater.executors.inline import Inline
from headwater.executors.on_ray import OnRay
from headwater.executors.processes import Processes
from headwater.settings import Settings


def executor_of(settings: Settings) -> AbstractContextManager[Executor]:
    """The executor of `HEADWATER_EXECUTOR`; it starts nothing before its first task.

    Worker processes stay for the next stage of this process: starting one takes it a second or two.
    A pod is a run of Dagster with shards of its own, which the process in it does by itself.

    Raises:
        HeadwaterError: it needs what is not installed.
    """
    match settings.executor:
        case "processes":
            return nullcontext(_workers(os.getpid(), settings.workers or settings.threads))
        case "ray":
            return OnRay(settings.ray_address, settings.workers)
        case _:
            return Inline()


@cache
def _workers(process: int, most: int) -> Processes:
    """The worker processes of a process, this one, which end with it; a fork of it has others."""
    executor = Processes(most)

    def end() -> None:
        if os.getpid() == process:  # a fork may end before
            executor.close()

    atexit.register(end)
    return executor
