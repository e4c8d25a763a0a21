"""The worker's side of `Processes`: functions and tasks in, results out, until its input ends.

Speaks frames (a length of eight bytes, then a pickle) with the process that started it, and with
nobody else. Knows no stage: what it does comes by name, and is imported when it is first asked for.
"""

import ctypes
import os
import pickle
import signal
import struct
import sys
import traceback
from typing import IO

from headwater.errors import HeadwaterError

#: A frame's length.
LENGTH = struct.Struct("!Q")
#: What a reply is: a result, an error that a person is meant to read, or a fault's traceback.
VALUE, ERROR, FAULT = "value", "error", "fault"
_PDEATHSIG = 1


def main(parent: int) -> None:
    """Serve until standard input ends, or the process `parent`."""
    # Ctrl-C reaches every process of the terminal; one in the middle of a task ends with its parent.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":  # elsewhere it ends when it next reads
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before that was said
            return
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)  # a library that prints must not write into a frame
    while (message := receive(incoming)) is not None:
        send(outgoing, answer(message))


def answer(message: bytes) -> bytes:
    """The reply to a pickled pair of a function and its task."""
    try:
        function, task = pickle.loads(message)
        return pickle.dumps((VALUE, function(task)), pickle.HIGHEST_PROTOCOL)
    except HeadwaterError as error:
        return pickle.dumps((ERROR, error))
    except Exception:  # noqa: BLE001 - who asked raises it
        return pickle.dumps((FAULT, traceback.format_exc()))


def receive(incoming: IO[bytes]) -> bytes | None:
    """One frame, or None where the input ends."""
    head = incoming.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    frame = incoming.read(size)
    return frame if len(frame) == size else None


def send(outgoing: IO[bytes], frame: bytes) -> None:
    """Write one frame."""
    outgoing.write(LENGTH.pack(len(frame)))
    outgoing.write(frame)
    outgoing.flush()
