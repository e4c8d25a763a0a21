"""Deadlines on a running endpoint: what waits is dropped, what generates stops, work ends."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import openai
import pytest

from benchmarks.homes import promote
from headwater.engine import Engine, TokenStream
from headwater.release.manifest import Release
from headwater.serving.request_log import read_requests
from headwater.serving.server import serve_in_thread
from headwater.serving.service import Limits
from headwater.settings import Settings
from tests.serving.conftest import Endpoint, copy_home

LONG = 1_600
MESSAGE: Any = {"role": "user", "content": "What is a headwater?"}


@pytest.fixture(scope="module")
def endpoint(
    origin: Settings, make_release: Callable[..., Release], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """One that answers one at a time, at length; four may wait or be answered, two of one key."""
    home = copy_home(origin, tmp_path_factory.mktemp("deadlines"))
    release = make_release(home)
    promote(home, release)
    limits = Limits(workers=1, waiting=3, answer_tokens=LONG, prompt_tokens=300)
    with serve_in_thread(home, limits=limits) as url:
        yield Endpoint(url, home, release)


def chat(endpoint: Endpoint, *, deadline: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if deadline is None else {"X-Headwater-Deadline": deadline}
    body = {"messages": [MESSAGE], "max_tokens": 4} | body
    url = f"{endpoint.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=60)


def logged(endpoint: Endpoint, trace: str) -> dict[str, Any]:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for row in read_requests(endpoint.settings, datetime.now(UTC).date().isoformat()).rows:
            if row["trace"] == trace:
                return row
        time.sleep(0.02)
    raise AssertionError(trace)


class Held:
    """Holds the engine's answers back while it is entered: a token comes when one is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = threading.Semaphore(0)
        self.allowed = threading.Event()
        self.prompts: list[Any] = []
        held, stream, receive = self, Engine.stream, TokenStream._receive

        def listed(engine: Engine, prompt: str, **choices: Any) -> TokenStream:
            held.prompts.append(prompt)
            return stream(engine, prompt, **choices)

        def slowly(made: TokenStream, chunk: dict[str, Any]) -> bool:
            held.started.release()
            while not (held.allowed.wait(0.02) or made._cancelled.is_set()):
                pass
            return receive(made, chunk)

        monkeypatch.setattr(Engine, "stream", listed)
        monkeypatch.setattr(TokenStream, "_receive", slowly)


def test_what_waits_longer_is_dropped_without_work(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    first: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: first.append(chat(endpoint)))
    thread.start()
    assert held.started.acquire(timeout=20)
    late = chat(endpoint, timeout=0.1)
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    assert thread.is_alive()
    row = logged(endpoint, late.headers["X-Headwater-Trace"])
    assert (row["status"], row["prompt_tokens"], row["completion_tokens"]) == ("deadline", 0, 0)
    held.allowed.set()
    thread.join()
    assert first[0].status_code == 200
    assert chat(endpoint).status_code == 200
    assert len(held.prompts) == 2  # never the one that was late


