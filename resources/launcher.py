"""The run launcher of one machine: Dagster's own, and it looks whether workers live.

Dagster's code server notices a worker that dies, but dies itself with the machine's memory, and
then nobody would: a run would be "started" for ever. Run monitoring asks this launcher, wherever
the code server is.
"""

from typing import Any

import dagster as dg
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus

from resources.workers import dead_worker


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Launches as `DefaultRunLauncher` does; named in dagster.yaml."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Tells run monitoring to ask."""
        return True

    def check_run_worker_health(self, run: Any) -> CheckRunHealthResult:
        """Whether the process of a run that is started lives."""
        pid = dead_worker(self._instance, run)
        if pid is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"The process {pid} that ran it has ended without a word."
        )
