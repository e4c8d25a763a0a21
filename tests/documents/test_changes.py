"""Documents with other rows than before, against rows that are counted one by one."""

from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from headwater.documents.changes import changed

SCHEMA = pa.schema([("id", pa.string()), ("uri", pa.string()), ("start", pa.int64())])
ROW = st.tuples(
    st.sampled_from(["a", "b", "c", "d", None]),
    st.sampled_from(["x", "y", "z", None]),
    st.sampled_from([0, 1, None]),
)
ROWS = st.lists(ROW, max_size=6)


def table(rows: list[tuple]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA
    )


@given(ROWS, ROWS)
def test_every_change_is_told(before: list[tuple], now: list[tuple]):
    found = set(changed(table(before), table(now), "id").to_pylist())
    then, after = Counter(before), Counter(now)
    differ = {uri for _, uri, _ in ((then - after) + (after - then))}
    assert found >= differ
    names = [[name for name, _, _ in rows] for rows in (before, now)]
    if all(len(set(each)) == len(each) for each in names):
        assert found == differ


@given(ROWS, st.randoms())
def test_in_another_order_nothing_is_changed(rows: list[tuple], random):
    rows = list({row[0]: row for row in rows}.values())
    other = random.sample(rows, len(rows))
    assert len(changed(table(rows), table(other), "id")) == 0
