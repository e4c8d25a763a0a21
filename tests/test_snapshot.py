"""Reading ahead."""

import threading

from headwater.snapshot import read_ahead


def test_reading_ahead_that_is_given_up_waits_for_nobody():
    """The collector may close it while it holds what the end of a thread takes."""
    go_on, closed = threading.Event(), threading.Event()

    def read(key: str) -> str:
        assert key == "a" or go_on.wait(60)
        return key

    reading = read_ahead(read, "abcdef")
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
