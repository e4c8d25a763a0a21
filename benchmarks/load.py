"""The endpoint under load: beside llama.cpp's own server, and with 10,000 requests to a stub engine.

`python -m benchmarks.load --json` needs a release in HEADWATER_HOME. First 1, 4 and 16 clients
stream the same prompts from the bare engine's HTTP server and from the endpoint, each in a process
of its own with the same model, adapter and settings, in turn. Then many clients ask an endpoint
whose engine costs nothing, so that what is left is ours: every request must be answered and
traced, or refused with 429 or 503.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Any, cast

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.homes import QUESTIONS, make_home, make_release, promote
from headwater.base_model import TINY
from headwater.datasets.golden import load_curated
from headwater.datasets.prompt import chat_text, fit, render
from headwater.engine import STOP, Completion, Engine, server_parameters
from headwater.errors import HeadwaterError
from headwater.release import manifest, pointer
from headwater.serving.request_log import logged_days, read_requests
from headwater.serving.runtime import CONTEXT_TOKENS, Runtime, Shared, load_runtime
from headwater.settings import Settings, quiet_libraries

CLIENTS = (1, 4, 16)
#: Parts of a request by the endpoint's own histograms: metric and what it is of.
PARTS = {
    "queue": "headwater_queue_seconds",
    "guards": "headwater_guard_seconds",
    "retrieve": "headwater_retrieve_seconds",
    "generate": "headwater_generate_seconds",
    "trace": "headwater_request_log_seconds",
}
#: Tokens that the stub engine says.
_SAYS = ("A ", "headwater ", "is ", "where ", "a ", "river ", "begins", ".")


class Process:
    """A server of this module as a process of its own; it prints its URL once it is ready."""

    def __init__(self, *arguments: str) -> None:
        self._running = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Process":
        assert self._running.stdout is not None
        self.url = self._running.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the server did not start; see its output above")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._running.communicate()  # closes its standard input, at which it ends

    @property
    def memory_mb(self) -> int:
        return round(psutil.Process(self._running.pid).memory_info().rss / 2**20)


def compare(settings: Settings, *, requests: int, max_tokens: int) -> dict[str, Any]:
    """Endpoint and bare engine side by side at each number of clients.

    Times in milliseconds, medians and 95th percentiles over requests; `first_token` is from
    sending to the first text, `per_token` the mean gap after it. `overhead_ms` is the endpoint's
    mean time per request in each of its own parts.
    """
    release = pointer.current(settings)
    if release is None:
        raise HeadwaterError("There is no release to measure.", mend="Run `headwater build`.")
    asked = [item.question for item in load_curated()[:8]]
    prompts = _prompts(settings, release, asked)
    found: dict[str, Any] = {"max_tokens": max_tokens}
    with Process("--serve", "engine") as engine, Process("--serve", "endpoint") as endpoint:
        arms: dict[str, tuple[Process, Callable[[httpx.Client, str], Iterator[str]]]] = {
            "engine": (engine, lambda c, q: _engine_pieces(c, engine.url, prompts[q], max_tokens)),
            "endpoint": (endpoint, lambda c, q: _endpoint_pieces(c, endpoint.url, q, max_tokens)),
        }
        for _, ask in arms.values():
            _drive(1, asked[:1], ask)  # once unmeasured: connections, caches
        for clients in CLIENTS:
            questions = list(islice(cycle(asked), max(requests, 2 * clients)))
            row: dict[str, Any] = {}
            for name, (process, ask) in arms.items():
                before = _parts(endpoint.url)
                row[name] = _drive(clients, questions, ask) | {"memory_mb": process.memory_mb}
                if name == "endpoint":
                    row["overhead_ms"] = _per_request(before, _parts(endpoint.url))
            found[f"{clients}_clients"] = row
            print(json.dumps({f"{clients}_clients": row}), file=sys.stderr, flush=True)
    return found


def _drive(
    clients: int, questions: Sequence[str], ask: Callable[[httpx.Client, str], Iterator[str]]
) -> dict[str, Any]:
    """All questions by so many clients, each as soon as its last answer has ended."""
    # The engine's server closes connections that it had promised to keep.
    single = httpx.Limits(max_keepalive_connections=0)

    def one(question: str) -> tuple[float, float, int]:
        began = time.perf_counter()
        at = [time.perf_counter() - began for _ in ask(client, question)]
        return at[0], at[-1], len(at)

    with (
        httpx.Client(trust_env=False, timeout=600, limits=single) as client,
        ThreadPoolExecutor(clients) as pool,
    ):
        began = time.perf_counter()
        rows = list(pool.map(one, questions))
        seconds = time.perf_counter() - began
    gaps = [(last - first) / (pieces - 1) for first, last, pieces in rows if pieces > 1]
    return {
        "requests": len(rows),
        "requests_per_second": round(len(rows) / seconds, 3),
        "first_token_ms": _ms([first for first, _, _ in rows]),
        "per_token_ms": _ms(gaps),
        "whole_ms": _ms([last for _, last, _ in rows]),
    }


def _ms(seconds: Sequence[float]) -> dict[str, float]:
    high = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    return {"median": round(median(seconds) * 1000, 1), "p95": round(high * 1000, 1)}


def _engine_pieces(client: httpx.Client, url: str, prompt: str, max_tokens: int) -> Iterator[str]:
    body = {
        "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "seed": 0, "stop": [*STOP],
        "cache_prompt": False, "stream": True,
    }  # fmt: skip
    yield from _pieces(client, f"{url}/v1/completions", body, lambda choice: choice["text"])


def _endpoint_pieces(
    client: httpx.Client, url: str, question: str, max_tokens: int
) -> Iterator[str]:
    message = {"role": "user", "content": question}
    body = {"messages": [message], "max_tokens": max_tokens, "stream": True}
    yield from _pieces(
        client, f"{url}/v1/chat/completions", body, lambda choice: choice["delta"].get("content")
    )


def _pieces(
    client: httpx.Client, url: str, body: dict[str, Any], text_of: Callable[[Any], str | None]
) -> Iterator[str]:
    with client.stream("POST", url, json=body) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:]).get("choices", ()):
                    if text := text_of(choice):
                        yield text


def _prompts(settings: Settings, release: str, asked: Sequence[str]) -> dict[str, str]:
    """The text that the endpoint's engine would read for each question."""
    runtime = load_runtime(settings, release, None)
    try:
        prompt = runtime.release.prompt

        def count(texts: Sequence[str]) -> list[int]:
            return [runtime.engine.count_tokens(text) for text in texts]

        prompts = {}
        for question in asked:
            hits = runtime.retriever.find(question, limit=prompt.top_k).hits
            shown = fit(hits, count, prompt.max_context_tokens)
            prompts[question] = chat_text(render(prompt, question, shown))
        return prompts
    finally:
        runtime.close()


