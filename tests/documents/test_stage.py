"""Writing a shard anew."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from headwater.documents.stage import _merged

ROW = st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3))
SCHEMA = pa.schema([("uri", pa.string()), ("ordinal", pa.int64()), ("from", pa.string())])


def table(rows: list[tuple[str, int]], source: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"uri": uri, "ordinal": ordinal, "from": source} for uri, ordinal in rows], SCHEMA
    )


@given(
    st.lists(ROW, unique=True, max_size=12),
    st.booleans(),
    st.sets(st.sampled_from("abcdefgh")),
    st.lists(ROW, unique=True, max_size=8),
)
def test_a_shard_holds_what_stays_and_what_came_in_order(old, in_order, gone, new):
    old = sorted(old) if in_order else old
    new = [row for row in new if row[0] in gone or row not in old]
    found = _merged(table(old, "old"), gone, table(new, "new"))
    stay = [(*row, "old") for row in old if row[0] not in gone]
    expected = sorted([*stay, *((*row, "new") for row in new)])
    assert [tuple(row.values()) for row in found.to_pylist()] == expected


def test_old_rows_that_stay_are_not_copied_and_new_ones_are_together():
    old = table([(uri, 0) for uri in "abdefh"], "old")
    found = _merged(old, {"e"}, table([("c", 0), ("c", 1), ("e", 0)], "new"))
    assert "".join(found["uri"].to_pylist()) == "abccdefh"
    held = {chunk.buffers()[2].address for chunk in old["uri"].chunks}
    assert sum(chunk.buffers()[2].address in held for chunk in found["uri"].chunks) == 3
    everything = _merged(old.slice(0, 0), set(), old)
    assert sum(len(chunk) > 0 for chunk in everything["uri"].chunks) == 1
