"""Which documents of a shard have other rows than before: came, went, or differ in a column.

Knows tables whose rows have a name of their own and the URI of their document; not what is asked of
them. Values are compared, not digests of them; where this process wrote the shard a moment ago it knows
which documents it touched, and of the others it is looked at that they have as many rows as before.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headwater.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Since:
    """A shard since it had other data files.

    Attributes:
        every: all of its rows, with the columns that were read, `uri` among them.
        uris: of the documents that may have other rows than then, some more than once.
    """

    every: pa.Table
    uris: pa.Array
    _stored: Snapshot
    _shard: str

    def rows(self, uris: pa.Array, columns: Sequence[str]) -> pa.Table:
        """The rows of some documents, in the order of the shard."""
        mine = pc.is_in(self.every["uri"], value_set=uris)
        found = self.every.filter(mine)
        missing = [each for each in columns if each not in found.column_names]
        if missing:
            there = found["uri"].unique().to_pylist()
            if not there:
                return self._stored.chosen(self._shard, "uri", (), columns)
            fresh = self._stored.fresh(self._shard, "uri", there, columns)
            if fresh is not None:
                return fresh
            read = self._stored.partition(self._shard, missing).filter(mine)
            for each in missing:
                found = found.append_column(each, read[each])
        return found.select(list(columns))


def since(
    stored: Snapshot,
    shard: str,
    files: Sequence[str],
    columns: Sequence[str],
    *,
    identity: str,
    last: bool = False,
) -> Since | None:
    """What a shard is now, against what these data files of it had; None where one of them is gone.

    Args:
        columns: that are compared.
        identity: the column that names a row, as `changed` takes it.
        last: whether nobody is to read these columns of the files after this; then the system need not
            hold them.
    """
    let_go = columns if last else ()
    touched = stored.touched(shard, files)
    if touched is not None:
        now = stored.partition(shard, _COUNTED)
        then = stored.earlier(shard, files, ["uri"], let_go=let_go)
        if then is not None and _is_same_but_for(touched, then, now):
            return Since(now, pa.array(sorted(touched), pa.string()), stored, shard)
    now = stored.partition(shard, columns)
    then = stored.earlier(shard, files, columns, let_go=let_go)
    if then is None:
        return None
    return Since(now, changed(then, now, identity), stored, shard)


def _is_same_but_for(touched: Collection[str], then: pa.Table, now: pa.Table) -> bool:
    """Whether documents that were not touched have as many rows as before."""
    known = pa.array(list(touched), pa.string())
    before, after = (
        table["uri"].filter(pc.invert(pc.is_in(table["uri"], value_set=known)))
        for table in (then, now)
    )
    return bool(before.equals(after))


def changed(before: pa.Table, now: pa.Table, identity: str) -> pa.Array:
    """The URIs, some of them more than once; a row without one adds null.

    Args:
        before: with the columns of `now`, all of which are compared.
        identity: the column that names a row. Where a name is there twice, or is missing, more rows
            count as changed than are.
    """
    before, now = before.combine_chunks(), now.combine_chunks()
    at = pc.index_in(_whole(now[identity]), value_set=_whole(before[identity]))
    then = before.take(at)
    same = at.is_valid()
    for column in now.column_names:
        same = pc.and_(same, _equal(_whole(now[column]), _whole(then[column])))
    kept = same.to_numpy(zero_copy_only=False)
    # Of rows with one name each stands for another row of before.
    places, first = np.unique(at.filter(same).to_numpy(), return_index=True)
    differs = np.ones(now.num_rows, bool)
    differs[np.flatnonzero(kept)[first]] = False
    gone = np.ones(before.num_rows, bool)
    gone[places] = False
    found = [
        _whole(now["uri"].filter(pa.array(differs))),
        _whole(before["uri"].filter(pa.array(gone))),
    ]
    return pa.concat_arrays(found)


def _equal(left: pa.Array, right: pa.Array) -> pa.Array:
    """Whether values are the same, of which nothing and nothing are."""
    both = pc.and_(left.is_null(), right.is_null())
    return pc.or_(pc.equal(left, right).fill_null(False), both)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


_COUNTED = ["uri", "source"]
