"""One question to one answer: retrieve, prompt, generate, cite.

Knows a loaded release, not HTTP, releases' files or the log.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import cast

from headwater.datasets.citations import rank_citations
from headwater.datasets.prompt import chat_text, fit, render
from headwater.engine import STOP
from headwater.errors import HeadwaterError
from headwater.records import Hit
from headwater.serving.runtime import Runtime

#: Said where no passage was found: the model is not asked, so it cannot invent.
REFUSAL = "The indexed documents say nothing about this."


class PromptTooLongError(HeadwaterError):
    """The question alone leaves no room for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation: role "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How to generate; the defaults are those of the evaluation, save its shorter answers."""

    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()


class Response:
    """An answer in the making. Iterate over it once for its pieces; they join to `text`.

    The attributes tell what is known so far, so an answer that was broken off can still be logged.
    Passages are retrieved for the last turn, which is the user's; earlier turns are shown to the
    model as far as they fit.

    Attributes:
        hits: passages that the prompt shows, best first.
        citations: the same passages, ordered by how much of the answer each holds.
        refused: nothing was found, and `text` is `REFUSAL`.
        finish_reason: "stop" or "length"; "cancelled" where iteration was broken off.
    """

    def __init__(self, runtime: Runtime, turns: Sequence[Turn], decoding: Decoding) -> None:
        self._runtime, self._turns, self._decoding = runtime, turns, decoding
        self.text = ""
        self.hits: list[Hit] = []
        self.citations: list[Hit] = []
        self.refused = False
        self.finish_reason = "cancelled"
        self.prompt_tokens = self.completion_tokens = 0
        self.retrieve_ms = self.generate_ms = 0.0

    def __iter__(self) -> Iterator[str]:
        question = self._turns[-1].content
        started = time.perf_counter()
        self.hits = self._retrieve(question)
        self.retrieve_ms = _ms_since(started)
        if not self.hits:
            self.refused, self.text, self.finish_reason = True, REFUSAL, "stop"
            yield REFUSAL
            return
        prompt = self._prompt(question)
        with closing(self._generate(prompt)) as pieces:
            for piece in pieces:
                self.text += piece
                yield piece
        self.citations = rank_citations(self.text, self.hits)

    def _retrieve(self, question: str) -> list[Hit]:
        prompt, engine = self._runtime.release.prompt, self._runtime.engine
        hits = self._runtime.retriever.passages(question, limit=prompt.top_k)

        def count(texts: Sequence[str]) -> list[int]:
            return [engine.count_tokens(text) for text in texts]

        return fit(hits, count, prompt.max_context_tokens)

    def _prompt(self, question: str) -> str:
        """The prompt as training and evaluation write it, with as many earlier turns as fit.

        Raises:
            PromptTooLongError: it does not fit without any.
        """
        engine, prompt = self._runtime.engine, self._runtime.release.prompt
        *head, last = render(prompt, question, self.hits)
        earlier = [{"role": turn.role, "content": turn.content} for turn in self._turns[:-1]]
        room = engine.context - self._decoding.max_tokens
        while (tokens := engine.count_tokens(text := chat_text([*head, *earlier, last]))) > room:
            if not earlier:
                raise PromptTooLongError(
                    f"The prompt has {tokens} tokens and {room} fit beside the answer.",
                    mend="Shorten the question, or ask for fewer tokens.",
                )
            earlier = earlier[1:]
        return text

    def _generate(self, prompt: str) -> Generator[str, None, None]:
        decoding = self._decoding
        # No reuse of the last request's prefix: it would let one request's numbers depend on
        # another's, and a trace could not be answered again bit by bit.
        stream = self._runtime.engine.stream(
            prompt,
            max_tokens=decoding.max_tokens,
            temperature=decoding.temperature,
            seed=decoding.seed,
            stop=[*STOP, *decoding.stop],
            cache_prompt=False,
        )
        pieces = cast("Generator[str, None, None]", iter(stream))
        started = time.perf_counter()
        try:
            yield from _without_margins(pieces)
        finally:
            pieces.close()  # where the reader broke off: ends the generation, and waits for it
            self.generate_ms = _ms_since(started)
            if stream.completion is not None:
                self.finish_reason = stream.completion.finish_reason
                self.prompt_tokens = stream.completion.prompt_tokens
                self.completion_tokens = stream.completion.completion_tokens


def _without_margins(pieces: Iterator[str]) -> Iterator[str]:
    """The pieces of a text without whitespace at its start and end; none is empty."""
    held = ""
    begun = False
    for piece in pieces:
        held += piece if begun else piece.lstrip()
        ready = held.rstrip()
        if ready:
            begun = True
            held = held[len(ready) :]
            yield ready


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
