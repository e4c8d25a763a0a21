"""Text generation by llama.cpp in this process, an adapter applied per request.

Knows prompts as strings and models as files; what a prompt says and where a model comes from is
the business of others. A caller verifies a file's digest before it is opened here.
"""

import math
import os
import queue
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError

#: Tokens of prompt and answer together that one request may have.
CONTEXT_TOKENS = 2048
#: Ends an assistant's turn in ChatML.
STOP = ("<|im_end|>",)
#: Pieces a slow reader may lag behind before generation waits for it.
_QUEUE = 256
#: Seconds between two looks whether a stream that waits for its turn has been closed.
_LOOK_SECONDS = 0.05
#: Turns a thread waits for the others before it sleeps. libgomp's default, minutes of spinning,
#: is 50 times slower than this where a build and the endpoint share the cores, and no faster
#: where they do not.
_SPIN = "1000"


class EngineError(HeadwaterError):
    """The engine could not load a model or refused a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One generated text with its cost; times in milliseconds.

    `finish_reason` is "stop" (the model ended its turn), "length" (`max_tokens` reached) or
    "cancelled" (a stream that was closed early; counts are then what was seen).
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    prompt_ms: float
    generate_ms: float
    finish_reason: str


def server_parameters(
    model_path: Path, adapter_path: Path | None, *, threads: int, context: int, parallel: int
) -> Any:
    """llama.cpp's settings for `Engine`, but for the address, which the caller sets."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN)  # read when the library loads
    os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE")  # else it is cut to a tenth; see settings.py
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model_path)
    params.model_alias = {"headwater"}
    params.n_ctx = context * parallel
    params.n_parallel = parallel
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads, cpu.poll = threads, 0
    params.n_gpu_layers = 0
    params.fit_params = False  # it would change n_ctx to fit memory; ours is a promise
    params.cache_ram_mib = 0  # prompts stay in the slot; the default keeps up to 8 GB of them
    params.verbosity = 0
    params.ui = params.endpoint_slots = params.endpoint_props = False
    if adapter_path is not None:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(adapter_path), 1.0
        params.lora_adapters = [lora]
    return params


class Engine:
    """A loaded model, with at most one adapter that each request takes or leaves.

    Thread-safe: requests beyond `parallel` wait for their turn. With `parallel=1` and
    temperature 0 equal requests give equal answers. Nothing listens on a port: llama.cpp's server
    insists on an address, so it gets a Unix socket in a private folder, removed by `close`.

    Args:
        model_path: a GGUF file.
        adapter_path: a GGUF LoRA adapter over that model, or None.
        threads: CPU threads of one request.
        context: tokens of prompt and answer together that one request may have.
        parallel: requests computed at the same time.

    Raises:
        EngineError: a file is missing or is not a model that llama.cpp can load.
    """

    def __init__(
        self,
        model_path: Path,
        adapter_path: Path | None = None,
        *,
        threads: int,
        context: int = CONTEXT_TOKENS,
        parallel: int = 1,
    ) -> None:
        for path in (model_path, adapter_path):
            if path is not None and not path.is_file():
                raise EngineError(
                    f"There is no model file {path}.", mend="Build the release again."
                )
        self.model_path, self.adapter_path = model_path, adapter_path
        self.context = context
        self._private = tempfile.TemporaryDirectory(prefix="headwater-engine-")
        params = server_parameters(
            model_path, adapter_path, threads=threads, context=context, parallel=parallel
        )
        params.hostnames = [str(Path(self._private.name) / "engine.sock")]
        import xllamacpp

        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            self._private.cleanup()
            raise EngineError(
                f"llama.cpp cannot load {model_path}"
                + (f" with {adapter_path}" if adapter_path else "")
                + f": {error}.",
                mend="Check that both are GGUF files of the same model.",
            ) from error
        # A server that is freed before its loop has begun hangs for ever: let it answer once.
        self._server.handle_completions({"prompt": "a", "n_predict": 1})
        # A turn a slot: llama.cpp's own queue cannot be left before the turn comes.
        self._turns = threading.Semaphore(parallel)
        self._running = 0
        self._left = 0.0  # when the last request ended
        self._idle = threading.Condition()
        self._tokenizer: Any = None

    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int,
        adapter: bool = True,
        seed: int = 0,
        temperature: float = 0.0,
        stop: Sequence[str] = STOP,
        cache_prompt: bool = True,
    ) -> Completion:
        """Generate an answer to a prompt that is already in ChatML.

        Args:
            prompt: the text, special tokens included, or its token ids.
            max_tokens: at most this many new tokens.
            adapter: apply the adapter, where the engine has one.
            seed: of sampling; matters above temperature 0.
            temperature: 0 is greedy.
            stop: texts that end the answer; they are not part of it.
            cache_prompt: reuse the common prefix with the slot's last prompt. Off where answers
                must not depend on what was asked before (the reuse moves floating-point sums).

        Raises:
            EngineError: the prompt is longer than the context, or a parameter is wrong.
        """
        body = self._body(
            adapter,
            prompt=prompt,
            n_predict=max_tokens,
            seed=seed,
            temperature=temperature,
            stop=list(stop),
            cache_prompt=cache_prompt,
        )
        entered = self._enter()
        try:
            with self._turns:
                answer = self._server.handle_completions(body)
        finally:
            self._leave(entered)
        return _completion(answer, text=_checked(answer)["choices"][0]["text"])

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int,
        adapter: bool = True,
        seed: int = 0,
        temperature: float = 0.0,
        stop: Sequence[str] = STOP,
        cache_prompt: bool = True,
        until: float = math.inf,
    ) -> "TokenStream":
        """Generate as `complete` does, piece by piece; closing the stream ends the generation.

        Args:
            until: a moment of `time.perf_counter` after which no more pieces come.
        """
        body = self._body(
            adapter,
            prompt=prompt,
            n_predict=max_tokens,
            seed=seed,
            temperature=temperature,
            stop=list(stop),
            cache_prompt=cache_prompt,
            stream=True,
        )
        return TokenStream(self, body, until)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text under the model's tokenizer, which lies beside the model's file."""
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(self.model_path.with_name("tokenizer.json")))
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def close(self) -> None:
        """Free the model once its last request has ended; further requests are refused."""
        with self._idle:
            self._idle.wait_for(lambda: self._running == 0)
            self._server = None
        self._private.cleanup()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _body(self, adapter: bool, **parameters: Any) -> dict[str, Any]:
        """llama.cpp's request: its parameters, and whether the adapter takes part."""
        if self.adapter_path is None:
            return parameters
        return {**parameters, "lora": [{"id": 0, "scale": 1.0 if adapter else 0.0}]}

    def _enter(self) -> float:
        with self._idle:
            if self._server is None:
                raise EngineError("The engine is closed.", mend="Open it again.")
            self._running += 1
        return time.perf_counter()

    def _leave(self, entered: float) -> float:
        """One request less; returns the seconds that the engine worked for it.

        One at a time, first come first served: its turn came when the one before it ended.
        """
        with self._idle:
            now = time.perf_counter()
            worked, self._left = now - max(entered, self._left), now
            self._running -= 1
            self._idle.notify_all()
        return worked


