"""Which documents of a shard have other rows than before: came, went, or differ in a column.

Knows Arrow tables whose rows have a name of their own and the URI of their document; not where they
come from, nor what is asked of them. Values are compared, not digests of them.
"""

import pyarrow as pa
import pyarrow.compute as pc


def changed(before: pa.Table, now: pa.Table, identity: str) -> pa.Array | None:
    """The URIs, some of them more than once; a row without one adds null.

    Args:
        before: with the columns of `now`, all of which are compared.
        identity: the column that names a row.

    Returns:
        None where a name is missing or there twice, so that rows cannot be told apart.
    """
    before, now = before.combine_chunks(), now.combine_chunks()
    for rows in (before, now):
        if pc.count_distinct(rows[identity]).as_py() != rows.num_rows:
            return None
    names = _whole(now[identity])
    at = pc.index_in(names, value_set=_whole(before[identity]))
    then = before.take(at)
    same = at.is_valid()
    for column in now.column_names:
        if column != identity:
            same = pc.and_(same, _equal(_whole(now[column]), _whole(then[column])))
    differs = pc.invert(same)
    gone = pc.invert(pc.is_in(_whole(before[identity]), value_set=names))
    found = [
        now["uri"].filter(differs),
        then["uri"].filter(pc.and_(differs, at.is_valid())),
        before["uri"].filter(gone),
    ]
    return pa.concat_arrays([_whole(each) for each in found])


def _equal(left: pa.Array, right: pa.Array) -> pa.Array:
    """Whether values are the same, of which nothing and nothing are."""
    both = pc.and_(left.is_null(), right.is_null())
    return pc.or_(pc.equal(left, right).fill_null(False), both)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
