"""Progress of long work, told once and shown wherever a person is looking.

A stage calls `track`; the command line draws a bar, a log gets a line now and then.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("headwater")

#: Seconds between two lines of a log that nobody watches live.
LOG_EVERY = 5.0


def track(items: Iterable[T], *, what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and tell how far along the work is.

    On a terminal a bar on standard error; otherwise a log line every few seconds, so that short
    work says nothing and long work is never silent.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=f"  {what}", total=total, leave=False, file=sys.stderr)
        return
    said = started = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said >= LOG_EVERY:
            said = now
            of = f"/{total}" if total else ""
            log.info("%s: %d%s, %.0f s", what, done, of, now - started)