class TokenStream:
    """The pieces of one generation, as they come; `completion` is there once they have ended.

    Iterate over it in one thread; `close` may be called from any.

    Attributes:
        busy_ms: time the engine worked for it, without the wait for its turn; known at the end,
            and right where the engine computes one request at a time.
        is_late: its deadline has ended it.
    """

    def __init__(self, engine: Engine, body: dict[str, Any], until: float = math.inf) -> None:
        self.completion: Completion | None = None
        self.busy_ms = 0.0
        self.is_late = False
        self._until = until
        self._pieces: queue.Queue[dict[str, Any] | None] = queue.Queue(_QUEUE)
        self._cancelled = threading.Event()
        self._engine, self._body = engine, body
        self._entered = engine._enter()
        self._thread = threading.Thread(target=self._run, name="headwater-stream", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[str]:
        text, pieces = "", 0
        try:
            while (chunk := self._next()) is not None:
                choice = _checked(chunk)["choices"][0]
                if piece := choice["text"]:
                    text, pieces = text + piece, pieces + 1
                    yield piece
                if choice["finish_reason"]:
                    self.completion = _completion(chunk, text=text)
        finally:
            self.close()
            self._thread.join()
            if self.completion is None:
                self.completion = Completion(
                    text=text,
                    prompt_tokens=0,
                    completion_tokens=pieces,
                    prompt_ms=0.0,
                    generate_ms=0.0,
                    finish_reason="cancelled",
                )

    def _next(self) -> dict[str, Any] | None:
        """The next chunk, or None at the end and once the deadline has passed."""
        if self._until == math.inf or self.completion is not None:
            return self._pieces.get()
        try:
            if (left := self._until - time.perf_counter()) > 0:
                return self._pieces.get(timeout=left)
        except queue.Empty:
            pass  # it passed while we waited
        self.is_late = True
        return None

    def close(self) -> None:
        """End the generation at its next token, or before it begins; harmless where it has ended."""
        self._cancelled.set()

    def _run(self) -> None:
        turns = self._engine._turns
        try:
            while not turns.acquire(timeout=_LOOK_SECONDS):
                if self._cancelled.is_set():
                    return
            try:
                if not self._cancelled.is_set():
                    # Errors come back as the return value, all else through the callback.
                    last = self._engine._server.handle_completions(self._body, self._receive)
                    if last is not None:
                        self._put(last)
            finally:
                turns.release()
        finally:
            self.busy_ms = self._engine._leave(self._entered) * 1000
            self._put(None)

    def _receive(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk; True tells llama.cpp to stop."""
        self._put(chunk)
        return self._cancelled.is_set()

    def _put(self, chunk: dict[str, Any] | None) -> None:
        while True:
            try:
                self._pieces.put(chunk, timeout=0.05)
                return
            except queue.Full:
                if self._cancelled.is_set():
                    return


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, unless it is an error."""
    if error := answer.get("error"):
        mend = "Report this with the log."
        if error.get("type") == "exceed_context_size_error":
            mend = "Shorten the question or the context."
        raise EngineError(f"The engine refused the request: {error['message']}.", mend=mend)
    return answer


def _completion(answer: dict[str, Any], *, text: str) -> Completion:
    usage, timings = answer["usage"], answer["timings"]
    return Completion(
        text=text,
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        prompt_ms=timings["prompt_ms"],
        generate_ms=timings["predicted_ms"],
        finish_reason=answer["choices"][0]["finish_reason"],
    )
