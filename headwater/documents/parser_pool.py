"""Parsing in child processes: what a document does to its parser is that document's alone.

Knows processes, deadlines and what a reply may look like; no format and no table. A child is
started when there is something to parse, another when that takes long. It is believed in nothing
but the text it gives: replies are plain, bounded and checked.
"""

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from headwater.documents.parsed import MAX_HEADING, Parsed, Rejected, fold, normalise
from headwater.documents.parser_worker import LENGTH, MOST_NOTE_CHARS, MOST_NOTES, OUT_OF_MEMORY
from headwater.errors import HeadwaterError
from headwater.records import Heading, digest_of

WORKER = "headwater.documents.parser_worker"
TIMEOUT, MEMORY, CRASHED = "parser_timeout", "parser_memory", "parser_crashed"
#: Reasons that depend on the limits, not on the document and the parsers alone.
LIMIT_REASONS = (TIMEOUT, MEMORY, CRASHED)
#: Seconds that a child may take to start, and of waiting before another is started to help.
START_SECONDS, HELP_AFTER = 60.0, 0.5
#: Deadlines' worth of processor time after which a child makes room for a new one.
LIFETIME = 10
#: Bytes of a reply beside text and headings, and of these for each character that is allowed.
_HEAD_BYTES, _BYTES_PER_CHAR = 64 * 2**10, 8
_BLOCK = 2**20
#: Documents of this size go to a child in one piece with what is asked about them.
_SMALL = 2**16
#: More than the system says of a process.
_STATUS_BYTES = 2**13
#: The child gets its parent's import path, and neither its environment nor its site hooks.
_BOOT = (
    "import json, sys; config = json.loads(sys.argv[1]); sys.path[:] = config['path'];"
    " __import__(config['entry'], fromlist=['main']).main()"
)
log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserLimits:
    """What the parser of one document may use: address space, and seconds by the clock."""

    memory_mb: int = 512
    seconds: float = 60.0

    @property
    def digest(self) -> str:
        return digest_of(self.memory_mb, self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unparsed:
    """A document as `headwater.documents.parse.parse` takes it."""

    content: bytes
    media_type: str
    uri: str
    max_chars: int = 4 * 2**20


class ParserPool:
    """Some children that parse; a context manager, which ends them.

    Args:
        children: at most so many at once.
        entry: the module whose `main` a child runs.
    """

    def __init__(
        self, limits: ParserLimits | None = None, children: int = 1, entry: str = WORKER
    ) -> None:
        self.limits = limits or ParserLimits()
        self.started = 0  # children, all in all
        self.peak_bytes = (
            0  # most memory that one of them had resident; 0 where the system does not say
        )
        self._most, self._entry = children, entry
        # The collector may come in while it is held, and give up a stream of this very pool.
        self._lock = threading.RLock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False
        self._said = False  # what the system could not provide
        # Its threads live as long as the pool: a child dies with the thread that started it.
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all children, also those in the middle of a document."""
        busy = self._give_up()
        if self._threads is not None:
            self._threads.shutdown()
        for child in busy:
            child.end()

    def _give_up(self) -> "list[_Child]":
        """Have all children end, and wait for no thread; those that were busy are their threads'."""
        with self._lock:
            self._closed = True
            idle, busy, self._idle = self._idle, list(self._busy), []
        for child in idle:
            child.end()
        for child in busy:
            child.kill()  # its pipes are another thread's, which notices
        return busy

    def map(self, documents: Sequence[Unparsed]) -> list[Parsed | Rejected]:
        """`stream`, when all of it is there."""
        return list(self.stream(documents))

    def stream(self, documents: Sequence[Unparsed]) -> Iterator[Parsed | Rejected]:
        """Parse documents; the outcomes are in their order, and the children work ahead.

        A document whose parser dies, runs out of time or of memory is rejected as
        `parser_crashed`, `parser_timeout` or `parser_memory`.

        Raises:
            HeadwaterError: no child can be started.
        """
        if not documents:
            return
        found: list[Parsed | Rejected | None] = [None] * len(documents)
        pending = deque(range(len(documents)))
        news = threading.Condition()

        def work() -> None:
            try:
                while True:
                    try:
                        index = pending.popleft()
                    except IndexError:
                        return
                    found[index] = self._parse(documents[index])
                    with news:
                        news.notify()
            finally:  # one that could not start a child has something to say, too
                with news:
                    news.notify()

        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="parser")
        at_work: set[Future[None]] = {self._threads.submit(work)}
        begun = time.monotonic()
        try:
            for index in range(len(documents)):
                while (outcome := found[index]) is None:
                    with news:
                        if found[index] is None and not any(each.done() for each in at_work):
                            news.wait(HELP_AFTER)
                    for each in [each for each in at_work if each.done()]:
                        each.result()
                        at_work.discard(each)
                    assert at_work or found[index] is not None, "every document has an outcome"
                    late = time.monotonic() - begun >= HELP_AFTER * len(at_work)
                    if late and pending and len(at_work) < self._most:
                        at_work.add(self._threads.submit(work))
                found[index] = None
                yield outcome
            wait(at_work)  # on their way out
        finally:
            pending.clear()
            if not all(each.done() for each in at_work):
                # Interrupted, or another thread could not start a child; perhaps by the collector, in
                # the middle of anything (`headwater.snapshot.read_ahead`).
                self._give_up()

    def _parse(self, document: Unparsed) -> Parsed | Rejected:
        """Parse one document, twice where the first child may have been at fault."""
        child, again = self._take(), False
        while True:
            fresh = child.documents == 0
            try:
                outcome = child.parse(document)
            except _Died as death:
                self._leave(child)
                # A used child has others' leavings in its memory; and one that is killed from
                # outside says nothing of its document.
                if again or death.reason == TIMEOUT or (fresh and death.reason == MEMORY):
                    return Rejected(death.reason, death.detail)
                child, again = self._start(), True
            else:
                self._leave(child)
                return outcome

    def _take(self) -> "_Child":
        with self._lock:
            if self._idle:
                child = self._idle.pop()
                self._busy.add(child)
                return child
        return self._start()

    def _start(self) -> "_Child":
        child = _Child(self.limits, self._entry)
        with self._lock:
            self.started += 1
            closed = self._closed
            if not closed:
                self._busy.add(child)
        if closed:
            child.end()
            raise HeadwaterError("The parser pool is closed.", mend="Open another one.")
        missing = child.greet()
        with self._lock:
            say, self._said = missing and not self._said, True
        if say:
            log.warning("parser processes run without: %s", "; ".join(missing))
        return child

    def _leave(self, child: "_Child") -> None:
        """Keep a child for the next document, unless it is dead, worn or swollen."""
        with self._lock:
            self.peak_bytes = max(self.peak_bytes, child.peak)
            self._busy.discard(child)
            keep = not (self._closed or child.is_spent)
            if keep:
                self._idle.append(child)
        if not keep:
            child.end()


