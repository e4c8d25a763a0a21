"""What workers of the tests do: functions that another process can import."""

import os
import signal
import time
from pathlib import Path
from pkgutil import resolve_name

from headwater.errors import HeadwaterError


def double(number):
    return 2 * number


def process(_):
    return os.getpid()


def process_and_wait(seconds):
    time.sleep(seconds)
    return os.getpid()


def wait(_):
    time.sleep(600)


def fail(number):
    raise KeyError(f"number {number}")


def refuse(number):
    raise HeadwaterError(f"It is {number} o'clock.", mend="Come at six.")


def chatter(text):
    print(text)
    os.write(1, text.encode())
    return text.upper()


def node(_):
    import ray

    time.sleep(0.3)  # long enough for another node to take the next
    return ray.get_runtime_context().get_node_id()


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def dying_once(marker, name, *arguments):
    """Do a task, but die of it before it is done the first time; the marker remembers that.

    What is done is named, since the process that asks has put this in the place of it.
    """
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return resolve_name(name)(*arguments)
    return die(None)


def stuck_on(node, marker, name, *arguments):
    """Do a task, but never on one node of Ray: there it waits until the node is no more."""
    import ray

    if ray.get_runtime_context().get_node_id() == node:
        Path(marker).touch()
        time.sleep(600)
    return resolve_name(name)(*arguments)


def noted(folder, number):
    """A result too large to travel with the news that it is there, and a note that it was made."""
    Path(folder, f"{number}-{time.monotonic_ns()}").touch()
    return bytes([number]) * 2**20
