"""Runs stages in processes that may be killed: imports once, then a fork for every task.

A task is a line of JSON on standard input: `corpus` and `home`, the `stages` to run, `count` to say
what they wrote, `at` the number of the write to die at, `delay` in seconds before the first, `look` to
say what the home holds then, and `answer`, the file that all of that goes to. What is printed for it
is the exit code of its process, -9 where it was killed. Knows no scenario.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.crash_stages import STAGES, Place, commit_small, look
from benchmarks.faults import Faults
from headwater.documents.clean import language_of
from headwater.errors import HeadwaterError
from headwater.settings import quiet_libraries

#: Exit code of a task that a `HeadwaterError` ended.
REFUSED = 2


def main() -> None:
    """Serve until standard input ends. Nothing here starts a thread, which no fork would have."""
    import deltalake  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import qdrant_edge  # noqa: F401

    quiet_libraries()
    commit_small()
    language_of("Its model is read once, and not by every task.")
    for line in sys.stdin:
        print(_in_a_process(json.loads(line)), flush=True)


def _in_a_process(task: dict[str, Any]) -> int:
    """Run a task; returns the exit code of its process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(2, 1)  # what a library prints is no answer
            code = _run(task)
        except BaseException:  # noqa: BLE001 - of a fork: no frame of its parent may go on
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run(task: dict[str, Any]) -> int:
    place = Place(Path(task["corpus"]), Path(task["home"]))
    os.environ["HEADWATER_HOME"] = task["home"]
    time.sleep(task.get("delay", 0.0))
    faults = Faults(place.home, task.get("at"))
    if task.get("count") or task.get("at") is not None:
        faults.watch()
    answer: dict[str, Any] = {}
    code = 0
    try:
        for name in task.get("stages", ()):
            STAGES[name](place)
    except HeadwaterError as error:
        answer |= {"error": type(error).__name__, "what": error.what}
        code = REFUSED
    if task.get("count"):
        answer["seen"] = list(faults.seen)
    if task.get("look") and code == 0:
        answer |= look(place)
    Path(task["answer"]).write_text(json.dumps(answer))
    return code


if __name__ == "__main__":
    main()
