"""Tasks done by the nodes of a Ray cluster, or of a Ray that is started on this machine.

Knows Ray, no stage. Tasks of Ray's core, not of Ray Data: a task here is a block already, results
are awaited in order and what is under way is bounded, which is all that Ray Data would add. The node
that this process is on must live. Of any other node that dies, the tasks that it was at are done by
another one, and results that lay there alone are made again: their tasks' inputs lie here.
"""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Self, TypeVar

from headwater.errors import HeadwaterError
from headwater.executors.base import AHEAD

T = TypeVar("T")
R = TypeVar("R")
#: Nodes or workers that one task may lose before it is given up.
RETRIES = 5


class OnRay:
    """Connects with the first task; a context manager, which disconnects.

    A process that has connected to Ray itself stays connected, and its cluster is the one used.

    Args:
        address: of a cluster; "" starts a Ray on this machine.
        workers: tasks at once, at most; 0 is as many as the cluster has cores.

    Raises:
        HeadwaterError: Ray is not installed.
    """

    apart = elsewhere = True

    def __init__(self, address: str = "", workers: int = 0) -> None:
        if find_spec("ray") is None:
            raise HeadwaterError(
                "HEADWATER_EXECUTOR is ray, and Ray is not installed.",
                mend="Install it (`pip install 'headwater[ray]'`), or choose inline or processes.",
            )
        self._address, self._workers = address, workers
        self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, and end the Ray that was started here."""
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The result of each task, in their order; `AHEAD` for each core are under way.

        Raises:
            HeadwaterError: what a task raised, or Ray could not do it.
        """
        under_way: deque[Any] = deque()
        remote: Any = None
        most = 0
        try:
            for task in tasks:
                if remote is None:
                    ray = self._connect()
                    remote = ray.remote(
                        num_cpus=1,
                        max_retries=RETRIES,
                        retry_exceptions=False,  # what raises would raise again
                        scheduling_strategy="SPREAD",
                    )(_call)
                    cores = int(ray.cluster_resources().get("CPU", 1))
                    most = AHEAD * max(1, self._workers or cores)
                under_way.append(remote.remote(function, task))
                if len(under_way) >= most:
                    yield _result(under_way.popleft())
            while under_way:
                yield _result(under_way.popleft())
        finally:
            _cancel(under_way)

    def _connect(self) -> Any:
        if not self._address:
            # Read when Ray is loaded. It is meant for systems without clusters, where a Ray listens
            # on loopback alone; so shall one that is for this process only.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        import ray

        if not ray.is_initialized():
            with _own_signals():
                try:
                    if self._address:
                        ray.init(address=self._address, logging_level=logging.WARNING)
                    else:
                        ray.init(
                            address="local",  # not one that happens to run here
                            num_cpus=self._workers or None,
                            include_dashboard=False,
                            logging_level=logging.WARNING,
                        )
                except ConnectionError as error:
                    raise HeadwaterError(
                        f"No Ray cluster answers at {self._address or 'this machine'} ({error}).",
                        mend="`ray status` says what runs; HEADWATER_RAY_ADDRESS names its address.",
                    ) from error
            self._connected = True
        return ray


def _call(function: Callable[[T], R], task: T) -> R:
    """What a worker of Ray does."""
    return function(task)


def _result(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, HeadwaterError):
            raise error.cause from None
        raise
    except RayError as error:
        raise HeadwaterError(
            f"Ray has given up a task ({type(error).__name__}): {_first_line(error)}",
            mend="Look at its nodes with `ray status`, then build again: what is committed stands.",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no word of why")


def _cancel(references: Iterable[Any]) -> None:
    """Take back what nobody waits for any more."""
    references = list(references)
    if not references:
        return
    import ray

    if ray.is_initialized():
        for reference in references:
            ray.cancel(reference)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our way of ending: `ray.init` puts its own in the place of SIGTERM's handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:  # it was one of Python's
            signal.signal(signal.SIGTERM, before)
