"""dagster.yaml, as Dagster reads it: dead workers are noticed, trainings do not share the machine."""

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from resources.launcher import WatchedRunLauncher
from resources.workers import PID_TAG, dead_worker, identity

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copyfile(REPOSITORY / "dagster.yaml", tmp_path / "dagster.yaml")
    return tmp_path


@pytest.fixture
def instance(home: Path):
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@dg.job
def job() -> None: ...


def test_settings_that_reliability_rests_on(instance) -> None:
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_poll_interval_seconds <= 15  # twice that is the promise
    assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] > 0
    assert not instance.run_retries_retry_on_asset_or_op_failure
    limits = instance.get_concurrency_config().run_queue_config.tag_concurrency_limits
    assert [(limit["key"], limit["limit"]) for limit in limits] == [("headwater/machine", 1)]
    assert instance.get_concurrency_config().pool_config.default_pool_limit == 1


def test_what_trains_or_generates_holds_the_one_slot() -> None:
    from assets.evaluation import generation_report
    from assets.policies import TRAINING_POOL
    from assets.training import lora_adapter

    assert {lora_adapter.op.pool, generation_report.op.pool} == {TRAINING_POOL}


def test_what_writes_the_document_tables_holds_the_one_slot() -> None:
    from assets import documents, embeddings
    from assets.policies import BUILD_POOL

    writers = (
        documents.raw_documents, documents.clean_documents, documents.duplicates,
        documents.document_shards, embeddings.chunk_embeddings, embeddings.vector_index,
    )  # fmt: skip
    assert {each.op.pool for each in writers} == {BUILD_POOL}


@pytest.fixture
def worker():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield process
    process.kill()
    process.wait()


def test_a_killed_worker_is_noticed_without_its_code_server(instance, worker) -> None:
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event("Started process.", run, EngineEventData.in_process(worker.pid))

    def look() -> dg.DagsterRunStatus:
        record = instance.get_run_record_by_id(run.run_id)
        monitor_started_run(instance, None, record, logging.getLogger())
        return instance.get_run_by_id(run.run_id).status

    assert look() is dg.DagsterRunStatus.STARTED
    worker.kill()
    while psutil.Process(worker.pid).status() != psutil.STATUS_ZOMBIE:  # not reaped by anybody
        time.sleep(0.01)
    assert look() is dg.DagsterRunStatus.FAILURE


def test_a_number_that_another_process_got_is_not_the_worker(instance, worker) -> None:
    tagged = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={PID_TAG: f"{worker.pid}@12345.00"}
    )
    assert dead_worker(instance, tagged) == worker.pid
    alive = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={PID_TAG: identity(worker.pid)}
    )
    assert dead_worker(instance, alive) is None


def test_a_retry_is_not_taken_for_its_dead_parent(instance) -> None:
    tags = {PID_TAG: "999999999@1.00"}
    parent = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    assert dead_worker(instance, parent) == 999999999
    retry = instance.create_run_for_job(
        job,
        status=dg.DagsterRunStatus.STARTED,
        tags=tags,
        parent_run_id=parent.run_id,
        root_run_id=parent.run_id,
    )
    assert dead_worker(instance, retry) is None


TRAINER = """
import sys, time
from pathlib import Path
import dagster as dg
from training.run import one_training

@dg.op(pool="training")
def train():
    with one_training(Path(sys.argv[1]) / "training"):
        print("begin", time.monotonic(), flush=True)
        time.sleep(1.5)
        print("end", time.monotonic(), flush=True)

@dg.job(executor_def=dg.in_process_executor)
def retrain():
    train()

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    ready = sys.stdin.readline()
    retrain.execute_in_process(instance=instance)
"""


def test_two_trainings_never_share_the_machine(home: Path) -> None:
    """In two processes, as a retraining and a build from the command line are."""
    with dg.DagsterInstance.from_config(str(home)):
        pass  # makes the databases
    command = [sys.executable, "-c", TRAINER, str(home)]
    environment = os.environ | {"DAGSTER_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(REPOSITORY)}
    both = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )
        for _ in range(2)
    ]  # fmt: skip
    spans = []
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        out, err = process.communicate()
        marks = dict(line.split() for line in out.splitlines() if line.startswith(("begin", "end")))
        assert set(marks) == {"begin", "end"}, err[-2000:]
        spans.append((float(marks["begin"]), float(marks["end"])))
    first, second = sorted(spans)
    assert first[1] <= second[0]
