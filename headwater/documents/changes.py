"""Which documents of a shard have other rows than before: came, went, or differ in a column.

Knows Arrow tables whose rows have a name of their own and the URI of their document; not where they
come from, nor what is asked of them. Values are compared, not digests of them.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


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
