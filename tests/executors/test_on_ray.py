"""The same tables from two nodes of a Ray on this machine, also where one of them is killed."""

import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

import pytest

from headwater.documents import chunk, clean
from headwater.embeddings import apart
from headwater.errors import HeadwaterError
from headwater.executors.on_ray import OnRay
from tests.executors import tasks
from tests.executors.examples import build, contents

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def cluster(monkeypatch):
    """A head, which the tests are connected to, and nobody else yet."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # no token in anybody's home
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False})
    yield cluster
    cluster.shutdown()


def wait_for(count: int, folder: Path) -> None:
    while len(list(folder.iterdir())) < count:
        time.sleep(0.05)


def test_two_nodes_make_what_one_process_makes(cluster, corpus, inline, monkeypatch):
    cluster.add_node()
    for module in (clean, chunk):
        monkeypatch.setattr(module, "BLOCK", 3)
    alone, digests = inline
    with OnRay(cluster.address) as executor:
        assert build(corpus, executor) == digests
        nodes = set(executor.map(tasks.node, range(8)))
    assert len(nodes) == 2
    ours, theirs = contents(corpus), contents(alone)
    assert ours == theirs


def test_a_node_that_is_killed_in_mid_run_changes_nothing(
    cluster, corpus, inline, tmp_path, monkeypatch
):
    node = cluster.add_node()
    for module in (clean, chunk):
        monkeypatch.setattr(module, "BLOCK", 3)
    begun = tmp_path / "begun"
    begun.mkdir()
    for module, name in ((clean, "clean_apart"), (chunk, "split_apart"), (apart, "encode_apart")):
        real = f"{module.__name__}:{name}"
        stuck = partial(tasks.stuck_on, node.node_id, str(begun / name), real)
        monkeypatch.setattr(module, name, stuck)

    def kill() -> None:
        wait_for(1, begun)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    alone, digests = inline
    with OnRay(cluster.address) as executor:
        killer.start()
        assert build(corpus, executor) == digests
        killer.join()
    assert contents(corpus) == contents(alone)
    assert [path.name for path in begun.iterdir()] == ["clean_apart"]


def test_results_that_lay_on_a_dead_node_are_made_again(cluster, tmp_path):
    node = cluster.add_node()
    with OnRay(cluster.address) as executor:
        results = executor.map(partial(tasks.noted, str(tmp_path)), range(4))
        found = [next(results)]
        wait_for(4, tmp_path)
        cluster.remove_node(node, allow_graceful=False)
        found += results
    assert found == [bytes([number]) * 2**20 for number in range(4)]


def test_what_a_task_raises_is_raised_here(cluster):
    with OnRay(cluster.address) as executor:
        with pytest.raises(HeadwaterError) as raised:
            list(executor.map(tasks.refuse, [5]))
        assert (raised.value.what, raised.value.mend) == ("It is 5 o'clock.", "Come at six.")
        with pytest.raises(KeyError):
            list(executor.map(tasks.fail, [7]))


def test_no_task_connects_nowhere():
    with OnRay("127.0.0.1:1") as executor:
        assert list(executor.map(tasks.double, [])) == []


def test_a_ray_of_ones_own_listens_on_this_machine_alone(tmp_path):
    script = (
        "import json, psutil\n"
        "from headwater.executors.on_ray import OnRay\n"
        "from tests.executors import tasks\n"
        "with OnRay(workers=1) as executor:\n"
        "    found = list(executor.map(tasks.double, [1, 2, 3]))\n"
        "    processes = psutil.Process().children(recursive=True)\n"
        "    listening = {place.laddr.ip for each in processes for place in each.net_connections()\n"
        "                 if place.status == psutil.CONN_LISTEN}\n"
        "print(json.dumps([found, sorted(listening)]))"
    )
    # A token goes to its home; with RAY_AUTH_MODE of another test there would be none.
    home = {**os.environ, "HOME": str(tmp_path)}
    home.pop("RAY_AUTH_MODE", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, listening = json.loads(done.stdout.splitlines()[-1])
    assert found == [2, 4, 6]
    assert listening
    plain = {place.removeprefix("::ffff:") for place in listening}  # IPv4, as an IPv6 socket has it
    assert all(ip_address(place).is_loopback for place in plain), listening
    assert (tmp_path / ".ray" / "auth_token").exists()