class _Died(Exception):
    """A child that gave no reply, with the reason for the document's quarantine row."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class _Child:
    """One parser process, spoken to over two pipes."""

    def __init__(self, limits: ParserLimits, entry: str) -> None:
        self.limits = limits
        self.documents = 0
        self.peak = 0
        self._cpu = 0.0
        self._dead = False
        package = Path(__file__).resolve().parents[1]
        config = {
            "entry": entry,
            "path": [
                str(package.parent),
                *(str(Path(each).absolute()) for each in sys.path if each),
            ],
            "readable": [str(package), *_libraries()],
            "memory": limits.memory_mb * 2**20,
            "cpu_seconds": int(limits.seconds * LIFETIME) + 1,
            "seconds": limits.seconds,
        }
        # Its standard error is ours until it is confined, so that a broken installation shows.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            cwd="/",
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout  # they are pipes
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._status = _opened_status(self._process.pid)
        self._unread = bytearray()
        for pipe in (self._in, self._out):
            os.set_blocking(pipe, False)

    @property
    def is_spent(self) -> bool:
        """Whether the next document deserves a new child."""
        worn = self._cpu > self.limits.seconds * (LIFETIME - 1)
        return self._dead or worn or self.peak > self.limits.memory_mb * 2**20 / 2

    def greet(self) -> list[str]:
        """Wait until it is confined; gives what the system could not provide for that.

        Raises:
            HeadwaterError: it does not start.
        """
        try:
            head = self._head(time.monotonic() + START_SECONDS, START_SECONDS)
        except (_Died, TypeError, ValueError) as error:
            self.end()
            raise HeadwaterError(
                f"A parser process does not start ({error}).",
                mend="What it wrote to the log says why; HEADWATER_PARSER_MEMORY_MB may be too low.",
            ) from error
        return [str(phrase) for phrase in head.get("missing", ())]

    def parse(self, document: Unparsed) -> Parsed | Rejected:
        """Have one document parsed. Raises _Died."""
        seconds = self.limits.seconds
        deadline = time.monotonic() + seconds
        limit = document.max_chars * _BYTES_PER_CHAR
        self.documents += 1
        asked = {
            "media_type": document.media_type,
            "uri": document.uri,
            "max_chars": document.max_chars,
            "reply": limit,
        }
        try:
            if self._unread or _is_readable(self._out):
                raise self._died(CRASHED, "its parser spoke out of turn")
            frames = [json.dumps(asked).encode(), document.content]
            parts = [part for frame in frames for part in (LENGTH.pack(len(frame)), frame)]
            # Each call lets other threads go first: one is all that most documents take.
            for data in [b"".join(parts)] if len(document.content) <= _SMALL else parts:
                self._write(data, deadline, seconds)
            head = self._head(deadline, seconds)
            self._cpu = float(head["cpu"])
            self._measure()
            if "reason" in head:
                return self._refusal(head)
            text = self._frame(limit, deadline, seconds)
            headings = self._frame(limit, deadline, seconds)
            if self._unread:  # it would be taken for the reply to the next document
                raise self._died(CRASHED, "its parser said more than a reply")
            return _parsed(head["title"], text, headings, head["notes"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._died(
                CRASHED, f"its reply makes no sense ({type(error).__name__})"
            ) from error

    def kill(self) -> None:
        """Kill it, by its own id; whoever speaks to it meets the end of its pipes."""
        self._dead = True
        self._process.kill()

    def end(self) -> None:
        """Kill it, wait for that and free what it held."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._status is not None:
            self._status.close()

    def _measure(self) -> None:
        """Its most resident memory, by Linux' account: `ru_maxrss` would count its parent's."""
        if self._status is None:
            return
        try:
            status = os.pread(self._status.fileno(), _STATUS_BYTES, 0)
        except OSError:
            return  # it has ended
        if peak := re.search(rb"VmHWM:\s*(\d+) kB", status):
            self.peak = int(peak[1]) * 1024

    def _refusal(self, head: dict[str, Any]) -> Rejected:
        reason, detail = str(head["reason"]), str(head["detail"])
        if reason == MEMORY:
            raise self._died(MEMORY, self._memory())
        if reason == CRASHED:
            detail = f"a fault of the parser, worth a report: {detail}"
        return Rejected(reason, detail)

    def _memory(self) -> str:
        return (
            f"parsing it takes more than {self.limits.memory_mb} MB of memory; where it can be"
            " trusted, raise HEADWATER_PARSER_MEMORY_MB"
        )

    def _late(self, seconds: float) -> "_Died":
        return self._died(
            TIMEOUT,
            f"it was not parsed within {seconds:g} s; where it can be trusted, raise"
            " HEADWATER_PARSER_SECONDS",
        )

    def _died(self, reason: str, detail: str) -> "_Died":
        self._measure()
        self.kill()
        return _Died(reason, detail)

    def _gone(self, seconds: float) -> "_Died":
        """What its end says, once its pipes are closed."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return self._died(CRASHED, "its parser closed its pipes")
        if code == OUT_OF_MEMORY:
            return self._died(MEMORY, self._memory())
        if -code in (signal.SIGALRM, signal.SIGXCPU):
            return self._late(seconds)
        name = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return self._died(CRASHED, f"its parser ended with {name}")

    def _write(self, data: bytes, deadline: float, seconds: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._in, view[:_BLOCK]) :]
            except BlockingIOError:
                self._wait(self._in, select.POLLOUT, deadline, seconds)
            except BrokenPipeError as error:
                raise self._gone(seconds) from error

    def _head(self, deadline: float, seconds: float) -> dict[str, Any]:
        head = json.loads(self._frame(_HEAD_BYTES, deadline, seconds))
        if not isinstance(head, dict):
            raise TypeError(head)
        return head

    def _frame(self, limit: int, deadline: float, seconds: float) -> bytes:
        (size,) = LENGTH.unpack(self._read(LENGTH.size, deadline, seconds))
        if size > limit:
            raise ValueError(f"a frame of {size:,} bytes")
        return self._read(size, deadline, seconds)

    def _read(self, size: int, deadline: float, seconds: float) -> bytes:
        while len(self._unread) < size:
            self._wait(self._out, select.POLLIN, deadline, seconds)
            try:
                block = os.read(self._out, _BLOCK)
            except BlockingIOError:
                continue
            if not block:
                raise self._gone(seconds)
            self._unread += block
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _wait(self, pipe: int, event: int, deadline: float, seconds: float) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise self._late(seconds)


def _is_readable(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(0))


def _opened_status(process: int) -> IO[bytes] | None:
    """What Linux says of a process, open: to look it up again takes longer than to read it."""
    try:
        return Path(f"/proc/{process}/status").open("rb", buffering=0)
    except OSError:
        return None  # it has ended, or this is not Linux


def _parsed(title: Any, text: bytes, lines: bytes, notes: Any) -> Parsed:
    """A reply as a record. Raises ValueError where no parser of ours would have said it."""
    if not isinstance(title, str) or not title:
        raise ValueError("no title")
    if not isinstance(notes, list) or len(notes) > MOST_NOTES:
        raise ValueError("no list of notes")
    if not all(isinstance(note, str) and len(note) <= MOST_NOTE_CHARS for note in notes):
        raise ValueError("no note")
    headings = []
    before = -1
    for line in lines.decode().split("\n") if lines else ():
        start, level, name = line.split(" ", 2)
        heading = Heading(start=int(start), level=int(level), text=name)
        if not before < heading.start < len(text) or len(name) > MAX_HEADING:
            raise ValueError("headings out of order")
        before = heading.start
        headings.append(heading)
    said = tuple(fold(normalise(note)) for note in notes)
    return Parsed(title=title, text=text.decode(), headings=tuple(headings), notes=said)


def _libraries() -> list[str]:
    """Folders that hold the interpreter, its libraries and the packages installed beside it."""
    packages = [each for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
    stdlib = str(Path(os.__file__).parent)
    return sorted({sys.prefix, sys.base_prefix, sys.exec_prefix, stdlib, *packages})


def _environment() -> dict[str, str]:
    """What an interpreter may need to start; no setting and no secret of ours."""
    kept = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}
