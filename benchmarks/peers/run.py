"""The process that a program is measured in: `python -m benchmarks.peers.run MODULE REQUEST`.

Does the stage on a few documents, then by the clock, and prints one JSON object on the last line.
Its own module, so that what a program hands to its worker processes is not in `__main__`.
"""

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.peers.contract import Facts, Request, Stage, made


def use_cores(threads: int) -> None:
    """Keep this process and its children to so many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def measure(stages: Mapping[str, Stage], request: Request) -> Facts:
    """What came out of a stage, with its seconds."""
    output = made(Path(request.output))
    made(Path(request.state))
    with tempfile.TemporaryDirectory(dir=output.parent, prefix="warm-up-") as folder:
        warm = request.warm_up(Path(folder))
        stages[warm.stage](warm)()
    work = stages[request.stage]
    gc.collect()
    started = time.perf_counter()
    tell = work(request)
    seconds = time.perf_counter() - started
    return {**tell(), "seconds": seconds}


def main(arguments: Sequence[str]) -> None:
    """Run from the command line."""
    module, asked = arguments
    request = Request.from_json(asked)
    use_cores(request.threads)
    stages = import_module(f"benchmarks.peers.{module}").STAGES
    print(json.dumps(measure(stages, request)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
