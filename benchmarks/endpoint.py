"""What the endpoint costs over the bare engine: the same prompts, side by side, on loopback.

`python -m benchmarks.endpoint --json` needs a release in HEADWATER_HOME. Each question goes to
three arms in a row (bare engine, endpoint, endpoint as a stream), in an order that rotates, several
times over; the fastest time of each arm counts, as what else the machine does only adds.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import httpx

from headwater.datasets.golden import load_curated
from headwater.datasets.prompt import chat_text, fit, render
from headwater.errors import HeadwaterError
from headwater.progress import track
from headwater.release import pointer
from headwater.serving.client import authorization
from headwater.serving.credentials import client_key
from headwater.serving.request_log import logged_days, read_requests
from headwater.serving.runtime import Runtime, load_runtime
from headwater.serving.server import serve_in_thread
from headwater.settings import Settings, quiet_libraries

ARMS = ("engine", "endpoint", "stream")


def measure(settings: Settings, *, questions: int, repeats: int, max_tokens: int) -> dict[str, Any]:
    """Times of the three arms in milliseconds, and where the endpoint's go.

    `overhead_ms` is the median, over questions, of endpoint minus engine for the same question.
    Inside the endpoint's requests, `retrieve_ms` is the search for passages, and `rest_ms` all
    else beside generation: HTTP, prompt, citations, the synced log. `first_token_ms` is what a
    streaming client waits for. `*_cpu_ms` is processor time of client and server together, which
    other work on the machine hardly moves.
    """
    release = pointer.current(settings)
    if release is None:
        raise HeadwaterError("There is no release to measure.", mend="Run `headwater build`.")
    asked = [item.question for item in load_curated()[:: max(1, 60 // questions)][:questions]]
    runtime = load_runtime(settings, release, None)
    try:
        prompts = {question: _prompt(runtime, question) for question in asked}
        with serve_in_thread(settings) as url, _client(settings, url) as client:
            arms: dict[str, Callable[[str], dict[str, Any]]] = {
                "engine": lambda question: _engine(runtime, prompts[question], max_tokens),
                "endpoint": lambda question: _endpoint(client, url, question, max_tokens),
                "stream": lambda question: _stream(client, url, question, max_tokens),
            }
            rounds = [_rotate(arms, asked, start) for start in range(repeats)]
        logged = _logged(settings)
    finally:
        runtime.close()
    size = {"questions": len(asked), "repeats": repeats, "max_tokens": max_tokens}
    return _summary([_fastest(of_one) for of_one in zip(*rounds, strict=True)], logged) | size


def _client(settings: Settings, url: str) -> httpx.Client:
    headers = authorization(client_key(settings, url))
    return httpx.Client(trust_env=False, timeout=120, headers=headers)


def _rotate(
    arms: dict[str, Callable[[str], dict[str, Any]]], asked: Sequence[str], start: int
) -> list[dict[str, dict[str, Any]]]:
    """One round of all questions; gives each question's result by arm."""
    if start == 0:
        for arm in ARMS:  # once unmeasured: connections, caches
            arms[arm](asked[0])
    rows = []
    for number, question in enumerate(track(asked, what="asking")):
        turn = (start + number) % len(ARMS)
        order = (*ARMS[turn:], *ARMS[:turn])
        rows.append({arm: _with_cpu(arms[arm], question) for arm in order})
    return rows


def _with_cpu(arm: Callable[[str], dict[str, Any]], question: str) -> dict[str, Any]:
    before = time.process_time()
    return arm(question) | {"cpu_ms": (time.process_time() - before) * 1000}


def _fastest(results: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {arm: min((one[arm] for one in results), key=lambda found: found["ms"]) for arm in ARMS}


def _prompt(runtime: Runtime, question: str) -> str:
    prompt, engine = runtime.release.prompt, runtime.engine
    hits = runtime.retriever.find(question, limit=prompt.top_k).hits
    shown = fit(
        hits, lambda texts: [engine.count_tokens(text) for text in texts], prompt.max_context_tokens
    )
    return chat_text(render(prompt, question, shown))


def _engine(runtime: Runtime, prompt: str, max_tokens: int) -> dict[str, Any]:
    started = time.perf_counter()
    done = runtime.engine.complete(prompt, max_tokens=max_tokens, cache_prompt=False)
    return {
        "ms": (time.perf_counter() - started) * 1000,
        "text": done.text.strip(),
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
    }


def _body(question: str, max_tokens: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens}


def _endpoint(client: httpx.Client, url: str, question: str, max_tokens: int) -> dict[str, Any]:
    started = time.perf_counter()
    reply = client.post(f"{url}/v1/chat/completions", json=_body(question, max_tokens))
    elapsed = (time.perf_counter() - started) * 1000
    reply.raise_for_status()
    text = reply.json()["choices"][0]["message"]["content"]
    return {"ms": elapsed, "text": text, "trace": reply.headers["X-Headwater-Trace"]}


def _stream(client: httpx.Client, url: str, question: str, max_tokens: int) -> dict[str, Any]:
    body = _body(question, max_tokens) | {"stream": True}
    started = time.perf_counter()
    first = 0.0
    with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if not first and '"content": "' in line and '"content": ""' not in line:
                first = (time.perf_counter() - started) * 1000
        trace = reply.headers["X-Headwater-Trace"]
    return {"ms": (time.perf_counter() - started) * 1000, "first_ms": first, "trace": trace}


def _logged(settings: Settings) -> dict[str, dict[str, Any]]:
    """Log entries by trace, of the last two days as midnight may have passed."""
    rows = [row for day in logged_days(settings)[-2:] for row in read_requests(settings, day).rows]
    return {row["trace"]: row for row in rows}


def _summary(
    rows: Sequence[dict[str, dict[str, Any]]], logged: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    def middle(values: Sequence[float]) -> float:
        return round(median(values), 2)

    entries = [logged[row["endpoint"]["trace"]] for row in rows]
    overhead = middle([row["endpoint"]["ms"] - row["engine"]["ms"] for row in rows])
    engine = middle([row["engine"]["ms"] for row in rows])
    retrieve = middle([entry["retrieve_ms"] for entry in entries])
    beside = [
        row["endpoint"]["ms"] - entry["retrieve_ms"] - entry["generate_ms"]
        for row, entry in zip(rows, entries, strict=True)
    ]
    return {
        "engine_ms": engine,
        "endpoint_ms": middle([row["endpoint"]["ms"] for row in rows]),
        "stream_ms": middle([row["stream"]["ms"] for row in rows]),
        "first_token_ms": middle([row["stream"]["first_ms"] for row in rows]),
        "engine_cpu_ms": middle([row["engine"]["cpu_ms"] for row in rows]),
        "endpoint_cpu_ms": middle([row["endpoint"]["cpu_ms"] for row in rows]),
        "overhead_ms": overhead,
        "overhead_share": round(overhead / engine, 4),
        "retrieve_ms": retrieve,
        "rest_ms": middle(beside),
        "same_answers": sum(row["engine"]["text"] == row["endpoint"]["text"] for row in rows),
        "prompt_tokens": middle([row["engine"]["prompt_tokens"] for row in rows]),
        "completion_tokens": middle([row["engine"]["completion_tokens"] for row in rows]),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = parser.parse_args()
    quiet_libraries()
    try:
        found = measure(
            Settings(),
            questions=chosen.questions,
            repeats=chosen.repeats,
            max_tokens=chosen.max_tokens,
        )
    except HeadwaterError as error:
        sys.exit(f"error: {error}")
    if chosen.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<18} {value}")


if __name__ == "__main__":
    main()