def test_its_place_is_free_at_once(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    thread = threading.Thread(target=lambda: chat(endpoint, deadline="200"))
    thread.start()
    assert held.started.acquire(timeout=20)
    for _ in range(6):  # three may wait
        assert chat(endpoint, timeout=0.02).status_code == 504
    held.allowed.set()
    thread.join()


def test_an_answer_ends_where_its_deadline_passes(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_tokens(monkeypatch)
    reply = chat(endpoint, deadline="0.5", max_tokens=LONG)
    assert reply.status_code == 200
    choice, usage = reply.json()["choices"][0], reply.json()["usage"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"]
    assert 0 < usage["completion_tokens"] < LONG
    assert usage["prompt_tokens"] > 0
    row = logged(endpoint, reply.headers["X-Headwater-Trace"])
    assert row["status"] == "deadline"
    assert row["answer"] == choice["message"]["content"]
    assert row["completion_tokens"] == usage["completion_tokens"]


def test_a_stream_ends_where_its_deadline_passes(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_tokens(monkeypatch)
    reply = chat(endpoint, deadline="0.5", max_tokens=LONG, stream=True)
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["citations"]
    assert 2 < len(chunks) < LONG
    assert logged(endpoint, reply.headers["X-Headwater-Trace"])["status"] == "deadline"


def slow_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes 20 ms, so that an answer outlasts any deadline here."""
    receive = TokenStream._receive

    def slowly(made: TokenStream, chunk: dict[str, Any]) -> bool:
        time.sleep(0.02)
        return receive(made, chunk)

    monkeypatch.setattr(TokenStream, "_receive", slowly)


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_token_it_is_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    held = Held(monkeypatch)
    reply = chat(endpoint, deadline="0.3", stream=stream)
    assert held.started.acquire(timeout=20)  # generation had begun; its first token was late
    assert reply.status_code == 504
    assert reply.json()["error"]["code"] == "deadline_exceeded"
    row = logged(endpoint, reply.headers["X-Headwater-Trace"])
    assert (row["status"], row["answer"], row["release"]) == ("deadline", "", endpoint.release.id)
    assert row["prompt_tokens"] > 0  # the prompt was processed, and is paid for
    held.allowed.set()
    assert chat(endpoint).status_code == 200


def test_the_official_client_raises_and_does_not_try_again(endpoint: Endpoint) -> None:
    asked: list[Any] = []
    with openai.OpenAI(
        base_url=f"{endpoint.url}/v1",
        api_key="unused",
        max_retries=2,
        http_client=httpx.Client(event_hooks={"request": [asked.append]}),
    ) as client:
        with pytest.raises(openai.InternalServerError, match="deadline") as told:
            client.chat.completions.create(
                model="headwater",
                messages=[MESSAGE],
                extra_headers={"X-Headwater-Deadline": "0.0001"},
            )
        assert told.value.status_code == 504
    assert len(asked) == 1


@pytest.mark.parametrize("deadline", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_deadline_that_is_none_is_told(endpoint: Endpoint, deadline: str) -> None:
    reply = chat(endpoint, deadline=deadline)
    assert reply.status_code == 400
    assert "seconds" in reply.json()["error"]["message"]


def test_the_nearer_deadline_counts_and_the_longest_is_ours(endpoint: Endpoint) -> None:
    assert chat(endpoint, deadline="0.0001", timeout=60).status_code == 504
    assert chat(endpoint, deadline="60", timeout=0.0001).status_code == 504
    assert chat(endpoint, deadline="1e9").status_code == 200
    assert chat(endpoint, timeout=0).status_code == 400
    embedded = httpx.post(
        f"{endpoint.url}/v1/embeddings",
        json={"input": ["a river " * 50] * 64},
        headers={"X-Headwater-Deadline": "0.0001"},
    )
    assert embedded.status_code == 504


def test_messages_that_are_too_long_together_are_told(endpoint: Endpoint) -> None:
    turn = [{"role": "user", "content": "a river and a spring " * 10},
            {"role": "assistant", "content": "Yes. " * 20}]  # fmt: skip
    reply = chat(endpoint, messages=[*turn * 5, MESSAGE])
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "at most 300" in error["message"]
    assert chat(endpoint, messages=[*turn, MESSAGE]).status_code == 200


def test_one_user_leaves_places_for_others(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    got: list[int] = []
    greedy = [
        threading.Thread(target=lambda: got.append(chat(endpoint, user="greedy").status_code))
        for _ in range(2)
    ]
    for thread in greedy:
        thread.start()
    assert held.started.acquire(timeout=20)
    until = time.monotonic() + 20
    while in_flight(endpoint) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    refused = chat(endpoint, user="greedy")
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        429,
        "concurrency_limit_exceeded",
    )
    assert int(refused.headers["Retry-After"]) >= 1
    other = threading.Thread(target=lambda: got.append(chat(endpoint, user="other").status_code))
    other.start()
    while in_flight(endpoint) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    held.allowed.set()
    for thread in (*greedy, other):
        thread.join()
    assert got == [200, 200, 200]


def in_flight(endpoint: Endpoint) -> float:
    text = httpx.get(f"{endpoint.url}/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith("headwater_in_flight ")]
    return float(line.split()[1])


def test_what_was_given_up_is_counted(endpoint: Endpoint) -> None:
    chat(endpoint, deadline="0.0001")
    text = httpx.get(f"{endpoint.url}/metrics").text
    assert 'headwater_rejected_total{reason="deadline_exceeded"}' in text
    assert 'headwater_requests_total{outcome="deadline",route="chat"}' in text
