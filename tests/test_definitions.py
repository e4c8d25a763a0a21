"""The graph as a whole: it loads light, and a change of lineage shows up in review."""

import json
import subprocess
import sys

import pytest

#: Slow to import, so nothing that loads with the code location may import them.
HEAVY = [
    "torch",
    "transformers",
    "peft",
    "mlflow",
    "evidently",
    "great_expectations",
    "sentence_transformers",
    "qdrant_client",
    "sklearn",
    "matplotlib",
    "codecarbon",
    "ray",
]

DESCRIBE = """
import json, sys
from definitions import defs
graph = defs.resolve_asset_graph()
def describe(node):
    return {
        "group": node.group_name,
        "deps": sorted(key.to_user_string() for key in node.parent_keys),
        "partitioned": node.is_partitioned,
        "owners": list(node.owners),
        "automated": node.automation_condition is not None,
        "fresh": node.freshness_policy is not None,
    }
repository = defs.get_repository_def()
print(json.dumps({
    "heavy": sorted(set(sys.modules) & set(sys.argv[1].split())),
    "assets": {key.to_user_string(): describe(graph.get(key)) for key in graph.get_all_asset_keys()},
    "checks": sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in graph.asset_check_keys),
    "jobs": sorted(name for name in repository.job_names if not name.startswith("__")),
    "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
    "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
}))
"""


@pytest.fixture(scope="module")
def described(furnished, tmp_path_factory):
    """The definitions as a fresh process sees them."""
    import os

    home = furnished(tmp_path_factory.mktemp("home"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, " ".join(HEAVY)],
        env=environment | {"HEADWATER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_loading_imports_nothing_heavy(described):
    assert described["heavy"] == []


def test_every_asset_of_ours_has_an_owner_and_a_group(described):
    ours = {k: v for k, v in described["assets"].items() if v["group"] != "sources"}
    assert all(node["owners"] for node in ours.values()), ours
    assert {node["group"] for node in described["assets"].values()} == {
        "sources", "documents", "warehouse", "embeddings", "datasets", "training", "evaluation",
        "release", "monitoring",
    }  # fmt: skip


def test_automation_never_trains(described):
    automated = {name for name, node in described["assets"].items() if node["automated"]}
    assert not automated & {"sft_dataset", "lora_adapter"}
    assert {"raw_documents", "vector_index", "release", "endpoint"} <= automated


def test_the_graph_is_the_one_that_was_reviewed(described, snapshot):
    described.pop("heavy")
    assert described == snapshot
