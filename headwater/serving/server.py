"""Runs the endpoint: a uvicorn server on a socket we bind, in the foreground or in a thread."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, flock

import uvicorn

from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.release import pointer
from headwater.serving.app import create_app
from headwater.serving.client import endpoint_file
from headwater.serving.credentials import new_local_key, published, remembered
from headwater.serving.key_ring import KeyRing
from headwater.serving.keys import read_keys
from headwater.serving.prompt_headers import prompt_headers
from headwater.serving.runtime import Runtime, load_runtime
from headwater.serving.service import Limits, Service
from headwater.settings import Settings

log = logging.getLogger("headwater")

#: Seconds that running requests get to end once the server is told to stop.
GRACE_SECONDS = 30


def run_server(settings: Settings, port: int | None = None) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, whatever release becomes current.

    Ready once a release is loaded; before the first build that may take as long as it likes.

    Args:
        port: instead of the settings' port; 0 takes a free one.

    Raises:
        HeadwaterError: the port is taken, an endpoint runs for this installation already, or others
            would reach it and there is no key.
    """
    _require_a_key(settings)
    with _only_one(settings):
        listener = _bind(settings.host, settings.port if port is None else port)
        url = _url(listener)
        told = {"url": url, "pid": os.getpid(), "release": None}

        def tell(release: str) -> None:
            try:
                write_json(endpoint_file(settings), {**told, "release": release})
            except OSError as error:  # it is a convenience: /readyz tells the same
                log.warning("endpoint: %s", error)

        secret, digest = new_local_key()
        ring = KeyRing(settings, is_loopback=settings.is_loopback, local_digest=digest)
        service = Service(settings, swapped=tell)
        write_json(endpoint_file(settings), told)
        log.info("endpoint: %s", url)
        try:
            with _signals_end_quietly(), published(settings, secret):
                _server(service, ring).run(sockets=[listener])
        finally:
            endpoint_file(settings).unlink(missing_ok=True)


@contextmanager
def serve_in_thread(
    settings: Settings,
    port: int = 0,
    *,
    limits: Limits | None = None,
    load: Callable[[Settings, str, Runtime | None], Runtime] = load_runtime,
    timeout: float = 120.0,
) -> Iterator[str]:
    """Serve within the block; gives the URL once the current release is loaded.

    It is not announced in endpoint.json: it ends with the block, and is the caller's own. So is its
    local key, which `credentials.client_key` knows within this process.

    Raises:
        HeadwaterError: there is no release, it cannot be loaded, or not in `timeout` seconds; or
            others would reach it and there is no key.
    """
    _require_a_key(settings)
    if pointer.current(settings) is None:
        raise HeadwaterError(
            f"There is no release in {settings.root}.", mend="Run `headwater build`."
        )
    secret, digest = new_local_key()
    ring = KeyRing(settings, is_loopback=settings.is_loopback, local_digest=digest)
    listener = _bind(settings.host, port)
    service = Service(settings, limits=limits, load=load)
    server = _server(service, ring)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="headwater-endpoint", daemon=True
    )
    thread.start()
    try:
        _wait_until_ready(service, thread, timeout)
        with remembered(url := _url(listener), secret):
            yield url
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the installation's endpoint lock; the kernel frees it when the process dies."""
    settings.serving.mkdir(parents=True, exist_ok=True)
    with (settings.serving / "endpoint.lock").open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            told = read_json(endpoint_file(settings)) or {"url": "an unknown address", "pid": "?"}
            raise HeadwaterError(
                f"Process {told['pid']} serves this installation already, at {told['url']}.",
                mend="Stop it first, or set another HEADWATER_HOME.",
            ) from error
        yield


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Uvicorn raises the signal again once it has shut down: that must not skip our own end."""
    before = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(service: Service, thread: threading.Thread, timeout: float) -> None:
    until = time.monotonic() + timeout
    while service.deployment.release is None:
        if service.deployment.error is not None:
            raise service.deployment.error
        if time.monotonic() > until or not thread.is_alive():
            raise HeadwaterError(
                f"The endpoint was not ready after {timeout:.0f} s.",
                mend="See the log for what it waits for.",
            )
        time.sleep(0.02)


def _require_a_key(settings: Settings) -> None:
    """Others than this machine reach the endpoint only where there is somebody to let in."""
    now = datetime.now(UTC)
    keys = read_keys(settings).values()
    if not settings.is_loopback and not any(key.state(now) == "active" for key in keys):
        raise HeadwaterError(
            f"The endpoint would listen on {settings.host} for other machines, and there is no"
            " active API key.",
            mend="Run `headwater keys create NAME`, or set HEADWATER_HOST=127.0.0.1.",
        )


def _server(service: Service, ring: KeyRing) -> uvicorn.Server:
    config = uvicorn.Config(
        create_app(service, ring),
        http=prompt_headers(service.limits.head_seconds),
        log_config=None,  # the application's logging stays as it is
        access_log=False,  # the request log tells more
        server_header=False,
        ws="none",
        # A client that reuses a connection just as we drop it gets an error: drop them rarely.
        timeout_keep_alive=65,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is told at once and port 0 has a number."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise HeadwaterError(
            f"The endpoint cannot listen on {host}:{port}: {error.strerror}.",
            mend="Give another port by --port or HEADWATER_PORT.",
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
