"""One question to one answer: guard, retrieve, prompt, generate, guard, cite.

Knows a loaded release, not HTTP, releases' files or the log.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from headwater.datasets.citations import rank_citations
from headwater.datasets.prompt import chat_text, fit, render
from headwater.embeddings.retrieve import Found
from headwater.engine import STOP
from headwater.errors import HeadwaterError
from headwater.guardrails.decisions import Decision, told
from headwater.guardrails.guard import AnswerFilter, CheckedQuestion
from headwater.records import Hit
from headwater.serving import spans
from headwater.serving.openai_types import MODEL
from headwater.serving.runtime import Runtime

#: Said where no passage was found: the model is not asked, so it cannot invent.
REFUSAL = "The indexed documents say nothing about this."


class PromptTooLongError(HeadwaterError):
    """The question alone leaves no room for an answer."""


class DeadlineError(HeadwaterError):
    """A request's deadline passed before there was anything of its answer."""


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

    Args:
        stages: told of each stage, for a trace.
        until: a moment of `time.perf_counter` after which nothing more is done: the answer ends
            with what there is, and iteration raises `DeadlineError` where that is nothing.

    Attributes:
        hits: passages that the prompt shows, best first.
        citations: the same passages, ordered by how much of the answer each holds.
        refused: nothing was found or a guard refuses, and `text` says so; the model was not asked.
        finish_reason: "stop" or "length"; "content_filter" where a guard refused the question's
            wording; "cancelled" where iteration was broken off.
        is_late: the deadline has ended the answer; `finish_reason` is then "length".
        decisions: what each guard has decided.
        guard_ms: time in the guards of "question", "documents" and "answer".
        generate_ms: from the prompt to the last token; the part in which the engine was at work
            on this answer, and not on one before it, is `engine_ms`.
    """

    def __init__(
        self,
        runtime: Runtime,
        turns: Sequence[Turn],
        decoding: Decoding,
        *,
        stages: spans.Stages | None = None,
        until: float = math.inf,
    ) -> None:
        self._runtime, self._turns, self._decoding = runtime, turns, decoding
        self._until = until
        self.is_late = False
        self.text = ""
        self.hits: list[Hit] = []
        self.citations: list[Hit] = []
        self.refused = False
        self.finish_reason = "cancelled"
        self.prompt_tokens = self.completion_tokens = 0
        self.retrieve_ms = self.prompt_ms = self.generate_ms = self.engine_ms = 0.0
        self._stages = stages or spans.Untraced()
        self.decisions: tuple[Decision, ...] = ()
        self.guard_ms = {"question": 0.0, "documents": 0.0, "answer": 0.0}

    @property
    def question(self) -> str:
        """The question as it may be stored: personal data is redacted."""
        return self._checked.logged

    def __iter__(self) -> Iterator[str]:
        checked = self._checked
        self.decisions = checked.decisions
        if checked.refusal is not None:
            yield self._refuse(checked.refusal, "content_filter")
            return
        found = self._retrieve(checked.asked)
        refusal, shown = self._check_documents(found)
        prompt = None if refusal else self._compose(checked.asked, shown)
        if prompt is None:
            yield self._refuse(refusal or REFUSAL, "stop")
            return
        if time.perf_counter() >= self._until:
            raise deadline_error()
        filter_ = self._runtime.guard.answer(self.hits)
        before = self.decisions
        started = time.perf_counter()
        try:
            with closing(self._generate(prompt)) as pieces:
                for piece in _without_margins(filter_.apply(pieces)):
                    self.text += piece
                    self._note_answer(before, filter_)
                    yield piece
        finally:
            self._note_answer(before, filter_)
            about = {**_acted(filter_.decisions), "headwater.busy_ms": filter_.ms}
            self._stages.past("guard.answer", started, about)
        if self.is_late and not self.text:
            raise deadline_error()
        self.citations = rank_citations(self.text, self.hits)

    @cached_property
    def _checked(self) -> CheckedQuestion:
        started = time.perf_counter()
        with self._stages.span("guard.question") as note:
            checked = self._runtime.guard.question(self._turns[-1].content)
            note(_acted(checked.decisions))
        self.guard_ms["question"] = _ms_since(started)
        return checked

    def _retrieve(self, question: str) -> Found:
        started = time.perf_counter()
        with self._stages.span("retrieve") as note:
            limit = self._runtime.release.prompt.top_k
            found = self._runtime.retriever.find(question, limit=limit)
            note(
                {
                    spans.OPERATION: "retrieval",
                    "headwater.chunks": [hit.id for hit in found.hits],
                    "headwater.scores": [hit.score for hit in found.hits],
                    "headwater.similarity": float(found.similarity),
                }
            )
            if found.rerank_ms is not None:
                note({"headwater.rerank_ms": found.rerank_ms})
        self.retrieve_ms = _ms_since(started)
        return found

    def _refuse(self, text: str, finish_reason: str) -> str:
        self.refused, self.text, self.finish_reason = True, text, finish_reason
        return text

    def _check_documents(self, found: Found) -> tuple[str | None, list[Hit]]:
        """A refusal where the index holds nothing on it, and the passages that may be shown."""
        guard = self._runtime.guard
        started = time.perf_counter()
        with self._stages.span("guard.documents") as note:
            # What a later question is about, the turns before it tell, which retrieval does not read.
            refusal, off_topic = guard.topic(found.similarity) if self._is_first else (None, ())
            checked = guard.passages(found.hits)
            decisions = (*off_topic, *checked.decisions)
            note(_acted(decisions))
        self.guard_ms["documents"] = _ms_since(started)
        self.decisions += decisions
        return refusal, checked.shown

    def _compose(self, question: str, shown: Sequence[Hit]) -> str | None:
        """Choose the passages that fit and write the prompt; None where there is no passage."""
        engine, prompt = self._runtime.engine, self._runtime.release.prompt
        started = time.perf_counter()

        def count(texts: Sequence[str]) -> list[int]:
            return [engine.count_tokens(text) for text in texts]

        try:
            with self._stages.span("prompt") as note:
                self.hits = fit(shown, count, prompt.max_context_tokens)
                note({"headwater.chunks": [hit.id for hit in self.hits]})
                return self._prompt(question) if self.hits else None
        finally:
            self.prompt_ms = _ms_since(started)

    @property
    def _is_first(self) -> bool:
        return all(turn.role == "system" for turn in self._turns[:-1])

    def _note_answer(self, before: tuple[Decision, ...], filter_: AnswerFilter) -> None:
        self.decisions = (*before, *filter_.decisions)
        self.guard_ms["answer"] = filter_.ms

    def _prompt(self, question: str) -> str:
        """The prompt as training and evaluation write it, with as many earlier turns as fit.

        Raises:
            PromptTooLongError: it does not fit without any.
        """
        engine, prompt = self._runtime.engine, self._runtime.release.prompt
        *head, last = render(prompt, question, self.hits)
        earlier = self._earlier()
        room = engine.context - self._decoding.max_tokens
        while (tokens := engine.count_tokens(text := chat_text([*head, *earlier, last]))) > room:
            if not earlier:
                raise PromptTooLongError(
                    f"The prompt has {tokens} tokens and {room} fit beside the answer.",
                    mend="Shorten the question, or ask for fewer tokens.",
                )
            earlier = earlier[1:]
        self.prompt_tokens = tokens  # the engine tells only of what it has ended itself
        return text

    def _earlier(self) -> list[dict[str, str]]:
        """The turns before the question, without those of the user that a guard refuses."""
        texts = [
            self._runtime.guard.earlier(turn.content) if turn.role == "user" else turn.content
            for turn in self._turns[:-1]
        ]
        return [
            {"role": turn.role, "content": text}
            for turn, text in zip(self._turns, texts, strict=False)
            if text is not None
        ]

    def _generate(self, prompt: str) -> Generator[str, None, None]:
        decoding = self._decoding
        with self._stages.span("generate") as note:
            note(
                {
                    spans.OPERATION: "chat",
                    spans.PROVIDER: MODEL,
                    spans.REQUEST_MODEL: MODEL,
                    spans.RESPONSE_MODEL: self._runtime.id,
                    spans.REQUEST_MAX_TOKENS: decoding.max_tokens,
                    spans.REQUEST_TEMPERATURE: decoding.temperature,
                    spans.REQUEST_SEED: decoding.seed,
                }
            )
            # No reuse of the last request's prefix: it would let one request's numbers depend on
            # another's, and a trace could not be answered again bit by bit.
            stream = self._runtime.engine.stream(
                prompt,
                max_tokens=decoding.max_tokens,
                temperature=decoding.temperature,
                seed=decoding.seed,
                stop=[*STOP, *decoding.stop],
                cache_prompt=False,
                until=self._until,
            )
            pieces = cast("Generator[str, None, None]", iter(stream))
            started = time.perf_counter()
            try:
                yield from pieces
            finally:
                pieces.close()  # where the reader broke off: ends the generation, and waits for it
                self.generate_ms, self.engine_ms = _ms_since(started), stream.busy_ms
                if stream.completion is not None:
                    self.finish_reason = stream.completion.finish_reason
                    self.prompt_tokens = stream.completion.prompt_tokens or self.prompt_tokens
                    self.completion_tokens = stream.completion.completion_tokens
                if stream.is_late:
                    self.is_late, self.finish_reason = True, "length"
                note(
                    {
                        spans.FINISH_REASONS: [self.finish_reason],
                        spans.INPUT_TOKENS: self.prompt_tokens,
                        spans.OUTPUT_TOKENS: self.completion_tokens,
                        "headwater.engine_ms": self.engine_ms,
                    }
                )


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


def _acted(decisions: Sequence[Decision]) -> dict[str, spans.Attribute]:
    """What the guards did, as an attribute of a span."""
    return {"headwater.guard": told(decisions)}


def deadline_error() -> DeadlineError:
    """What a client reads whose deadline has passed."""
    return DeadlineError(
        "The request's deadline passed before its answer began.",
        mend="Give it more time, or ask when the endpoint has less to do.",
    )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
