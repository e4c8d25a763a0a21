"""Small homes to serve from: an index of a few documents for each place, and any base model.

What the endpoint's benchmarks and its tests have in common; knows no measurement.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from headwater.base_model import prepare
from headwater.embeddings.encoder import Encoder, model_digest
from headwater.embeddings.retrieve import RetrievalSettings
from headwater.embeddings.store import Contents, Point, open_store, point_list
from headwater.guardrails.policy import GuardPolicy, keep_policy, load_policy
from headwater.records import Prompt, digest_of
from headwater.release import manifest, pointer
from headwater.release.manifest import Release, pin_base
from headwater.serving.client import Endpoint, find_endpoint
from headwater.settings import Settings

REPOSITORY = Path(__file__).parents[1]
#: Small, as random weights answer nothing anyway.
PROMPT = Prompt(
    system="Answer from the context.",
    user="{context}\n\nQuestion: {question}",
    max_context_tokens=200,
    top_k=3,
)
TEXTS = {
    "snow": "A snowman is made of three balls of snow. Carrots serve as noses.",
    "rivers": "A headwater is the beginning of a river, often a spring in the mountains.",
    "bread": "Sourdough bread rises because of wild yeast that lives in the flour.",
    "clocks": "A pendulum clock counts the swings of a weight; its period depends on the length.",
    "bees": "Honey bees dance to tell each other where flowers are.",
}
#: One question on each text.
QUESTIONS = (
    "What is a snowman made of?",
    "What is a headwater?",
    "Why does sourdough bread rise?",
    "What does a pendulum clock count?",
    "Why do honey bees dance?",
)


def passages(place: str, texts: Mapping[str, str] = TEXTS) -> list[dict[str, object]]:
    """Payloads of an index, one chunk a document, with URIs at `place`."""
    return [
        {
            "id": f"{place}-{name}",
            "uri": f"{place}:///{name}.md",
            "title": name,
            "heading": name.title(),
            "start": 0,
            "end": len(text.encode()),
            "text": text,
        }
        for name, text in texts.items()
    ]


def build_index(
    settings: Settings, encoder: Encoder, version: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Publish an index version of these payloads."""
    vectors = encoder.encode([f"{row['heading']}\n{row['text']}" for row in rows])
    points = [
        Point(id=digest_of(row["id"]), digest=digest_of(row), vector=vector, payload=dict(row))
        for row, vector in zip(rows, vectors, strict=True)
    ]
    contents = Contents(
        dimension=encoder.dimension,
        points=point_list(points),
        fetch=lambda numbers: (points[number] for number in numbers),
    )
    open_store(settings).build(version, contents)


def make_home(
    root: Path, base_model: str, *, places: Sequence[str], texts: Mapping[str, str] = TEXTS
) -> Settings:
    """A home with a base model and one index version for each place, no release yet."""
    settings = Settings(home=root, base_model=base_model)
    prepare(settings)
    encoder = Encoder(settings.embedding_model, settings.threads, settings.encoders)
    for place in places:
        build_index(settings, encoder, place, passages(place, texts))
    return settings


def make_release(
    settings: Settings, *, guards: GuardPolicy | None = None, **fields: Any
) -> Release:
    """Save a release; any field can be chosen, and `index` must be.

    Args:
        guards: instead of the default policy.
    """
    values: dict[str, Any] = {
        "base_model": pin_base(settings, prepare(settings)),
        "adapter": None,
        "prompt": PROMPT,
        "embedding_model": model_digest(settings.embedding_model),
        "retrieval": RetrievalSettings().as_mapping(),
        "guardrails": keep_policy(settings, guards or load_policy()),
    }
    return manifest.save(settings, Release(**(values | fields)))


def promote(settings: Settings, release: Release) -> None:
    """Put a release into production."""
    pointer.promote(settings, release.id, pointer.current(settings), actor="benchmark")


class EndpointProcess:
    """An endpoint as a process of its own, which can be killed and started again.

    Args:
        command: Python's arguments, before `--port`.
    """

    def __init__(self, settings: Settings, *command: str) -> None:
        self._settings = settings
        self._command = command or ("-m", "headwater.cli", "serve")
        self._log = (settings.root / "serve.log").open("ab")
        self._process = self._start(0)
        self.url = self.ready().url

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self, seconds: float = 120) -> Endpoint:
        """Wait until it answers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.alive:
            found = find_endpoint(self._settings)
            if found is not None and found.ready and found.pid == self.pid:
                return found
            time.sleep(0.05)
        raise RuntimeError(f"the endpoint is not ready; see {self._settings.root / 'serve.log'}")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def start_again(self) -> None:
        """At the same address; does not wait until it is ready."""
        self._process = self._start(int(self.url.rpartition(":")[2]))

    def stop(self) -> None:
        """End it in order."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
        self._log.close()

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *self._command, "--port", str(port)],
            env=os.environ | {"HEADWATER_HOME": str(self._settings.root)},
            cwd=REPOSITORY,
            stdout=self._log,
            stderr=self._log,
        )


class Crowd:
    """Clients in threads of their own, until each has had enough; an error of one ends the block."""

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self._pool = ThreadPoolExecutor(clients)
        self._running: list[Future[None]] = []

    def run(self, number: int) -> None:
        """What one client does, from beginning to end."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self.run, number) for number in range(self._clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for running in self._running:
            running.result()


@contextmanager
def endpoint_process(settings: Settings, *command: str) -> Iterator[EndpointProcess]:
    """The endpoint of a home that has a release, until the end of the block; see the class."""
    process = EndpointProcess(settings, *command)
    try:
        yield process
    finally:
        process.stop()
