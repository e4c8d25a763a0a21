"""What every executor is: a place where tasks of a stage are done, with results in their order.

Knows functions and tasks, no stage and no table. A task is plain data and its function one of a
module, since both may go to another process. Tables have one writer, the process that asks; so a
worker that is lost costs the repeat of its task and nothing else.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from headwater.errors import HeadwaterError

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
#: Tasks under way for each worker, so that none waits for the one that asks.
AHEAD = 2


class Executor(Protocol):
    """Does tasks, in this process or by others.

    Attributes:
        apart: whether they are done by other processes.
        elsewhere: whether these may be on other machines.
    """

    apart: bool
    elsewhere: bool

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The result of each task, in their order; tasks are taken as there is room for them.

        Where tasks are done apart, the function is one that a worker can import, or a `partial` of
        one. A task may be done twice where a worker dies, so it has no effect but its result.
        """
        ...


def map_groups(
    executor: Executor,
    function: Callable[[T], R],
    groups: Iterable[tuple[K, Sequence[T]]],
) -> Iterator[tuple[K, list[R]]]:
    """The results of each group of tasks, as soon as they are all there, in the groups' order.

    Args:
        groups: a key, and one task at least; taken ahead of the results as there is room.
    """
    begun: deque[tuple[K, int]] = deque()

    def tasks() -> Iterator[T]:
        for key, group in groups:
            assert group, "a group without tasks has no end"
            begun.append((key, len(group)))
            left = deque(group)
            del group  # a task may be large: nothing here holds one that is done
            while left:
                yield left.popleft()

    held: list[R] = []
    for result in executor.map(function, tasks()):
        held.append(result)
        del result
        key, count = begun[0]
        if len(held) == count:
            begun.popleft()
            yield key, held
            held = []


def in_blocks(
    items: Iterable[T], size: Callable[[T], int], *, most: int, most_size: int
) -> Iterator[list[T]]:
    """Items in their order, up to `most` together and up to `most_size`; a larger one is alone."""
    block, held = list[T](), 0
    for item in items:
        length = size(item)
        if block and (len(block) == most or held + length > most_size):
            yield block
            block, held = [], 0
        block.append(item)
        held += length
    if block:
        yield block


def refuse_unlike(what: str, asked: Any, here: Any) -> None:
    """Refuse a task in a worker that would do it unlike the process that asks.

    Raises:
        HeadwaterError: the two are not equal.
    """
    if asked != here:
        raise HeadwaterError(
            f"A worker has other {what} than the process that asks it: {here} for {asked}.",
            mend="Install the same Headwater, models and programs on every node.",
        )
