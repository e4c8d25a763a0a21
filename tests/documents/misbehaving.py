"""A parser process that does what its document says: dies, hangs, swells, lies or looks around."""

import ctypes
import errno
import os
import signal
import socket
import time
from pathlib import Path

from headwater.documents import parser_worker
from headwater.documents.parse import parse

_LIBC = ctypes.CDLL(None)
_C = {name: getattr(_LIBC, name) for name in ("open", "unlink", "socket", "fork", "kill")}
_KEPT: list[bytes] = []


def obey(content, media_type, uri, max_chars):
    order, _, rest = content.decode().partition(" ")
    match order:
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "exit-if-used" if _KEPT:
            os._exit(3)
        case "swell-if-used" if _KEPT:
            _KEPT.append(bytes(2**40))
        case "hang":
            time.sleep(3600)
        case "spin":
            while True:
                pass
        case "swell":
            _KEPT.append(bytes(2**40))
        case "raise":
            raise KeyError("a fault")
        case "recurse":
            obey(content, media_type, uri, max_chars)
        case "lie":
            os.write(_protocol(), bytes.fromhex(rest))
            time.sleep(3600)
        case "try":
            rest = _attempt(rest)
    _KEPT.append(b"")
    return parse(rest.encode() or b"nothing", media_type, uri, max_chars)


def _protocol():
    """The pipe to the parent: the highest descriptor that can be written to."""
    for number in range(20, 2, -1):
        try:
            os.write(number, b"")
        except OSError:
            continue
        return number
    raise AssertionError("no pipe")


def _attempt(what):
    """What came of something that a parser must not do."""
    kind, _, path = what.partition(" ")
    attempts = {
        "read": lambda: Path(path).read_text(),
        "write": lambda: Path(path).write_text("overwritten"),
        "remove": lambda: Path(path).unlink(),
        "connect": lambda: socket.create_connection(("127.0.0.1", int(path)), timeout=2),
        "fork": os.fork,
        "run": lambda: os.system(f"echo overwritten > {path}"),
        # The same, past Python's own hooks.
        "c-read": lambda: _checked(_C["open"](path.encode(), os.O_RDONLY)),
        "c-write": lambda: _checked(_C["open"](path.encode(), os.O_WRONLY | os.O_TRUNC)),
        "c-remove": lambda: _checked(_C["unlink"](path.encode())),
        "c-socket": lambda: _checked(_C["socket"](socket.AF_INET, socket.SOCK_STREAM, 0)),
        "c-fork": lambda: _checked(_C["fork"]()),
        "c-kill": lambda: _checked(_C["kill"](os.getppid(), 0)),
        "environment": lambda: " ".join(sorted(os.environ)),
    }
    try:
        return f"done: {attempts[kind]()}"
    except OSError as error:
        return f"refused: {type(error).__name__}"


def _checked(result):
    if result < 0:
        raise OSError(errno.EACCES, "refused")
    return result


def main():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parser_worker.main(obey)
