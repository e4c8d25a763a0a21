"""`headwater build` where runs are pods: each Job's own command, in a process of its own, two at once.

There is no cluster: what Dagster's launcher asks one for is taken from the call, and its command is run
here. Dagster's daemon is the one that runs elsewhere, an iteration at a time.
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headwater.documents.chunk import shard_documents
from headwater.documents.parser_pool import ParserLimits
from headwater.documents.personal import policies_of
from headwater.documents.suites import load_suite
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.static import StaticEncoder
from headwater.lake import Lake
from headwater.settings import Settings
from tests.documents.examples import PROSE, Corpus

REPOSITORY = Path(__file__).parents[2]
TABLES = (
    "raw_documents", "clean_documents", "quarantine", "duplicates", "document_shards",
    "chunk_embeddings",
)  # fmt: skip

#: Builds the tables of documents in a process whose settings say how; prints what the build says.
BUILD = """
import json, sys
from headwater.settings import Settings, quiet_libraries
quiet_libraries()
import builds, plans
from tests.integration import test_pods

settings = Settings()
if settings.executor == "pods":
    cluster = test_pods.Cluster()
    builds.backfills.sleep = cluster.for_a_while
chosen = ("raw_documents", "clean_documents", "quarantine", "duplicates", "document_shards",
          "chunk_embeddings", "vector_index")
plan = builds.make_plan
def of_documents(*given, **options):
    found = plan(*given, **options)
    kept = tuple(name for name in found.stale if name in chosen)
    return plans.Plan(stale=kept, deferred=(), reasons=found.reasons, observed=found.observed)
builds.make_plan = of_documents
result = builds.build(settings)
if settings.executor == "pods":
    result["pods"] = cluster.pods
print(json.dumps(result, default=str))
"""


class Cluster:
    """A daemon and nodes: started runs are Jobs, and a Job's command a process."""

    def __init__(self) -> None:
        from kubernetes import client

        self.pods: list[int] = []  # at once, of each look that found some
        self._asked: list = []
        self._context = None
        client.BatchV1Api.create_namespaced_job = lambda _, body, namespace, **more: (
            self._asked.append(body)
        )

    def for_a_while(self, _seconds: float) -> None:
        """What happens between two looks at a backfill."""
        from dagster._daemon.backfill import execute_backfill_iteration
        from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
            QueuedRunCoordinatorDaemon,
        )

        context = self._context = self._context or _workspace()
        for error in execute_backfill_iteration(context, logging.getLogger("daemon")):
            assert error is None, error
        list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(context))
        asked, self._asked = self._asked, []
        commands = [job.spec.template.spec.containers[0].args for job in asked]
        running = [
            subprocess.Popen([sys.executable, "-m", *command], stdout=sys.stderr)
            for command in commands
        ]
        for process in running:
            process.wait()
        if running:
            self.pods.append(len(running))


def _workspace():
    import dagster as dg
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

    origin = InProcessCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(
            module_name="definitions",
            working_directory=str(REPOSITORY),
            executable_path=sys.executable,
        ),
        location_name="headwater",
        entry_point=["dagster"],
    )
    target = InProcessWorkspaceLoadTarget([origin])
    return WorkspaceProcessContext(dg.DagsterInstance.get(), target).__enter__()


def build(home: Path, documents: Path, **chosen: str) -> dict:
    sources = home / "sources.yaml"
    home.mkdir(exist_ok=True)
    entry = {"name": "docs", "kind": "folder", "path": str(documents)}
    sources.write_text(yaml.safe_dump({"sources": [entry]}))
    environment = {
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
        "HEADWATER_HOME": str(home),
        "HEADWATER_SHARDS": "4",
        "HEADWATER_EMBEDDING_MODEL": "static:64",
        "HEADWATER_THREADS": "1",
        **chosen,
    }
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def instance_of_pods(home: Path) -> Path:
    """Dagster's home with the instance of deploy/kubernetes, but for the database of a cluster."""
    from resources import pods

    local = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text("utf-8"))
    config = pods.instance(Settings(executor="pods", workers=2), local)
    for part in ("storage", "local_artifact_storage", "compute_logs"):
        del config[part]
    folder = home / "dagster"
    folder.mkdir(parents=True)
    fake = {"name": "fake", "cluster": {"server": "http://127.0.0.1:1"}}
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "fake", "clusters": [fake],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    config["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(folder / "kubeconfig"),
        "job_namespace": "documents",
    }
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    return folder


def by_one_process(lake: Lake, documents: Path) -> Lake:
    """What the stages make of it, with the settings of the build."""
    settings = Settings(shards=4, embedding_model="static:64", home=lake.root)
    corpus, shards = Corpus(documents, lake), settings.shard_keys()
    corpus.raw(settings.max_document_bytes)
    corpus.clean(
        settings.max_text_chars,
        quality_filter=settings.quality_filter,
        personal=policies_of(settings.document_pii, settings.document_pii_kinds, {}),
        suite=load_suite("documents", settings.expectations),
        limits=ParserLimits(memory_mb=settings.parser_memory_mb, seconds=settings.parser_seconds),
    )
    corpus.duplicates(settings.duplicate_threshold)
    shard_documents(lake, shards, settings.chunk_tokens, settings.embedding_model)
    embed_chunks(lake, shards, StaticEncoder(settings.embedding_model))
    return lake


def rows(lake: Lake) -> dict[str, list]:
    return {
        table: sorted(lake.read(table).to_pylist(), key=lambda row: str(sorted(row.items())))
        for table in TABLES
    }


@pytest.mark.daemon
@pytest.mark.timeout(900)
def test_a_build_of_pods_makes_what_one_process_makes(tmp_path: Path) -> None:
    pytest.importorskip("dagster_k8s")
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(14):
        own = " ".join(f"w{number}x{at}" for at in range(40))
        text = f"# Pier {number}\n\n{PROSE}\n\n## Berths\n\n{own}. {PROSE}"
        (documents / f"{number}.md").write_text(text)
    (documents / "copy.md").write_bytes((documents / "3.md").read_bytes())
    (documents / "empty.txt").write_bytes(b"")
    shared = tmp_path / "shared"
    pods = {"HEADWATER_EXECUTOR": "pods", "HEADWATER_WORKERS": "2"}
    pods["DAGSTER_HOME"] = str(instance_of_pods(shared))
    many = build(shared, documents, **pods)
    assert many["success"], many["errors"]
    made = rows(Lake(shared / "lake"))
    assert made == rows(by_one_process(Lake(tmp_path / "alone"), documents))
    assert many["documents"] == {
        "seen": 16, "processed": 16, "quarantined": 1, "duplicates": 1, "removed": 0,
    }  # fmt: skip
    assert many["chunks"] == dict.fromkeys(("total", "embedded"), len(made["document_shards"]))
    # Sources; documents; duplicates; chunks and vectors; index: shards by two pods at once.
    assert many["pods"] == [1, 2, 1, 2, 1]
    again = build(shared, documents, **pods)
    assert not again["stale"] and again["pods"] == []
