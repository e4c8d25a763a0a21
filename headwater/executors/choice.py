"""The executor that the settings choose."""

from contextlib import AbstractContextManager

from headwater.executors.base import Executor
from headwater.executors.inline import Inline
from headwater.executors.on_ray import OnRay
from headwater.executors.processes import Processes
from headwater.settings import Settings


def executor_of(settings: Settings) -> AbstractContextManager[Executor]:
    """The executor of `HEADWATER_EXECUTOR`; it starts nothing before its first task.

    A pod is a run of Dagster with shards of its own, which the process in it does by itself.

    Raises:
        HeadwaterError: it needs what is not installed.
    """
    match settings.executor:
        case "processes":
            return Processes(settings.workers or settings.threads)
        case "ray":
            return OnRay(settings.ray_address, settings.workers)
        case _:
            return Inline()
