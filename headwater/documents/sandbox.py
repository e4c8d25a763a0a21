"""What a parser process gives up before it reads a byte: memory, files, processes, the network.

Knows the system's means (limits, namespaces, Landlock, a filter of system calls, Python's audit
hook), no document. What a system does not have is named to the caller, never passed over.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What C libraries and Python's own modules read besides the code: it holds nobody's secrets.
COMMON = (
    "/usr/lib", "/usr/lib64", "/usr/share", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/mime.types",
    "/dev/null", "/dev/urandom",
)  # fmt: skip
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_PDEATHSIG, _SECCOMP, _NO_NEW_PRIVS = 1, 22, 38
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: x86-64 numbers of what no parser does: reach a network, start or signal a process, raise its own
#: limits, change the file system. The kernel's arch/x86/entry/syscalls/syscall_64.tbl.
_X86_64 = 0xC000003E
_DENIED = {
    "network": (41, 42, 43, 44, 46, 49, 50, 53, 288, 307),
    "processes": (56, 57, 58, 59, 62, 101, 200, 234, 310, 311, 322, 424, 434, 435, 438),
    "limits and namespaces": (160, 161, 165, 166, 272, 302, 308, 428, 429, 430, 431, 432, 442),
    "kernel interfaces": (248, 249, 250, 298, 321, 323, 425, 426, 427),
    "files": (
        76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 133, 188, 189, 190, 258, 259, 260,
        263, 264, 265, 266, 268, 316, 437, 452,
    ),
}  # fmt: skip
_OPEN, _OPENAT = 2, 257
_FORBIDDEN_EVENTS = (
    "socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.spawn",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "shutil.", "ctypes.", "tempfile.", "urllib.", "ftplib.", "smtplib.",
)  # fmt: skip


def confine(memory: int, cpu_seconds: int, readable: Sequence[str]) -> list[str]:
    """Bind this process, for good, to what a parser needs.

    Args:
        memory: bytes of address space.
        cpu_seconds: of its whole life.
        readable: files and folders with the code it may still have to load.

    Returns:
        What this system could not provide, one phrase each.
    """
    missing = _limit(memory, cpu_seconds)
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        unshared = _without_network(libc)
        # Only now: a change of credentials would undo the first of them.
        libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        landlock = _landlock(libc, [*readable, *COMMON])
        filtered = _filter_calls(libc)
        missing += [phrase for phrase in (landlock, filtered) if phrase]
        if unshared and filtered:
            missing.append(f"no network ({unshared})")
    else:
        missing.append("no network, read-only files (not Linux)")
    _audit([os.path.realpath(path) for path in (*readable, *COMMON)])
    return missing


def _limit(memory: int, cpu_seconds: int) -> list[str]:
    limits = {
        "AS": memory, "CPU": cpu_seconds, "FSIZE": 0, "CORE": 0, "NOFILE": 64, "NPROC": 0,
    }  # fmt: skip
    missing = []
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (OSError, ValueError) as error:
            missing.append(f"limit {name} ({error})")
    return missing


def _without_network(libc: Any) -> str:
    """Move to a network of no devices; gives what stood in the way, or ""."""
    # With a user namespace the right to do so is everybody's, and root's other rights are gone.
    if libc.unshare(_NEWUSER | _NEWNET) == 0 or libc.unshare(_NEWNET) == 0:
        return ""
    return f"unshare: {os.strerror(ctypes.get_errno())}"


def _landlock(libc: Any, readable: Sequence[str]) -> str:
    """Let nothing but these paths be read, and nothing be written, by any library."""
    execute, read_file, read_folder = 1 << 0, 1 << 2, 1 << 3
    handled = struct.pack("Q", (1 << 13) - 1)
    ruleset = libc.syscall(444, handled, ctypes.c_size_t(len(handled)), 0)
    if ruleset < 0:
        return f"file access by Landlock ({os.strerror(ctypes.get_errno())})"
    for path in readable:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there needs no rule
        allowed = execute | read_file | (read_folder if Path(path).is_dir() else 0)
        libc.syscall(445, ruleset, 1, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    failed = libc.syscall(446, ruleset, 0)
    os.close(ruleset)
    return f"file access by Landlock ({os.strerror(ctypes.get_errno())})" if failed else ""


def _filter_calls(libc: Any) -> str:
    """Make the kernel answer EACCES to the calls above and to an `open` that is not for reading."""
    if platform.machine() != "x86_64":
        return f"filter of system calls (not known for {platform.machine()})"
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    deny, allow = (give, 0, 0, 0x00050000 | errno.EACCES), (give, 0, 0, 0x7FFF0000)
    program = [
        (load, 0, 0, 4), (equal, 1, 0, _X86_64), deny,
        (load, 0, 0, 0), (at_least, 0, 1, 0x40000000), deny,
    ]  # fmt: skip
    for numbers in _DENIED.values():
        for number in numbers:
            program += [(equal, 0, 1, number), deny]
    for number, flags in ((_OPEN, 24), (_OPENAT, 32)):  # offsets of the flags among the arguments
        program += [
            (equal, 0, 4, number),
            (load, 0, 0, flags),
            (any_bit, 0, 1, _WRITES),
            deny,
            allow,
        ]
    program.append(allow)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    if libc.prctl(_SECCOMP, 2, header, 0, 0):
        return f"filter of system calls ({os.strerror(ctypes.get_errno())})"
    return ""


def _audit(readable: Sequence[str]) -> None:
    """The same once more where Python itself asks, for systems without the kernel's means."""
    folders = tuple(path + os.sep for path in readable)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN_EVENTS):
            raise PermissionError(errno.EACCES, f"a parser may not: {event}")
        if event != "open" or isinstance(arguments[0], int):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if (arguments[2] or 0) & _WRITES or not (path in readable or path.startswith(folders)):
            raise PermissionError(errno.EACCES, "a parser may not open", path)

    sys.addaudithook(refuse)
