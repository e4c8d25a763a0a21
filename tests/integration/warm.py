"""Runs commands of `headwater` in forks of a process that has imported the libraries they need.

A third of what a build computes is imports. A fork has done them, and is for the rest a process like
any other: with an environment and streams of its own, and `kill -9` ends it alone. All forks of one
such process have its order of sets; what must not depend on that is to be compared with a process
that was started. Knows nothing of ours but the command line, which each fork imports anew, as what
reads the settings when it is imported does so then.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.integration.libraries"])


def start(
    arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path | Connection
) -> BaseProcess:
    """Start `headwater` with these arguments; its streams go to a file and to a file or a pipe."""
    # Not of a daemon, which may start no processes of its own.
    process = _FORKS.Process(
        target=_run, args=(list(arguments), dict(environment), out, err), daemon=False
    )
    process.start()
    return process


def _run(
    arguments: list[str], environment: dict[str, str], out: Path, err: Path | Connection
) -> None:
    for number, stream in (1, out), (2, err):
        if isinstance(stream, Path):
            file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
            os.close(file)
        else:
            os.dup2(stream.fileno(), number)
            stream.close()
    assert "tests.integration.libraries" in sys.modules, (
        "they could not be imported: it says nothing"
    )
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["headwater", *arguments]
    from headwater.cli import main

    main()
