"""The endpoint over HTTP, with the official client and without: real engine, index and encoder."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from benchmarks.homes import promote
from headwater.embeddings.encoder import Encoder
from headwater.release.manifest import Release
from headwater.serving.client import EndpointError, ask
from headwater.serving.request_log import log_folder, read_requests
from headwater.serving.server import serve_in_thread
from headwater.serving.service import Limits
from headwater.settings import Settings
from tests.serving.conftest import copy_home

QUESTION = "What is a headwater?"
MESSAGE: Any = {"role": "user", "content": QUESTION}
Served = tuple[str, Release]


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="unused", max_retries=0) as client:
        yield client


def chat(url: str, **body: Any) -> httpx.Response:
    body = {"model": "headwater", "messages": [MESSAGE]} | body
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def logged(settings: Settings, trace: str, timeout: float = 5.0) -> dict[str, Any]:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        for day in {datetime.now(UTC).date().isoformat()}:
            for row in read_requests(settings, day).rows:
                if row["trace"] == trace:
                    return row
        time.sleep(0.02)
    raise AssertionError(f"{trace} is not in {log_folder(settings)}")


def test_the_official_client_gets_an_answer(client: openai.OpenAI, served: Served) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="headwater",
        messages=[MESSAGE],
        max_tokens=8,
    )
    reply = raw.parse()
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 8
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 8
    assert raw.headers["X-Headwater-Release"] == served[1].id == reply.system_fingerprint
    assert reply.id == f"chatcmpl-{raw.headers['X-Headwater-Trace']}"
    citations = reply.citations  # type: ignore[attr-defined]
    assert "old:///rivers.md" in [cited["uri"] for cited in citations]
    assert {"uri", "heading", "start", "end", "text"} <= set(citations[0])


def test_the_official_client_gets_a_stream(client: openai.OpenAI) -> None:
    arguments: dict[str, Any] = {
        "model": "headwater",
        "messages": [MESSAGE],
        "max_tokens": 12,
    }
    whole = client.chat.completions.create(**arguments)
    stream = client.chat.completions.create(**arguments, stream=True)
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[-1].citations == whole.citations  # type: ignore[attr-defined]
    assert len(chunks) > 3


def test_the_stream_can_end_with_usage(served: Served) -> None:
    plain = chat(served[0], stream=True, max_tokens=4)
    assert plain.headers["content-type"].startswith("text/event-stream")
    assert plain.headers["X-Headwater-Release"] == served[1].id
    chunks = events(chat(served[0], stream=True, max_tokens=4, stream_options={
        "include_usage": True}).text)  # fmt: skip
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert chunks[-1]["citations"] == events(plain.text)[-1]["citations"] != []
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"


def test_equal_questions_get_equal_answers(served: Served) -> None:
    first = chat(served[0], max_tokens=16).json()
    chat(served[0], messages=[{"role": "user", "content": "Do bees dance?"}], max_tokens=16)
    again = chat(served[0], max_tokens=16).json()
    assert first["choices"] == again["choices"]


def test_every_answer_is_in_the_log(served: Served, origin: Settings) -> None:
    whole = chat(served[0], max_tokens=6)
    row = logged(origin, whole.headers["X-Headwater-Trace"])
    assert row["answer"] == whole.json()["choices"][0]["message"]["content"]
    assert (row["status"], row["streamed"], row["refused"]) == ("ok", False, False)
    assert row["release"] == served[1].id
    assert row["question"] == QUESTION
    assert row["completion_tokens"] == 6
    assert set(row["uris"]) == {cited["uri"] for cited in whole.json()["citations"]}
    assert row["scores"] == sorted(row["scores"], reverse=True)
    assert row["total_ms"] >= row["generate_ms"] > 0
    streamed = chat(served[0], max_tokens=6, stream=True)
    row = logged(origin, streamed.headers["X-Headwater-Trace"], timeout=0.001)
    assert row["streamed"] is True


def test_the_official_client_lists_models(client: openai.OpenAI, served: Served) -> None:
    assert [model.id for model in client.models.list()] == ["headwater", served[1].id]
    assert client.models.retrieve("headwater").id == "headwater"
    assert chat(served[0], model=served[1].id, max_tokens=1).status_code == 200
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    with pytest.raises(openai.NotFoundError, match="Use 'headwater'"):
        client.chat.completions.create(model="gpt-5", messages=[MESSAGE])
    with pytest.raises(openai.NotFoundError, match="Use 'headwater'"):
        client.embeddings.create(model="gpt-5", input="a")


def test_the_official_client_gets_embeddings(client: openai.OpenAI, encoder: Encoder) -> None:
    texts = ["a river", "a spring in the mountains"]
    expected = encoder.encode(texts)
    for format in ("float", "base64"):
        reply = client.embeddings.create(model="headwater", input=texts, encoding_format=format)  # type: ignore[arg-type]
        rows = [item.embedding for item in reply.data]
        if format == "base64":
            rows = [np.frombuffer(base64.b64decode(str(row)), "<f4").tolist() for row in rows]
        np.testing.assert_allclose(rows, expected, atol=1e-6)
        assert [item.index for item in reply.data] == [0, 1]
        assert reply.usage.prompt_tokens == 4 + 7
    default = client.embeddings.create(model="headwater", input="a river")
    np.testing.assert_allclose(default.data[0].embedding, expected[0], atol=1e-6)


def _user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


BAD_CHATS = {
    "no messages": ({"messages": []}, "messages"),
    "messages are text": ({"messages": "hello"}, "messages"),
    "empty message": (_user("  "), "empty"),
    "long message": (_user("a" * 8_001), "at most 8000"),
    "many messages": ({"messages": [{"role": "user", "content": "a"}] * 65}, "At most 64"),
    "an image": (_user([{"type": "image_url", "image_url": {"url": "x"}}]), "type text"),
    "not the user's": ({"messages": [{"role": "assistant", "content": "a"}]}, "user's"),
    "unknown role": ({"messages": [{"role": "king", "content": "a"}]}, "role"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "too hot": ({"temperature": 3}, "temperature"),
    "several answers": ({"n": 2}, "n=2 is not supported"),
    "tools": ({"tools": [{"type": "function"}]}, "tools"),
    "json": ({"response_format": {"type": "json_object"}}, "response_format"),
    "top_p": ({"top_p": 0.5}, "top_p"),
    "surrogate": (_user("\ud800"), "content"),
}


@pytest.mark.parametrize("name", BAD_CHATS)
def test_bad_input_is_told(served: Served, name: str) -> None:
    body, text = BAD_CHATS[name]
    valid = {"model": "headwater", "messages": [{"role": "user", "content": "a"}]}
    response = httpx.post(
        f"{served[0]}/v1/chat/completions",
        content=json.dumps(valid | body),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert text in error["message"]
    assert error["type"] == "invalid_request_error"


def test_neutral_parameters_are_taken(served: Served) -> None:
    neutral = {"n": 1, "top_p": 1.0, "tools": [], "presence_penalty": 0, "user": "me",
               "metadata": {"a": "b"}, "logit_bias": None, "max_tokens": 1}  # fmt: skip
    assert chat(served[0], **neutral).status_code == 200
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "bread?"}]
    assert chat(served[0], **_user(parts), max_tokens=1).status_code == 200


def test_a_prompt_that_cannot_fit_is_the_clients_fault(served: Served, origin: Settings) -> None:
    response = chat(served[0], **_user("\N{SNOWMAN} " * 3_900))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert logged(origin, response.headers["X-Headwater-Trace"])["status"] == "error"


def test_stop_texts_end_the_answer(served: Served) -> None:
    whole = chat(served[0], max_tokens=24).json()["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 :][:4]
    cut = chat(served[0], max_tokens=24, stop=stop).json()["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)].rstrip()
    assert cut["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/nothing", b"", 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b" " * (5 * 2**20), 413),
        ("POST", "/v1/embeddings", b'{"input": []}', 400),
        ("POST", "/v1/embeddings", b'{"input": [[1, 2]]}', 400),
        ("POST", "/v1/embeddings", b'{"input": "a", "dimensions": 3}', 400),
        ("POST", "/v1/embeddings", b'{"input": ["a", " "]}', 400),
        ("POST", "/v1/embeddings", json.dumps({"input": "a " * 300}).encode(), 400),
    ],
)
def test_errors_are_in_openais_format(
    served: Served, method: str, path: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    response = httpx.request(method, served[0] + path, content=body, headers=headers)
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_other_names_for_this_machine_are_refused(served: Served) -> None:
    response = httpx.get(f"{served[0]}/readyz", headers={"Host": "evil.example"})
    assert response.status_code == 400


def test_metrics_tell_what_was_done(served: Served) -> None:
    chat(served[0], max_tokens=2)
    text = httpx.get(f"{served[0]}/metrics").text
    samples = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if not line.startswith("#")
    }
    assert samples['headwater_requests_total{outcome="ok",route="chat"}'] >= 1
    assert samples['headwater_tokens_total{kind="completion"}'] >= 2
    assert samples["headwater_request_seconds_count"] >= 1
    assert samples["headwater_first_token_seconds_count"] >= 1
    assert samples["headwater_in_flight"] == 0
    assert samples[f'headwater_release_info{{release="{served[1].id}"}}'] == 1
    assert all(line.startswith(("headwater_", "#")) for line in text.splitlines())


def test_our_client_asks(served: Served) -> None:
    reply = ask(served[0], QUESTION)
    assert set(reply) == {"answer", "citations", "release", "trace"}
    assert reply["release"] == served[1].id
    with pytest.raises(EndpointError, match="at most 8000"):
        ask(served[0], "a" * 9_000)
    with pytest.raises(EndpointError, match="does not answer"):
        ask("http://127.0.0.1:9", QUESTION)


@pytest.fixture(scope="module")
def narrow(
    origin: Settings, make_release: Callable[..., Release], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Settings]]:
    """An endpoint that takes one request at a time, and gives long answers."""
    home = copy_home(origin, tmp_path_factory.mktemp("narrow"))
    promote(home, make_release(home))
    limits = Limits(workers=1, waiting=0, answer_tokens=1_600, embeddings_waiting=0)
    with serve_in_thread(home, limits=limits) as url:
        yield url, home


LONG = {"messages": [MESSAGE], "max_tokens": 1_600}


def until_taken(url: str, **body: Any) -> httpx.Response:
    """Ask until the one place is free."""
    until = time.monotonic() + 10
    while (reply := chat(url, **body)).status_code == 429 and time.monotonic() < until:
        time.sleep(0.02)
    return reply


def test_a_client_that_leaves_ends_the_generation(narrow: tuple[str, Settings]) -> None:
    url, home = narrow
    until_taken(url, max_tokens=1)
    chats = f"{url}/v1/chat/completions"
    with httpx.stream("POST", chats, json=LONG | {"stream": True}, timeout=60) as response:
        chunks = response.iter_text()
        next(chunks)
        next(chunks)
    row = logged(home, response.headers["X-Headwater-Trace"])
    assert row["status"] == "aborted"
    assert row["answer"]
    assert 0 < row["completion_tokens"] < 1_600
    assert until_taken(url, max_tokens=1).status_code == 200


def test_a_client_that_leaves_before_the_answer_ends_it_too(narrow: tuple[str, Settings]) -> None:
    url, home = narrow
    until_taken(url, max_tokens=1)
    before = aborted(url)
    body = LONG | {"messages": [{"role": "user", "content": "Is this ever answered?"}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=body, timeout=0.15)
    assert until_taken(url, max_tokens=1).status_code == 200
    rows = read_requests(home, datetime.now(UTC).date().isoformat()).rows
    (row,) = [row for row in rows if row["question"] == "Is this ever answered?"]
    assert row["status"] == "aborted"
    assert row["completion_tokens"] < 1_600
    assert aborted(url) == before + 1


def aborted(url: str) -> float:
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith('headwater_requests_total{outcome="aborted",route="chat"}'):
            return float(line.split()[-1])
    return 0.0


def test_a_full_queue_tells_when_to_come_back(narrow: tuple[str, Settings]) -> None:
    url, _ = narrow
    until_taken(url, max_tokens=1)
    chats = f"{url}/v1/chat/completions"
    with httpx.stream("POST", chats, json=LONG | {"stream": True}, timeout=60) as response:
        chunks = response.iter_text()
        next(chunks)
        refused = chat(url, max_tokens=1)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"
    assert until_taken(url, max_tokens=1).status_code == 200


def test_an_answer_that_cannot_be_logged_is_not_given(
    narrow: tuple[str, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = narrow
    until_taken(url, max_tokens=1)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("headwater.serving.durable_log.os.write", full)
    whole = chat(url, max_tokens=2)
    assert whole.status_code == 500
    assert "request log" in whole.json()["error"]["message"]
    streamed = until_taken(url, max_tokens=2, stream=True)
    assert "[DONE]" not in streamed.text
    assert "request log" in streamed.text
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        create = client.chat.completions.create
        with pytest.raises(openai.APIError, match="request log"):
            list(create(model="headwater", messages=[MESSAGE], stream=True))
    monkeypatch.undo()
    assert until_taken(url, max_tokens=2).status_code == 200


def test_many_clients_at_once(served: Served, origin: Settings) -> None:
    traces: list[str] = []

    def one(number: int) -> None:
        reply = chat(served[0], **_user(f"Question {number}?"), max_tokens=4)
        assert reply.status_code == 200
        traces.append(reply.headers["X-Headwater-Trace"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(traces)) == 12
    questions = {logged(origin, trace)["question"] for trace in traces}
    assert questions == {f"Question {number}?" for number in range(12)}


def test_nothing_of_a_request_stays_behind(served: Served, origin: Settings) -> None:
    chat(served[0], max_tokens=1)
    (path,) = Path(log_folder(origin) / datetime.now(UTC).date().isoformat()).glob("*.jsonl")
    assert path.stat().st_mode & 0o077 == 0
