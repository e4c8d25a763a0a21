"""What this process wrote a moment ago."""

import pyarrow as pa

from headwater.fresh import Fresh, Step

SCHEMA = pa.schema([("uri", pa.string()), ("text", pa.string())])


def step(*uris: str, base: list[str] | None = None, gone: tuple[str, ...] = ()) -> Step:
    rows = [{"uri": uri, "text": f"of {uri}"} for uri in uris]
    new = pa.Table.from_pylist(rows, SCHEMA)
    return Step(base=base or [], gone=frozenset(gone), new=new)


def texts(found: pa.Table | None) -> list[str] | None:
    return None if found is None else found["text"].to_pylist()


def test_rows_are_given_where_all_that_is_asked_for_is_new():
    fresh = Fresh()
    fresh.hold("file", step("a", "b", "c"), rows=12)
    assert texts(fresh.chosen("file", "uri", {"c", "a"}, ["text"])) == ["of a", "of c"]
    assert texts(fresh.chosen("file", "uri", [], ["text"])) == []
    assert fresh.chosen("file", "uri", ["a", "old"], ["text"]) is None
    assert fresh.chosen("other", "uri", ["a"], ["text"]) is None


def test_rows_that_fill_their_file_are_not_held():
    fresh = Fresh()
    fresh.hold("file", step("a", "b", "c", "d"), rows=12)
    assert fresh.step("file") is None


def test_the_oldest_make_room():
    fresh = Fresh(most=2 * step("a").size())
    for name in ("first", "second", "third"):
        fresh.hold(name, step("a"), rows=12)
    assert [fresh.step(name) is None for name in ("first", "second", "third")] == [
        True,
        False,
        False,
    ]
    many = tuple(f"{number}" for number in range(1000))
    fresh.hold("large", step("a", gone=many), rows=99)  # more than may be held
    assert fresh.step("large") is None and fresh.step("third") is not None


def test_a_step_tells_which_documents_it_touched():
    assert step("a", gone=("a", "b")).touched() == {"a", "b"}
