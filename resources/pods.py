"""Runs of Dagster as pods of Kubernetes: what a pod is given, and the instance that starts them.

Knows settings and Dagster's forms (`dagster_k8s`), no stage. Who applies what is written here, and the
names it goes by there, are in deploy/kubernetes.
"""

from collections.abc import Mapping
from typing import Any

from headwater.settings import Settings

#: Names in deploy/kubernetes: the volume of all state, settings, Dagster's instance, its database.
HOME_CLAIM, SETTINGS_MAP = "headwater-home", "headwater-settings"
INSTANCE_MAP, DATABASE_SECRET = "headwater-instance", "headwater-postgres"
#: A run's pod asks nothing of the cluster, so this account may do nothing and has no token.
RUN_ACCOUNT = "headwater-run"
#: Where things lie in a container; its own files can't be written.
HOME, DAGSTER_HOME, SCRATCH = "/var/lib/headwater", "/etc/dagster", "/tmp"
_USER = 10001
#: A day, in seconds: a finished Job is kept so long to be looked at, and no run lasts longer.
_DAY = 86_400


def pods(settings: Settings) -> int:
    """Pods at once, at most."""
    return settings.workers or settings.threads


def run_pod(settings: Settings) -> dict[str, Any]:
    """What the pod of a run is given, as `K8sRunLauncher` takes it (`run_k8s_config`).

    One process, not root, in a container whose own files cannot be written and that has no
    capability; the volume of all state, and scratch space that ends with the pod. Nothing begins a
    pod again but Dagster, which knows what its run had done.
    """
    memory = f"{settings.pod_memory_mb}Mi"
    sizes = {"cpu": str(settings.threads), "memory": memory, "ephemeral-storage": "2Gi"}
    return {
        "container_config": {
            "resources": {"requests": sizes, "limits": sizes},
            "security_context": {
                "allow_privilege_escalation": False,
                "read_only_root_filesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            # Libraries that keep a cache look for a home.
            "env": [{"name": "HOME", "value": SCRATCH}],
            "volume_mounts": [
                {"name": "home", "mount_path": HOME},
                {"name": "scratch", "mount_path": SCRATCH},
            ],
        },
        "pod_spec_config": {
            "automount_service_account_token": False,
            "enable_service_links": False,
            "security_context": {
                "run_as_non_root": True,
                "run_as_user": _USER,
                "run_as_group": _USER,
                "fs_group": _USER,
                "fs_group_change_policy": "OnRootMismatch",
                "seccomp_profile": {"type": "RuntimeDefault"},
            },
            "volumes": [
                {"name": "home", "persistent_volume_claim": {"claim_name": HOME_CLAIM}},
                {"name": "scratch", "empty_dir": {"size_limit": "2Gi"}},
            ],
        },
        "job_spec_config": {
            "backoff_limit": 0,
            "ttl_seconds_after_finished": _DAY,
            "active_deadline_seconds": _DAY,
        },
    }


def instance(settings: Settings, local: Mapping[str, Any]) -> dict[str, Any]:
    """Dagster's instance where runs are pods.

    Args:
        local: that of one machine, `dagster.yaml`; what is not said here is as it is there.
    """
    runs = {**local["concurrency"]["runs"], "max_concurrent_runs": pods(settings) + 1}
    return {
        **local,
        # Pods on several nodes write to it: SQLite on a shared volume would not bear that.
        "storage": {
            "postgres": {
                "postgres_db": {
                    "hostname": {"env": "HEADWATER_POSTGRES_HOST"},
                    "db_name": "dagster",
                    "username": "dagster",
                    "password": {"env": "DAGSTER_PG_PASSWORD"},
                }
            }
        },
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": f"{HOME}/dagster"},
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": f"{HOME}/dagster/storage"},
        },
        # One that looks at production beside the pods.
        "concurrency": {**local["concurrency"], "runs": runs},
        "run_launcher": {
            "module": "dagster_k8s",
            "class": "K8sRunLauncher",
            "config": {
                "service_account_name": RUN_ACCOUNT,
                "job_namespace": {"env": "HEADWATER_NAMESPACE"},
                "job_image": settings.pod_image,
                "image_pull_policy": "IfNotPresent",
                "dagster_home": DAGSTER_HOME,
                "instance_config_map": INSTANCE_MAP,
                "postgres_password_secret": DATABASE_SECRET,
                "env_config_maps": [SETTINGS_MAP],
                "run_k8s_config": run_pod(settings),
            },
        },
        "run_monitoring": {
            **local["run_monitoring"],
            # An image may have to be pulled, and a node to be started.
            "start_timeout_seconds": 900,
        },
    }
