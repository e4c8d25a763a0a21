"""The engine: greedy and repeatable, adapters by request, streams that can be broken off."""

import socket
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import pytest

from headwater.base_model import BaseModel
from headwater.engine import Engine, EngineError, TokenStream

PROMPT = "<|im_start|>user\nWhat is a snowman?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def adapter(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of random weights, large enough to change every answer."""
    import gguf

    random = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("adapter") / "adapter.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for layer in range(base.layers):
        name = f"blk.{layer}.ffn_down.weight"
        for part, shape in (("lora_a", (4, 128)), ("lora_b", (base.hidden, 4))):
            writer.add_tensor(f"{name}.{part}", random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def engine(base: BaseModel, adapter: Path) -> Iterator[Engine]:
    with Engine(base.engine, adapter, threads=2, context=512) as engine:
        yield engine


def test_equal_requests_give_equal_answers(engine: Engine) -> None:
    answers = {engine.complete(PROMPT, max_tokens=16, cache_prompt=False).text for _ in range(3)}
    assert len(answers) == 1


def test_an_answer_tells_its_cost(engine: Engine) -> None:
    answer = engine.complete(PROMPT, max_tokens=5, cache_prompt=False)
    assert answer.completion_tokens == 5
    assert answer.finish_reason == "length"
    assert answer.prompt_ms > 0


@pytest.mark.parametrize(
    "text",
    [
        "It's 2024, don't\tsay 3.14!",
        "naïve — ünï 日本語 🎉",
        "x == 1;\n\n  def f(_a):  #",
        "12345,678",
    ],
)
def test_tokens_are_counted_as_the_engine_reads_them(engine: Engine, text: str) -> None:
    prompt = PROMPT.replace("What is a snowman?", text)
    assert engine.complete(prompt, max_tokens=1).prompt_tokens == engine.count_tokens(prompt)


def test_a_seed_repeats_a_sample(engine: Engine) -> None:
    def sample(seed: int) -> str:
        return engine.complete(
            PROMPT, max_tokens=12, temperature=1.0, seed=seed, cache_prompt=False
        ).text

    assert sample(1) == sample(1) != sample(2)


def test_a_stop_text_ends_the_answer(engine: Engine) -> None:
    whole = engine.complete(PROMPT, max_tokens=12, cache_prompt=False).text
    stop = whole[len(whole) // 2 :].split()[0]
    cut = engine.complete(PROMPT, max_tokens=12, stop=[stop], cache_prompt=False)
    assert cut.finish_reason == "stop"
    assert cut.text == whole[: whole.index(stop)]


def test_the_adapter_is_a_choice_of_each_request(engine: Engine, base: BaseModel) -> None:
    with Engine(base.engine, threads=2, context=512) as bare:
        plain = bare.complete(PROMPT, max_tokens=12, cache_prompt=False).text
    without = engine.complete(PROMPT, max_tokens=12, adapter=False, cache_prompt=False).text
    adapted = engine.complete(PROMPT, max_tokens=12, adapter=True, cache_prompt=False).text
    assert without == plain
    assert adapted != plain


def test_a_stream_is_the_answer_in_pieces(engine: Engine) -> None:
    whole = engine.complete(PROMPT, max_tokens=12, cache_prompt=False)
    stream = engine.stream(PROMPT, max_tokens=12, cache_prompt=False)
    pieces = list(stream)
    assert "".join(pieces) == whole.text
    assert len(pieces) > 3
    assert stream.completion is not None
    assert stream.completion.text == whole.text
    assert stream.completion.completion_tokens == 12
    assert stream.completion.finish_reason == "length"


def test_a_stream_that_is_left_ends_its_generation(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = []
    receive = TokenStream._receive

    def counting(stream: TokenStream, chunk: dict[str, object]) -> bool:
        received.append(chunk)
        return receive(stream, chunk)

    monkeypatch.setattr(TokenStream, "_receive", counting)
    stream = engine.stream(PROMPT, max_tokens=400)
    pieces = cast("Generator[str, None, None]", iter(stream))
    next(pieces)
    pieces.close()
    assert stream.completion is not None
    assert stream.completion.finish_reason == "cancelled"
    assert not stream._thread.is_alive()
    assert len(received) < 300
    assert engine.complete(PROMPT, max_tokens=4).completion_tokens == 4


def test_a_stream_nobody_reads_can_be_closed(engine: Engine) -> None:
    stream = engine.stream(PROMPT, max_tokens=400)
    time.sleep(0.1)
    stream.close()
    stream._thread.join(timeout=20)
    assert not stream._thread.is_alive()


def test_requests_of_many_threads_get_their_own_answers(engine: Engine) -> None:
    prompts = [PROMPT.replace("snowman", word) for word in ("river", "clock", "bee", "loaf")]
    alone = [engine.complete(p, max_tokens=8, cache_prompt=False).text for p in prompts]
    together: dict[int, str] = {}

    def ask(index: int) -> None:
        answer = engine.complete(prompts[index], max_tokens=8, cache_prompt=False)
        together[index] = answer.text

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(len(prompts))] == alone


@pytest.mark.parametrize("streamed", [False, True])
def test_a_prompt_that_is_too_long_is_refused(engine: Engine, streamed: bool) -> None:
    with pytest.raises(EngineError, match="Shorten"):
        if streamed:
            list(engine.stream("a " * 900, max_tokens=4))
        else:
            engine.complete("a " * 900, max_tokens=4)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    with pytest.raises(EngineError, match="cannot load"):
        Engine(tmp_path / "bad.gguf", threads=1)
    with pytest.raises(EngineError, match="no model file"):
        Engine(tmp_path / "missing.gguf", threads=1)


def listening_ports() -> set[int]:
    return {
        connection.laddr.port
        for connection in psutil.Process().net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN and connection.type == socket.SOCK_STREAM
    }


def test_nothing_listens_on_a_port(base: BaseModel) -> None:
    before = listening_ports()
    with Engine(base.engine, threads=1, context=256) as engine:
        engine.complete(PROMPT, max_tokens=1)
        assert listening_ports() <= before


def test_a_closed_engine_refuses_and_leaves_no_files(base: BaseModel) -> None:
    engine = Engine(base.engine, threads=1)
    private = Path(engine._private.name)
    assert private.stat().st_mode & 0o077 == 0
    engine.close()
    assert not private.exists()
    with pytest.raises(EngineError, match="closed"):
        engine.complete(PROMPT, max_tokens=1)


def test_closing_waits_for_the_running_request(base: BaseModel) -> None:
    engine = Engine(base.engine, threads=1, context=512)
    stream = engine.stream(PROMPT, max_tokens=200)
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert len("".join(stream)) > 0
    closing.join(timeout=20)
    assert not closing.is_alive()
    assert stream.completion is not None
    assert stream.completion.completion_tokens == 200


def test_the_time_the_engine_works_for_a_request_is_without_the_wait(engine: Engine) -> None:
    started = time.perf_counter()
    streams = [engine.stream(PROMPT, max_tokens=24, cache_prompt=False) for _ in range(3)]
    threads = [threading.Thread(target=list, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = (time.perf_counter() - started) * 1000
    assert all(stream.busy_ms > 0 for stream in streams)
    assert sum(stream.busy_ms for stream in streams) <= whole


def test_a_stream_that_waits_for_its_turn_leaves_at_its_deadline(engine: Engine) -> None:
    first = iter(engine.stream(PROMPT, max_tokens=400))
    next(first)
    late = engine.stream(PROMPT, max_tokens=400, until=time.perf_counter() + 0.1)
    assert list(late) == []
    assert late.is_late
    assert late.completion is not None
    assert late.completion.completion_tokens == 0
    assert not late._thread.is_alive()
    cast("Generator[str, None, None]", first).close()
    soon = engine.stream(PROMPT, max_tokens=4, until=time.perf_counter() + 60)
    assert len("".join(soon)) > 0
    assert not soon.is_late
