"""One supervisor for the processes of a laptop: Dagster, the endpoint, MLflow.

Knows commands, addresses and signals, nothing of what the processes do. Each runs in a session
of its own, writes to a log file, is started again when it dies, and ends with the supervisor.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater.files import write_atomic, write_json
from headwater.settings import Settings, quiet_libraries

#: A process that dies more often than this within a minute is left down, and everything ends.
RESTARTS_PER_MINUTE = 5
STOP_SECONDS = 20.0


@dataclass(kw_only=True)
class Service:
    """A process to keep alive; ready once its port takes connections."""

    name: str
    command: Sequence[str]
    port: int
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)

    def url(self, host: str) -> str:
        return f"http://{host}:{self.port}"


def services(settings: Settings, repository: Path) -> list[Service]:
    """Everything that `make dev` runs, bound to the host of the settings."""
    python, host = sys.executable, settings.host
    mlflow = [python, "-m", "mlflow", "server", "--backend-store-uri", settings.mlflow_uri]
    mlflow += ["--artifacts-destination", str(settings.root / "mlflow" / "artifacts")]
    mlflow += ["--host", host, "--port", str(settings.mlflow_port), "--workers", "1"]
    dagster = [python, "-m", "dagster", "dev", "-w", str(repository / "workspace.yaml")]
    dagster += ["-h", host, "-p", str(settings.dagster_port), "--log-level", "warning"]
    serve = [python, "-m", "headwater.cli", "serve", "--port", str(settings.port)]
    return [
        Service(name="Dagster UI", command=dagster, port=settings.dagster_port),
        Service(name="endpoint", command=serve, port=settings.port),
        Service(name="MLflow UI", command=mlflow, port=settings.mlflow_port),
    ]


def supervise(settings: Settings, repository: Path) -> int:
    """Run every service until Ctrl-C or SIGTERM, then end them all. Returns the exit code."""
    quiet_libraries()
    # Without it Dagster would run with defaults of its own: no run monitoring, no freshness.
    write_atomic(settings.dagster_home / "dagster.yaml", (repository / "dagster.yaml").read_bytes())
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    os.environ["HEADWATER_HOME"] = str(settings.root)
    # dbt and mlflow are looked up on PATH by the libraries that start them.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    running = services(settings, repository)
    for service in running:
        _require_free(settings.host, service)
    (settings.root / "mlflow").mkdir(parents=True, exist_ok=True)
    stop = _StopSignal()
    logs = settings.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        for service in running:
            _start(service, logs)
        _announce(running, settings, logs, stop)
        while not stop.received:
            for service in running:
                _keep_alive(service, logs)
            time.sleep(0.5)
    finally:
        _stop_all(running)
        (settings.root / "dev.json").unlink(missing_ok=True)
    return 0


class _StopSignal:
    """Remembers SIGINT and SIGTERM. Setting a handler also undoes an inherited `ignore`, which
    children would keep: Dagster started from a background shell could not be interrupted.
    """

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, *_: object) -> None:
        self.received = True


def _require_free(host: str, service: Service) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, service.port))
        except OSError as error:
            raise HeadwaterError(
                f"Port {service.port}, wanted for the {service.name}, is taken ({error.strerror}).",
                mend="End what listens there, or set HEADWATER_PORT, HEADWATER_DAGSTER_PORT or "
                "HEADWATER_MLFLOW_PORT.",
            ) from error


def _log_path(service: Service, logs: Path) -> Path:
    return logs / f"{service.name.lower().replace(' ', '-')}.log"


def _start(service: Service, logs: Path) -> None:
    with _log_path(service, logs).open("ab") as log:
        service.process = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    service.starts.append(time.monotonic())


def _announce(
    running: Sequence[Service], settings: Settings, logs: Path, stop: _StopSignal
) -> None:
    waiting = list(running)
    print("Starting; the first time takes half a minute.", flush=True)
    while waiting and not stop.received:
        for service in list(waiting):
            _keep_alive(service, logs)
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex((settings.host, service.port)) == 0:
                    waiting.remove(service)
                    print(f"  {service.name:<12} {service.url(settings.host)}", flush=True)
        time.sleep(0.3)
    write_json(
        settings.root / "dev.json",
        {service.name: service.url(settings.host) for service in running},
    )
    print(f"All up. Logs are in {logs}. Ctrl-C ends them all.", flush=True)


def _keep_alive(service: Service, logs: Path) -> None:
    if service.process is None or service.process.poll() is None:
        return
    recent = [start for start in service.starts if time.monotonic() - start < 60]
    tail = _log_path(service, logs).read_text("utf-8", "replace").splitlines()[-8:]
    if len(recent) >= RESTARTS_PER_MINUTE:
        raise HeadwaterError(
            f"The {service.name} ended {len(recent)} times within a minute:\n  "
            + "\n  ".join(tail)
            + "\n",
            mend=f"Read {_log_path(service, logs)}.",
        )
    print(
        f"  {service.name} ended with {service.process.returncode}; starting it again", flush=True
    )
    _start(service, logs)


def _stop_all(running: Sequence[Service]) -> None:
    alive = [s.process for s in running if s.process is not None and s.process.poll() is None]
    for process in alive:
        os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for process in alive:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"  process {process.pid} did not end in time; killing it", flush=True)
        # Whatever a service started and did not end itself goes with its session.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
