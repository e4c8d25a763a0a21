"""Reading ahead, and some columns of some rows."""

import threading
from pathlib import Path

from headwater.lake import Lake, rows_to_table
from headwater.snapshot import Partly, read_ahead


def test_what_was_let_go_is_read_again(tmp_path: Path):
    lake = Lake(tmp_path)
    rows = [{"shard": "00", "uri": uri, "content": uri.encode()} for uri in "abc"]
    lake.overwrite("raw_documents", rows_to_table("raw_documents", rows))
    found = Partly(lake.snapshot("raw_documents"), "00", ["uri"], ["content"])
    assert found.of(["b", "c"])["content"].to_pylist() == [b"b", b"c"]
    assert found.of(["a", "b", "c"])["content"].to_pylist() == [b"a", b"b", b"c"]
    assert found.of(["a"])["content"].to_pylist() == [b"a"]


def test_reading_ahead_that_is_given_up_waits_for_nobody():
    """The collector may close it while it holds what the end of a thread takes."""
    go_on, closed = threading.Event(), threading.Event()

    def read(key: str) -> str:
        assert key == "a" or go_on.wait(60)
        return key

    reading = read_ahead(read, "abcdef", readers=2)
    # Two more are read by then, and do not come to an end.
    assert next(reading) == ("a", "a")

    def give_up() -> None:
        reading.close()
        closed.set()

    thread = threading.Thread(target=give_up)
    thread.start()
    try:
        assert closed.wait(20)
    finally:
        go_on.set()
        thread.join()