def _parts(url: str) -> dict[str, tuple[float, float]]:
    """Sum in seconds and count of each part so far."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith(("_sum", "_count"))
    }
    return {
        part: (samples.get(f"{name}_sum", 0.0), samples.get(f"{name}_count", 0.0))
        for part, name in PARTS.items()
    }


def _per_request(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, float]:
    def mean(part: str) -> float:
        total, count = (late - early for early, late in zip(before[part], after[part], strict=True))
        return round(1000 * total / count, 2) if count else 0.0

    return {part: mean(part) for part in PARTS}


class StubEngine:
    """An engine that says the same few tokens at once; everything around it is real."""

    context = CONTEXT_TOKENS

    def count_tokens(self, text: str) -> int:
        return len(text) // 4

    def stream(self, prompt: str, **_: Any) -> "StubStream":
        return StubStream(len(prompt) // 4)

    def close(self) -> None:
        """Nothing is open."""


class StubStream:
    """The pieces of one stub answer."""

    is_late, busy_ms = False, 0.0

    def __init__(self, prompt_tokens: int) -> None:
        self.completion = Completion(
            text="".join(_SAYS), prompt_tokens=prompt_tokens, completion_tokens=len(_SAYS),
            prompt_ms=0.0, generate_ms=0.0, finish_reason="stop",
        )  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        yield from _SAYS


def _load_stub(settings: Settings, release: str, before: Runtime | None) -> Runtime:
    """The release as it is, but for its engine."""
    real = load_runtime(settings, release, before)
    engine = Shared("stub", cast("Engine", StubEngine()), StubEngine.close)  # type: ignore[arg-type]
    return Runtime(
        real.release, real.retriever, engine, real.shared_encoder, real.shared_index,
        guard=real.guard, reranker=real.shared_reranker,
    )  # fmt: skip


def flood(*, requests: int, clients: int) -> dict[str, Any]:
    """Many requests to a stub engine; `other` and `untraced` must be 0."""
    with tempfile.TemporaryDirectory() as folder:
        settings = make_home(Path(folder) / "home", TINY, places=("old",))
        promote(settings, make_release(settings, index="old"))
        with Process("--serve", "stub", "--home", str(settings.root)) as server:
            began = time.monotonic()
            statuses, traces = _flood(server.url, requests, clients)
            seconds = time.monotonic() - began
            memory = server.memory_mb
        logged = {
            row["trace"]
            for day in logged_days(settings)[-2:]
            for row in read_requests(settings, day).rows
        }
    answered = statuses[200]
    return {
        "requests": requests,
        "clients": clients,
        "answered": answered,
        "refused": statuses[429] + statuses[503],
        "other": sum(statuses.values()) - answered - statuses[429] - statuses[503],
        "untraced": len(traces - logged),
        "answers_per_second": round(answered / seconds, 1),
        "seconds": round(seconds, 1),
        "memory_mb": memory,
    }


def _flood(url: str, requests: int, clients: int) -> tuple[Counter[int], set[str]]:
    """Status of every request, and the traces of those that were answered."""
    many = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    def one(number: int) -> tuple[int, str]:
        question = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
        reply = client.post(f"{url}/v1/chat/completions", json={"messages": [question]})
        if reply.status_code == 429:
            time.sleep(0.05)  # much sooner than it was told to
        return reply.status_code, reply.headers.get("X-Headwater-Trace", "")

    with (
        httpx.Client(trust_env=False, timeout=120, limits=many) as client,
        ThreadPoolExecutor(clients) as pool,
    ):
        told = list(pool.map(one, range(requests)))
    return Counter(status for status, _ in told), {trace for status, trace in told if status == 200}


@contextmanager
def _endpoint(settings: Settings, *, stub: bool) -> Iterator[str]:
    from headwater.serving.server import serve_in_thread

    load = _load_stub if stub else load_runtime
    with serve_in_thread(settings, load=load) as url:
        yield url


@contextmanager
def _bare_engine(settings: Settings) -> Iterator[str]:
    """llama.cpp's own HTTP server with what the release names."""
    import socket

    import xllamacpp

    release = manifest.load(settings, str(pointer.current(settings)))
    adapter = settings.root / release.adapter.file if release.adapter else None
    parameters = server_parameters(
        settings.root / release.base_model.file,
        adapter,
        threads=settings.threads,
        context=CONTEXT_TOKENS,
        parallel=1,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        parameters.port = free.getsockname()[1]
    parameters.hostnames = ["127.0.0.1"]
    server = xllamacpp.Server(parameters)
    server.handle_completions({"prompt": "a", "n_predict": 1})
    yield f"http://127.0.0.1:{parameters.port}"


def _serve(what: str, settings: Settings) -> None:
    """Serve until the standard input ends."""
    served = (
        _bare_engine(settings) if what == "engine" else _endpoint(settings, stub=what == "stub")
    )
    with served as url:
        print(url, flush=True)
        sys.stdin.read()


def main() -> None:
    """Run from the command line."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=12, help="per arm; at least 2 a client")
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--flood", type=int, default=10_000, help="requests to the stub engine")
    parser.add_argument("--flood-clients", type=int, default=48)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--serve", choices=("engine", "endpoint", "stub"), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    settings = Settings(home=chosen.home) if chosen.home else Settings()
    if chosen.serve:
        _serve(chosen.serve, settings)
        return
    try:
        found: dict[str, Any] = {
            "beside_engine": compare(
                settings, requests=chosen.requests, max_tokens=chosen.max_tokens
            ),
            "flood": flood(requests=chosen.flood, clients=chosen.flood_clients),
        }
    except HeadwaterError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found) if chosen.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
