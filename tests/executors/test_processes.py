import os
import subprocess
import sys
import time
from functools import partial
from itertools import count

import psutil
import pytest

from headwater.errors import HeadwaterError, IntegrityError
from headwater.executors.base import AHEAD, in_blocks, map_groups, refuse_unlike
from headwater.executors.inline import Inline
from headwater.executors.processes import ATTEMPTS, Processes
from tests.executors import tasks

GROUPS = [("a", [1, 2]), ("b", [3]), ("c", [4, 5, 6, 7, 8]), ("d", [9])]


@pytest.fixture(scope="module")
def two():
    with Processes(2) as executor:
        yield executor


def test_results_come_in_the_order_of_their_tasks_from_two_workers(two):
    assert list(two.map(tasks.double, range(20))) == [2 * number for number in range(20)]
    assert two.started <= 2
    pids = set(two.map(tasks.process, range(8)))
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_tasks_are_taken_as_there_is_room(two):
    taken = count()
    results = two.map(tasks.double, (next(taken) for _ in range(100)))
    assert next(results) == 0
    assert next(taken) == 2 * AHEAD
    results.close()


@pytest.mark.parametrize("of", ["inline", "processes"])
def test_groups_of_tasks_end_one_after_another(two, of):
    executor = two if of == "processes" else Inline()
    found = list(map_groups(executor, tasks.double, iter(GROUPS)))
    assert found == [(key, [2 * number for number in group]) for key, group in GROUPS]
    assert list(map_groups(executor, tasks.double, [])) == []


def test_a_group_is_asked_for_when_the_one_before_it_is_done():
    order = []

    def groups():
        for key, group in GROUPS:
            order.append(f"begin {key}")
            yield key, group

    for key, _ in map_groups(Inline(), tasks.double, groups()):
        order.append(f"end {key}")
    assert order == [f"{what} {key}" for key, _ in GROUPS for what in ("begin", "end")]


def test_blocks_are_bounded_in_number_and_size():
    blocks = in_blocks([1, 1, 1, 9, 1, 4, 4, 1], int, most=3, most_size=8)
    assert list(blocks) == [[1, 1, 1], [9], [1, 4], [4, 1]]
    assert list(in_blocks([], int, most=3, most_size=8)) == []


def test_what_a_task_raises_is_raised_here(two):
    with pytest.raises(HeadwaterError) as raised:
        list(two.map(tasks.refuse, [5]))
    assert (raised.value.what, raised.value.mend) == ("It is 5 o'clock.", "Come at six.")
    with pytest.raises(RuntimeError, match=r"(?s)tasks\.py.*KeyError: 'number 7'"):
        list(two.map(tasks.fail, [7]))
    assert list(two.map(tasks.double, [1])) == [2]


def test_errors_travel_as_they_are():
    import pickle

    error = pickle.loads(pickle.dumps(IntegrityError("It is broken.", mend="Mend it.")))
    assert isinstance(error, IntegrityError)
    assert (error.what, error.mend, str(error)) == (
        "It is broken.", "Mend it.", "It is broken. Mend it.",
    )  # fmt: skip


def test_what_a_library_prints_is_no_reply(capfd):
    with Processes(1) as executor:
        assert list(executor.map(tasks.chatter, ["a word"])) == ["A WORD"]
    assert "a word" in capfd.readouterr().err


def test_a_worker_that_dies_costs_the_repeat_of_its_task(tmp_path):
    with Processes(1) as executor:
        double = "tests.executors.tasks:double"
        function = partial(tasks.dying_once, str(tmp_path / "died"), double)
        assert list(executor.map(function, range(6))) == [0, 2, 4, 6, 8, 10]
        assert (executor.lost, executor.started) == (1, 2)


def test_a_task_that_always_ends_its_worker_is_given_up(two):
    lost = two.lost
    with pytest.raises(HeadwaterError, match=r"ended 3 worker processes.*SIGKILL"):
        list(two.map(tasks.die, [0]))
    assert two.lost - lost == ATTEMPTS == 3
    assert list(two.map(tasks.double, [1])) == [2]


def test_no_task_starts_no_worker():
    with Processes(2) as executor:
        assert list(executor.map(tasks.double, [])) == []
        assert executor.started == 0


def test_workers_end_with_the_executor():
    executor = Processes(1)
    results = executor.map(tasks.process_and_wait, [0, 600])
    pid = next(results)
    assert psutil.pid_exists(pid)
    executor.close()  # the worker is at its second task
    assert not psutil.pid_exists(pid)


def test_a_busy_worker_ends_with_its_parent():
    script = (
        "from headwater.executors.processes import Processes\n"
        "from tests.executors import tasks\n"
        "list(Processes(1).map(tasks.wait, [0]))"
    )
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ) as parent:
        workers: list[psutil.Process] = []
        while not workers:
            workers = psutil.Process(parent.pid).children()
            time.sleep(0.02)
        parent.kill()
    psutil.wait_procs(workers, timeout=20)
    assert not [each for each in workers if each.is_running() and each.status() != "zombie"]


def test_a_worker_of_another_installation_refuses():
    refuse_unlike("versions", ["clean/2"], ["clean/2"])
    with pytest.raises(HeadwaterError, match=r"other versions.*clean/1.*for.*clean/2"):
        refuse_unlike("versions", ["clean/2"], ["clean/1"])
