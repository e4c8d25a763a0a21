"""The processes that run runs on this machine: whose they are, and whether they live.

A run of the daemon has its worker's number in the event that Dagster's code server writes when it
starts it; a run of the command line has its own in a tag.
"""

import os

import dagster as dg
import psutil

PID_TAG = "headwater/pid"
#: Clocks of the kernel and of the event log may differ by so many seconds.
_CLOCKS = 2.0


def identity(pid: int) -> str:
    """A process by number and start time, so that a reused number is another process."""
    return f"{pid}@{psutil.Process(pid).create_time():.2f}"


def own_tag() -> dict[str, str]:
    """What a run that this process runs itself is tagged with."""
    return {PID_TAG: identity(os.getpid())}


def started_by_server(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Number of the worker and when the code server wrote that it started it."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def dead_worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int | None:
    """Number of the run's process if it has ended; None if it lives, or is not known."""
    started = started_by_server(instance, run)
    if started is not None:
        pid, when = started
        return None if _lives(pid, born_before=when + _CLOCKS) else pid
    # A retry keeps its parent's tags, but not its process.
    tag = run.tags.get(PID_TAG) if run.parent_run_id is None else None
    if tag is None:
        return None
    pid = int(tag.split("@")[0])
    return None if _lives(pid) and identity(pid) == tag else pid


def _lives(pid: int, born_before: float = float("inf")) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= born_before
    except psutil.NoSuchProcess:
        return False
