"""Digests of columns are those of rows."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.documents import row_digests as module
from headwater.documents.row_digests import encode, hex_digests, json_of, name_of, row_digests
from headwater.records import digest_of

TEXT = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": TEXT,
            "number": st.one_of(st.none(), st.integers(-(2**40), 2**40)),
            "tags": st.one_of(st.none(), st.lists(TEXT, max_size=3)),
        }
    ),
    max_size=20,
)
SCHEMA = pa.schema([("text", pa.string()), ("number", pa.int64()), ("tags", pa.list_(pa.string()))])


@pytest.fixture(autouse=True, scope="module", params=[0, module._FEW], ids=["columns", "rows"])
def few(request):
    """As for a few rows, which are written as JSON one by one, and as for many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW", request.param)
        yield


def in_hexadecimal(found) -> list[str]:
    return [bytes(digest).hex() for digest in found]


def expected(row: dict) -> str:
    given = [["tags", row["tags"]]] if row["tags"] else []
    return digest_of(row["text"], row["number"], *given)


@settings(deadline=None)  # the first example loads what computes
@given(ROWS)
def test_rows_have_the_digests_of_their_values(rows):
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    found = row_digests(table, ("text", "number"), ("tags",))
    assert in_hexadecimal(found) == [expected(row) for row in rows]


@given(ROWS)
def test_lists_are_values_too(rows):
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    found = row_digests(table, ("tags", "text"))
    assert in_hexadecimal(found) == [digest_of(row["tags"], row["text"]) for row in rows]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_a_set_has_the_name_of_its_sorted_digests(count, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 3)
    digests = [digest_of(number) for number in range(count)]
    array = hex_digests(pa.chunked_array([digests], pa.string()))
    assert name_of('v"1"', array) == digest_of('v"1"', sorted(digests))


def test_digests_that_begin_alike_are_in_order():
    digests = [f"{'ab' * 8}{number:048x}" for number in (3, 1, 2)] + ["00" * 32, "ff" * 32]
    array = hex_digests(pa.chunked_array([digests[:2], digests[2:]], pa.string()))
    assert in_hexadecimal(array) == digests
    assert name_of("v", array) == digest_of("v", sorted(digests))


def test_what_is_no_digest_is_taken_for_none():
    with pytest.raises(pa.ArrowInvalid):
        hex_digests(pa.chunked_array([["ab"]], pa.string()))


def test_blocks_do_not_show(monkeypatch):
    rows = [{"text": f"ü{n}", "number": n, "tags": ["a"] if n % 2 else None} for n in range(10)]
    table = pa.concat_tables(
        pa.Table.from_pylist(part, schema=SCHEMA) for part in (rows[:4], rows[4:])
    )
    monkeypatch.setattr(module, "_BLOCK", 3)
    found = row_digests(table, ("text", "number"), ("tags",))
    assert in_hexadecimal(found) == [expected(row) for row in rows]


def test_a_digest_is_its_own_name_in_a_row_that_holds_nothing_else():
    digests = [digest_of(n) for n in range(3)]
    rows = [
        {"digest": digests[0], "tags": None},
        {"digest": digests[1], "tags": ["a"]},
        {"digest": digests[2], "tags": []},
        {"digest": "short", "tags": None},
        {"digest": None, "tags": None},
    ]
    schema = pa.schema([("digest", pa.string()), ("tags", pa.list_(pa.string()))])
    table = pa.Table.from_pylist(rows, schema=schema)
    found = in_hexadecimal(row_digests(table, ("digest",), ("tags",)))
    tagged = digest_of(digests[1], ["tags", ["a"]])
    assert found == [digests[0], tagged, digests[2], digest_of("short"), digest_of(None)]
    alone = row_digests(table.slice(2, 1), ("digest",), ("tags",))
    assert in_hexadecimal(alone) == [digests[2]]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_part_of_a_column_is_looked_at_where_it_is(kind):
    column = pa.array(["one", "two", 'th"ree', None], kind)
    found = [json_of(column.slice(start)).to_pylist() for start in range(3)]
    every = [encode(each) for each in column.to_pylist()]
    assert found == [every, every[1:], every[2:]]
