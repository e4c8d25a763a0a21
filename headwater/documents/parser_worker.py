"""The child's side of the parser pool: confined first, then documents in, text or reasons out.

Speaks frames (a length of eight bytes, then the bytes) on what were its standard input and output.
Knows no table and no settings; what it may use is in its one argument. Imports little: it is
started for a single changed document, too.
"""

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from headwater.documents import sandbox
from headwater.documents.parse import parse
from headwater.documents.parsed import Parsed, Rejected

#: Seconds that a child outlives its deadline where its parent does not end it.
GRACE = 5.0
#: Exit code of a child that could not say so in a frame.
OUT_OF_MEMORY = 77
#: A frame's length.
LENGTH = struct.Struct("!Q")
#: What is said of a document beside its text.
MOST_NOTES, MOST_NOTE_CHARS = 16, 500
Parse = Callable[[bytes, str, str, int], Parsed]


def main(parse: Parse = parse) -> None:
    """Serve until standard input ends.

    Args:
        parse: what is done with a document; tests give one that misbehaves.
    """
    config = json.loads(sys.argv[1])
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)  # a library that prints must not write into a frame
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    missing = sandbox.confine(config["memory"], config["cpu_seconds"], config["readable"])
    os.dup2(null, 2)  # from here on, what goes wrong is said in a frame
    os.close(null)
    _send(outgoing, {"missing": missing})
    try:
        _serve(parse, config["seconds"], incoming, outgoing)
    except MemoryError:  # of a document that cannot even be taken in
        os._exit(OUT_OF_MEMORY)


def _serve(parse: Parse, seconds: float, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    while (head := _receive(incoming)) is not None:
        content = _receive(incoming)
        if content is None:
            return  # the parent ended in the middle of a request
        # Without a handler the kernel ends this process, whatever it is in.
        signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
        reply, *frames = answer(parse, json.loads(head), content)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(outgoing, {**reply, "cpu": time.process_time()}, *frames)


def answer(parse: Parse, asked: dict[str, Any], content: bytes) -> list[Any]:
    """The head of a reply, and text and headings as bytes where there are some."""
    try:
        parsed = parse(content, asked["media_type"], asked["uri"], asked["max_chars"])
        text = parsed.text.encode()
        lines = "\n".join(f"{each.start} {each.level} {each.text}" for each in parsed.headings)
        headings = lines.encode()
    except Rejected as error:
        return [_refusal(error.reason, error.detail)]
    except MemoryError:
        return [_refusal("parser_memory", "")]
    except Exception as error:  # noqa: BLE001 - whatever a parser raises costs one document
        return [_refusal("parser_crashed", f"{type(error).__name__}: {error} ({_place(error)})")]
    limit = asked["reply"]
    if len(text) + len(headings) > limit:
        return [_refusal("too_large", f"its text and headings make more than {limit:,} bytes")]
    notes = [note[:MOST_NOTE_CHARS] for note in parsed.notes[:MOST_NOTES]]
    return [{"title": parsed.title, "notes": notes}, text, headings]


def _refusal(reason: str, detail: str) -> dict[str, str]:
    # What a library says may quote the document: no half characters, and not at any length.
    return {"reason": reason, "detail": detail.encode("utf-8", "replace").decode()[:500]}


def _place(error: Exception) -> str:
    """Where an error was raised, as `file:line`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "nowhere"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"


def _receive(incoming: IO[bytes]) -> bytes | None:
    """One frame, or None at the end of the input."""
    length = incoming.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(length)
    frame = incoming.read(size)
    return frame if len(frame) == size else None


def _send(outgoing: IO[bytes], head: dict[str, Any], *frames: bytes) -> None:
    for frame in (json.dumps(head).encode(), *frames):
        outgoing.write(LENGTH.pack(len(frame)))
        outgoing.write(frame)
    outgoing.flush()
