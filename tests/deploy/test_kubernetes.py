"""Pods: manifests as Kubernetes knows them, and the Job that Dagster's launcher makes of a run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from headwater.settings import Settings
from resources import pods
from scripts import kubernetes as rendering

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
#: Of the schemas that manifests are held against.
VERSION = "1.37"
KINDS = {
    "ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Role", "RoleBinding",
    "Service", "ServiceAccount",
}  # fmt: skip


def manifests() -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text("utf-8"))
    ]


def named(kind: str, name: str) -> dict[str, Any]:
    [found] = [
        each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def test_manifests_are_what_kubernetes_takes() -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    assert {each["kind"] for each in manifests()} == KINDS
    for manifest in manifests():
        validate(manifest, VERSION, strict=True)
        assert "namespace" not in manifest["metadata"], "they go where kubectl is told"
    wrong = named("PersistentVolumeClaim", "headwater-home")
    wrong["spec"]["acessModes"] = wrong["spec"].pop("accessModes")
    with pytest.raises(Exception, match="acessModes"):
        validate(wrong, VERSION, strict=True)


def test_what_manifests_name_is_there() -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in manifests()}
    for name in (pods.SETTINGS_MAP, pods.INSTANCE_MAP):
        assert ("ConfigMap", name) in there
    assert ("PersistentVolumeClaim", pods.HOME_CLAIM) in there
    assert ("ServiceAccount", pods.RUN_ACCOUNT) in there
    for name in ("headwater-daemon", "headwater-webserver"):
        [container] = named("Deployment", name)["spec"]["template"]["spec"]["containers"]
        assert container["image"] == rendering.settings().pod_image
    home = named("ConfigMap", pods.SETTINGS_MAP)["data"]["HEADWATER_HOME"]
    assert home == pods.HOME
    assert pods.pods(rendering.settings()) == 4


def test_the_instance_is_rendered_from_the_settings() -> None:
    written = (FOLDER / "instance.yaml").read_text("utf-8")
    assert written == rendering.rendered(), "run scripts/kubernetes.py"
    instance = yaml.safe_load(named("ConfigMap", pods.INSTANCE_MAP)["data"]["dagster.yaml"])
    local = yaml.safe_load((FOLDER.parents[1] / "dagster.yaml").read_text("utf-8"))
    # What reliability rests on at home it rests on there.
    for key in ("telemetry", "run_retries", "freshness", "sensors", "retention"):
        assert instance[key] == local[key]
    assert instance["concurrency"]["pools"] == local["concurrency"]["pools"]
    assert instance["concurrency"]["runs"]["max_concurrent_runs"] == 5


@dg.job
def job() -> None: ...


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The Job that the launcher of instance.yaml asks a cluster for, as it goes over the wire."""
    pytest.importorskip("dagster_k8s")
    from dagster._core.launcher import LaunchRunContext
    from kubernetes import client

    local = yaml.safe_load((FOLDER.parents[1] / "dagster.yaml").read_text("utf-8"))
    settings = Settings(executor="pods", threads=3, pod_memory_mb=2048, pod_image="mirror/hw:7")
    config = pods.instance(settings, local)
    for part in ("storage", "local_artifact_storage", "compute_logs"):
        del config[part]  # no database here
    context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [context],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    config["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "kubeconfig"),
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HEADWATER_NAMESPACE", "documents")
    asked: list[tuple[str, Any]] = []
    monkeypatch.setattr(
        client.BatchV1Api,
        "create_namespaced_job",
        lambda self, body, namespace, **_: asked.append((namespace, body)),
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = _run_of_a_location(instance)
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    [(namespace, body)] = asked
    assert namespace == "documents"
    yield client.ApiClient().sanitize_for_serialization(body)


def _run_of_a_location(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run with the origin that a code location gives it: from there a pod loads its code."""
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

    origin = JobPythonOrigin(
        job_name="__ASSET_JOB",
        repository_origin=RepositoryPythonOrigin(
            executable_path="/usr/local/bin/python",
            code_pointer=ModuleCodePointer("definitions", "defs", "/opt/headwater"),
            entry_point=["dagster"],
        ),
    )
    return instance.create_run_for_job(job, job_code_origin=origin)


def test_the_job_of_a_run_is_what_kubernetes_takes(launched: dict[str, Any]) -> None:
    pytest.importorskip("kubernetes_validate").validate(launched, VERSION, strict=True)


def test_a_run_has_what_it_needs_and_no_more(launched: dict[str, Any]) -> None:
    job = launched["spec"]
    # Dagster's retry is the one that knows what a run has done.
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    pod = job["template"]["spec"]
    assert pod["serviceAccountName"] == pods.RUN_ACCOUNT
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"] == "mirror/hw:7"
    assert container["resources"]["limits"]["memory"] == "2048Mi"
    assert container["resources"]["requests"]["cpu"] == "3"
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    claim = volumes[mounts[pods.HOME]]["persistentVolumeClaim"]["claimName"]
    assert claim == pods.HOME_CLAIM
    assert "emptyDir" in volumes[mounts[pods.SCRATCH]]
    [settings] = [each["configMapRef"]["name"] for each in container["envFrom"]]
    assert settings == pods.SETTINGS_MAP
    secrets = [each for each in container["env"] if "valueFrom" in each]
    assert [each["valueFrom"]["secretKeyRef"]["name"] for each in secrets] == [pods.DATABASE_SECRET]
    command = container["args"]
    assert command[:3] == ["dagster", "api", "execute_run"]
    origin = json.loads(command[3])["pipeline_origin"]["repository_origin"]
    assert origin["code_pointer"]["module"] == "definitions"


def test_as_many_runs_as_pods_have_the_shards() -> None:
    from assets.partitions import in_runs

    assert in_runs(Settings()).max_partitions_per_run is None
    shared = in_runs(Settings(executor="pods", workers=5, shards=16))
    assert shared.max_partitions_per_run == 4  # four runs, of which five may be at work
    assert in_runs(Settings(executor="pods", workers=99, shards=2)).max_partitions_per_run == 1
