"""Tasks done by the process that asks, one after another: the default."""

from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Inline:
    """One process; a context manager as all executors are."""

    apart = elsewhere = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The result of each task, each done when it is asked for."""
        return map(function, tasks)
