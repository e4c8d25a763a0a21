"""What this process wrote a moment ago, for the stage that reads it next.

Knows data files by name: which files each was made of, and which rows are new in it. A data file never
changes, so what is held of one is what it has; where nothing is held of it, it is read.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa

#: Bytes that are held in all, the newest, and what a step takes besides its rows, about. An edit of a
#: hundredth of a hundred thousand documents in a hundred shards is a third of it.
MOST_BYTES, _EACH, _URI = 64 * 2**20, 2**15, 2**7
#: Rows are held where they are at most this share of their file: what fills its file is read as quickly.
_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How a data file came to be.

    Attributes:
        base: the partition's data files before it.
        gone: URIs of documents of which it has none of those files' rows. It has all of the others.
        new: its other rows, in its order: of these documents, or of new ones.
    """

    base: list[str]
    gone: frozenset[str]
    new: pa.Table

    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return int(self.new.nbytes) + _EACH + _URI * len(self.gone)

    def touched(self) -> set[str]:
        """URIs of the documents whose rows may be others than in the files before."""
        return {*self.gone, *self.new["uri"].to_pylist()}


class Fresh:
    """Steps by data file, up to a bound; by any thread.

    Args:
        most: bytes that are held, at most.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._steps: OrderedDict[str, Step] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def hold(self, file: str, step: Step, rows: int) -> None:
        """Hold how a file of some rows came to be; the oldest make room for it."""
        if len(step.new) > _SHARE * rows or step.size() > self._most:
            return
        with self._lock:
            self._drop(file)
            self._steps[file] = step
            self._held += step.size()
            while self._held > self._most:
                self._drop(next(iter(self._steps)))

    def step(self, file: str) -> Step | None:
        """How a file came to be, where that is held."""
        return self._steps.get(file)

    def chosen(
        self, file: str, column: str, values: Collection[str], columns: Collection[str]
    ) -> pa.Table | None:
        """The rows with these values in a column, in their order.

        Returns:
            None where one of the values is not among the new rows: the file may have it.
        """
        step = self._steps.get(file)
        if step is None:
            return None
        names, wanted = step.new[column].to_pylist(), set(values)
        if not wanted <= set(names):
            return None
        rows = step.new.select(list(columns))
        places = [at for at, name in enumerate(names) if name in wanted]
        return rows if len(places) == len(names) else rows.take(pa.array(places, pa.int64()))

    def _drop(self, file: str) -> None:
        dropped = self._steps.pop(file, None)
        if dropped is not None:
            self._held -= dropped.size()


#: Those of this process.
FRESH = Fresh()
