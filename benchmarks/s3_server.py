"""A real S3 server (SeaweedFS) on loopback that a test starts, kills and starts again.

Knows how the server is started; what is asked of it is the tests' own.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

#: Credentials of the one user; the server knows them from its configuration alone.
KEY, SECRET = "headwater", "only-on-loopback"
_NAMES = ("master.port", "volume.port", "filer.port", "s3.port")
_STARTING_SECONDS = 60


class S3Server:
    """A server with all of its parts in one process, which keeps what it is given in `folder`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._ports = dict(zip(_named_ports(), _free_ports(2 * len(_NAMES)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"

    def start(self) -> None:
        """Start it, and come back when it answers."""
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        config = self._folder / "identities.json"
        known = {"credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        config.write_text(json.dumps({"identities": [{"name": "test", **known}]}))
        command = [str(self._program), "-logtostderr=false", f"-logdir={self._folder}", "server"]
        command += [f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=20"]
        command += ["-master.volumeSizeLimitMB=64", "-filer", "-s3", f"-s3.config={config}"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=kept,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _STARTING_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start; its log is in {self._folder}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        """Whether it answers, and has a place for what is written."""
        assign = f"http://127.0.0.1:{self._ports['master.port']}/dir/assign"
        try:
            with urlopen(assign, timeout=5) as reply:
                if "fid" not in json.load(reply):
                    return False
        except (OSError, ValueError):
            return False
        try:
            urlopen(self.endpoint, timeout=5).close()
        except HTTPError as error:
            return error.code == 403  # it wants credentials
        except OSError:
            return False
        return True


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server | None]:
    """A server that runs, or None where its program is not installed."""
    beside = Path(sys.executable).with_name("weed")
    program = beside if beside.exists() else shutil.which("weed")
    if program is None:
        yield None
        return
    server = S3Server(Path(program), folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _named_ports() -> list[str]:
    return [each for name in _NAMES for each in (name, f"{name}.grpc")]


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
