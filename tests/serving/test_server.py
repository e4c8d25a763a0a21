"""The endpoint as a process: announced while it lives, gone when it ends, honest after a kill."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import openai
import pytest

from benchmarks.homes import promote
from headwater.errors import HeadwaterError
from headwater.files import write_json
from headwater.release import pointer
from headwater.release.manifest import Release
from headwater.serving.client import (
    Endpoint,
    EndpointError,
    ask,
    endpoint_file,
    find_endpoint,
    wait_for_release,
)
from headwater.serving.connect import connect, verify
from headwater.serving.request_log import read_requests
from headwater.serving.server import run_server, serve_in_thread
from headwater.settings import Settings

Make = Callable[..., Release]
ROOT = Path(__file__).parents[2]
_SERVE = (
    "import sys; from headwater.settings import Settings;"
    "from headwater.serving.server import run_server;"
    "run_server(Settings(), int(sys.argv[1]))"
)


@contextmanager
def process(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`run_server` in a process of its own."""
    environment = os.environ | {"HEADWATER_HOME": str(settings.root), "HEADWATER_THREADS": "2"}
    running = subprocess.Popen([sys.executable, "-c", _SERVE, "0"], env=environment, cwd=ROOT)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def until_found(settings: Settings, ready: bool, timeout: float = 60) -> Endpoint:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        found = find_endpoint(settings)
        if found is not None and found.ready == ready:
            return found
        time.sleep(0.05)
    raise AssertionError("no endpoint")


def test_a_process_from_start_to_kill(home: Settings, make_release: Make) -> None:
    assert find_endpoint(home) is None
    with process(home) as running:
        # Before the first release: alive, not ready, and it says why.
        endpoint = until_found(home, ready=False)
        assert endpoint.pid == running.pid
        assert httpx.get(f"{endpoint.url}/healthz").status_code == 200
        assert httpx.get(f"{endpoint.url}/readyz").status_code == 503
        address = f"{endpoint.url}/v1"
        with (
            openai.OpenAI(base_url=address, api_key="unused", max_retries=0) as client,
            pytest.raises(openai.InternalServerError, match="headwater build"),
        ):
            client.chat.completions.create(
                model="headwater", messages=[{"role": "user", "content": "a"}]
            )
        with pytest.raises(EndpointError, match="did not load"):
            wait_for_release(endpoint.url, "x", timeout=0.3)

        # The first release is picked up without a restart.
        release = make_release(home)
        promote(home, release)
        wait_for_release(endpoint.url, release.id)
        found = until_found(home, ready=True)
        assert (found.url, found.release) == (endpoint.url, release.id)
        with connect(home) as (url, running_already):
            assert (url, running_already) == (endpoint.url, True)
        assert ask(endpoint.url, "What is bread?")["release"] == release.id

        # A second one for the same installation is refused.
        with pytest.raises(HeadwaterError, match="already"):
            run_server(home, 0)

        # Killed: what was answered is in the log, and nobody believes endpoint.json.
        running.send_signal(signal.SIGKILL)
        running.wait()
        assert endpoint_file(home).exists()
        assert find_endpoint(home) is None
        day = read_requests(home, datetime.now(UTC).date().isoformat())
        assert [row["question"] for row in day.rows] == ["What is bread?"]
        assert day.torn == 0


def test_a_process_ends_its_answers_before_it_ends(home: Settings, make_release: Make) -> None:
    promote(home, make_release(home))
    with process(home) as running:
        endpoint = until_found(home, ready=True)
        body = {"messages": [{"role": "user", "content": "What is bread?"}],
                "stream": True, "max_tokens": 300}  # fmt: skip
        url = f"{endpoint.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            running.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert rest[-2] == "data: [DONE]"
        assert running.wait(20) == 0
    assert not endpoint_file(home).exists()
    rows = read_requests(home, datetime.now(UTC).date().isoformat()).rows
    assert [row["status"] for row in rows] == ["ok"]
    assert list((home.indexes / ".open").iterdir()) == []


def test_another_process_under_the_same_number_is_not_ours(home: Settings) -> None:
    write_json(endpoint_file(home), {"url": "http://127.0.0.1:9", "pid": os.getpid()})
    assert find_endpoint(home) is None


def test_a_taken_port_is_told(home: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HeadwaterError, match="cannot listen"):
            run_server(home, taken.getsockname()[1])
    assert not endpoint_file(home).exists()


def test_serving_in_a_thread_leaves_nothing(home: Settings, make_release: Make) -> None:
    promote(home, make_release(home))
    before = set(threading.enumerate())
    with serve_in_thread(home) as url:
        assert find_endpoint(home) is None  # the caller's own, not announced
        assert ask(url, "What is bread?")["citations"]
    with pytest.raises(EndpointError):
        ask(url, "Again?")
    left = [thread.name for thread in set(threading.enumerate()) - before if not thread.daemon]
    assert left == []
    assert list((home.indexes / ".open").iterdir()) == []


def test_serving_in_a_thread_tells_why_it_cannot(home: Settings, make_release: Make) -> None:
    promote(home, make_release(home, index="nowhere"))
    with pytest.raises(HeadwaterError, match="no index version"), serve_in_thread(home):
        pass


def test_a_release_is_verified_by_a_real_request(home: Settings, make_release: Make) -> None:
    release, other = make_release(home), make_release(home, index="new")
    promote(home, release)
    with serve_in_thread(home) as url:
        proof = verify(url, release.id)
        assert proof["answer"]
        assert {cited["uri"].split(":")[0] for cited in proof["citations"]} == {"old"}
        (row,) = read_requests(home, datetime.now(UTC).date().isoformat()).rows
        assert (row["trace"], row["question"]) == (proof["trace"], proof["question"])
        with pytest.raises(EndpointError, match="it serves"):
            verify(url, other.id, timeout=0.5)
        promote(home, make_release(home, index="nowhere"))
        with pytest.raises(EndpointError, match="no index version"):
            verify(url, pointer.current(home) or "")


def test_without_an_endpoint_one_is_served_here(home: Settings, make_release: Make) -> None:
    with pytest.raises(HeadwaterError, match="no release"), connect(home):
        pass
    with pytest.raises(HeadwaterError, match="no release"), serve_in_thread(home):
        pass
    release = make_release(home)
    promote(home, release)
    with connect(home) as (url, running):
        assert not running
        assert ask(url, "What is bread?")["release"] == release.id
    assert find_endpoint(home) is None
