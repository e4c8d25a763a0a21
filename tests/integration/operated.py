"""A small code location with the real alert sensors: runs that fail, and one that does not end.

A line "JOB KEY" in the file `launch` of the home asks for a run.
"""

import os
import time
from pathlib import Path

import dagster as dg

from headwater.monitoring import outbox
from headwater.settings import Settings
from resources.environment import resources
from sensors.alerts import alert_delivery, failed_checks, failed_runs, lasting_conditions

HOME = Path(os.environ["HEADWATER_HOME"])
ALERTS = [failed_runs, failed_checks, lasting_conditions, alert_delivery]

# What must hold of ticks and tries holds however near they are, and nearer ones are not waited for.
for sensor in ALERTS:
    sensor._min_interval = 2
outbox.FIRST_WAIT, outbox.LONGEST_WAIT = 1.0, 4.0


def failing(number: int) -> dg.AssetsDefinition:
    @dg.asset(name=f"fails{number}")
    def fails() -> None:
        raise OSError(f"No space left on device {number}")

    return fails


@dg.asset(pool="training")
def trains() -> None:
    (HOME / "training").touch()
    if not (HOME / "trained").exists():
        time.sleep(600)


ASSETS = [*(failing(number) for number in range(3)), trains]
JOBS = [dg.define_asset_job(f"job_{a.key.to_user_string()}", [a]) for a in ASSETS]


@dg.sensor(jobs=JOBS, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def launch():
    file = HOME / "launch"
    for line in file.read_text().splitlines() if file.exists() else ():
        job, key = line.split()
        yield dg.RunRequest(job_name=job, run_key=key)


defs = dg.Definitions(
    assets=ASSETS,
    jobs=JOBS,
    sensors=[launch, *ALERTS],
    resources={k: v for k, v in resources(Settings()).items() if k in ("alerts", "settings")},
    executor=dg.in_process_executor,
)
