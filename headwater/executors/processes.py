"""Tasks done by worker processes on this machine; one that dies costs the repeat of its task.

Knows processes and pipes, no stage. Workers are started when there is work, and end with the
executor or its process. `concurrent.futures` would do, but that one death fails every task under
way there, that its workers outlive a killed parent, and that each imports the parent's main module.
"""

import contextlib
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from headwater.errors import HeadwaterError
from headwater.executors.base import AHEAD
from headwater.executors.worker import ERROR, FAULT, receive, send

T = TypeVar("T")
R = TypeVar("R")
#: Workers that one task may cost before it is given up.
ATTEMPTS = 3
#: A worker gets its parent's import path: tests and checkouts have one of their own.
_BOOT = (
    "import json, sys; parent, sys.path[:] = json.loads(sys.argv[1]);"
    " from headwater.executors.worker import main; main(parent)"
)
log = logging.getLogger("headwater")


class Processes:
    """Some workers; a context manager, which ends them.

    Args:
        workers: at most so many at once.
    """

    apart, elsewhere = True, False

    def __init__(self, workers: int) -> None:
        self.started = 0  # workers, all in all
        self.lost = 0  # of them, those that died at a task
        self._most = workers
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False
        # Its threads live as long as the executor: a worker dies with the thread that started it.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="executor")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, also those in the middle of a task."""
        with self._lock:
            self._closed = True
            workers, self._all, self._idle = self._all, set(), []
        for worker in workers:
            worker.kill()  # its pipes may be a thread's, which notices
        self._threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.end()

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The result of each task, in their order; `AHEAD` for each worker are under way.

        Raises:
            HeadwaterError: what a task raised, or it ended its worker several times.
            RuntimeError: a fault in the function, with the worker's traceback.
        """
        under_way: deque[Future[R]] = deque()
        try:
            for task in tasks:
                message = pickle.dumps((function, task), pickle.HIGHEST_PROTOCOL)
                under_way.append(self._threads.submit(self._done, message))
                if len(under_way) >= self._most * AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def _done(self, message: bytes) -> Any:
        """The result of one task, by another worker where one dies of it or beside it."""
        death = ""
        for _ in range(ATTEMPTS):
            worker = self._take()
            try:
                kind, value = pickle.loads(worker.ask(message))
            except _Died as died:
                death = str(died)
                with self._lock:
                    self._all.discard(worker)
                    self.lost += 1
                    closed = self._closed
                worker.end()
                if not closed:
                    log.warning("a worker process has ended (%s); its task is repeated", death)
                continue
            with self._lock:
                self._idle.append(worker)
            if kind == ERROR:
                raise value
            if kind == FAULT:
                raise RuntimeError(f"a task has failed in a worker process:\n{value}")
            return value
        raise HeadwaterError(
            f"A task has ended {ATTEMPTS} worker processes, the last with {death}.",
            mend="Mostly memory is short: choose fewer HEADWATER_WORKERS or more HEADWATER_SHARDS.",
        )

    def _take(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise HeadwaterError("The executor is closed.", mend="Open another one.")
            if self._idle:
                return self._idle.pop()
            worker = _Worker()
            self._all.add(worker)
            self.started += 1
            return worker


class _Died(Exception):
    """A worker that gave no reply."""


class _Worker:
    """One worker process, spoken to over two pipes."""

    def __init__(self) -> None:
        path = [str(Path(each).absolute()) for each in sys.path]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps([os.getpid(), path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin and self._process.stdout  # they are pipes
        self._in, self._out = self._process.stdin, self._process.stdout

    def ask(self, message: bytes) -> bytes:
        """The reply to a message. Raises _Died."""
        try:
            send(self._in, message)
        except BrokenPipeError as error:
            raise self._died() from error
        reply = receive(self._out)
        if reply is None:
            raise self._died()
        return reply

    def kill(self) -> None:
        """Kill it, by its own id; whoever speaks to it meets the end of its pipes."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, wait for that and free what it held."""
        self.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # of a message that it did not take
            self._in.close()
        self._out.close()

    def _died(self) -> _Died:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return _Died("its pipes closed")
        return _Died(f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
