"""Pairs of answers for people to choose between: the logged one, and one sampled anew.

Knows the deployment, the logs and the lake; which question comes first is `datasets.queue`'s
business. Everything kept in memory is bounded; what a rater says goes to the feedback log.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headwater.datasets import queue
from headwater.datasets.golden import read_golden
from headwater.datasets.queue import Candidate
from headwater.lake import Lake
from headwater.records import Hit, digest_of
from headwater.serving.answer import Decoding, Response, Turn
from headwater.serving.durable_log import LogTail
from headwater.serving.feedback_log import Preferred, feedback_row, log_folder
from headwater.serving.recent import RecentTraces
from headwater.serving.runtime import Runtime
from headwater.serving.swap import Deployment
from headwater.settings import Settings

Choice = Literal["a", "b", "same", "skip"]
#: Of the second answer; its seed differs from the logged answer's.
TEMPERATURE, ANSWER_TOKENS = 0.7, 128
#: Answers that are looked at, the newest.
_LOOKED_AT = 500
#: Seeds tried until the second answer differs; then the next question is taken.
_SEEDS, _QUESTIONS = 2, 3
#: Pairs that are remembered; seconds in which one can be rated, and in which nobody else is asked.
_OUT, _OPEN, _RESERVED = 256, 3600.0, 600.0
#: Questions in a round of the queue, and questions labelled lately that none of them may be like.
_ROUND, _ASKED = 64, 64
#: Traces and texts that are remembered, of each kind.
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One question with two answers; `rival_is_a` tells which side the second answer is on."""

    id: str
    row: dict[str, Any]  # of the request
    rival: str
    rival_release: str
    rival_is_a: bool
    passages: tuple[Hit, ...]
    given: float  # monotonic seconds

    @property
    def sides(self) -> tuple[str, str]:
        """Answers A and B."""
        both = (self.rival, self.row["answer"])
        return both if self.rival_is_a else (both[1], both[0])

    def preferred(self, choice: Choice) -> Preferred:
        """What a choice between the sides says of the logged answer."""
        if choice in ("a", "b"):
            return "rival" if (choice == "a") == self.rival_is_a else "answer"
        return "equal" if choice == "same" else "skip"


class RatingDesk:
    """Hands out pairs. `next` is for one thread at a time; the rest is safe from several."""

    def __init__(self, settings: Settings, deployment: Deployment, recent: RecentTraces) -> None:
        self._settings, self._deployment, self._recent = settings, deployment, recent
        self._tail = LogTail(log_folder(settings))
        self._lock = threading.Lock()
        self._pairs: OrderedDict[str, Pair] = OrderedDict()
        self._labelled: OrderedDict[str, None] = OrderedDict()
        self._disliked: OrderedDict[str, None] = OrderedDict()
        self._texts: OrderedDict[str, str | None] = OrderedDict()
        self._vectors: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()

    def next(self) -> tuple[Pair, int] | None:
        """The pair most worth a rating, and how many questions wait behind it; None without any.

        Raises:
            NotReadyError: no release is loaded.
        """
        self._catch_up()
        with self._deployment.lease() as runtime:
            waiting = self._waiting(runtime)
            for at, row in enumerate(waiting[:_QUESTIONS], start=1):
                pair = self._pair(runtime, row)
                if pair is not None:
                    return pair, len(waiting) - at
        return None

    def find(self, pair_id: str) -> Pair | None:
        """A pair that was handed out in the last hour, or None."""
        with self._lock:
            pair = self._pairs.get(pair_id)
        return pair if pair is not None and time.monotonic() - pair.given < _OPEN else None

    def _catch_up(self) -> None:
        """Learn from the log what was labelled and disliked."""
        for _, _, line in self._tail.new_lines():
            row = feedback_row(line)
            if row is None:
                continue
            if row["preferred"] is not None or row["correction"] is not None:
                _remember(self._labelled, row["trace"], None)
            elif row["thumb"] == "down":
                _remember(self._disliked, row["trace"], None)

    def _waiting(self, runtime: Runtime) -> list[dict[str, Any]]:
        """Rows of the questions to ask, the most worth first."""
        with self._lock:
            out = [p.row for p in self._pairs.values() if time.monotonic() - p.given < _RESERVED]
        latest = [self._recent.find(trace) for trace in list(self._labelled)[-_ASKED:]]
        asked = [row["question"] for row in [*out, *latest] if row is not None]
        without = {*self._labelled, *(row["trace"] for row in out)}
        rows = self._recent.answered(_LOOKED_AT, without=without)
        lake = Lake(self._settings.lake)
        self._read_texts(lake, {chunk for row in rows for chunk in row["chunk_ids"]})
        by_trace = {row["trace"]: row for row in rows}
        candidates = [each for each in map(self._candidate, rows) if each.passages]
        chosen = queue.most_worth(
            candidates,
            golden=read_golden(lake),
            encode=lambda questions: self._encode(runtime, questions),
            limit=_ROUND,
            asked=list(dict.fromkeys(asked)),
        )
        return [by_trace[each.id] for each in chosen]

    def _candidate(self, row: dict[str, Any]) -> Candidate:
        texts = (self._texts.get(chunk) for chunk in row["chunk_ids"])
        return Candidate(
            id=row["trace"],
            question=row["question"],
            answer=row["answer"],
            scores=tuple(row["scores"]),
            passages=tuple(text for text in texts if text is not None),
            disliked=row["trace"] in self._disliked,
        )

    def _read_texts(self, lake: Lake, chunks: set[str]) -> None:
        """Look up passages that are not known yet; None for one that the lake no longer has."""
        unknown = sorted(chunks - self._texts.keys())
        if not unknown:
            return
        found = lake.read("document_shards", columns=["id", "text"], where={"id": unknown})
        texts = dict(zip(*found.to_pydict().values(), strict=True))
        for chunk in unknown:
            _remember(self._texts, chunk, texts.get(chunk))

    def _encode(self, runtime: Runtime, questions: Sequence[str]) -> npt.NDArray[np.float32]:
        key = runtime.release.embedding_model
        new = [q for q in dict.fromkeys(questions) if f"{key} {q}" not in self._vectors]
        known = {q: self._vectors[f"{key} {q}"] for q in questions if q not in new}
        if new:
            known.update(zip(new, runtime.encoder.encode(new), strict=True))
        for question, vector in known.items():
            _remember(self._vectors, f"{key} {question}", vector)
        return np.stack([known[question] for question in questions])

    def _pair(self, runtime: Runtime, row: dict[str, Any]) -> Pair | None:
        """A pair for a request, or None where no second answer differs from the first."""
        for seed in range(1, _SEEDS + 1):
            decoding = Decoding(
                max_tokens=ANSWER_TOKENS,
                temperature=TEMPERATURE,
                seed=int(digest_of(row["trace"], seed)[:8], 16),
            )
            turns = [Turn(role="user", content=row["question"])]
            response = Response(runtime, turns, decoding)
            for _ in response:
                pass
            if response.refused:
                break
            if response.text and response.text.split() != row["answer"].split():
                return self._hand_out(row, response, runtime.id)
        _remember(self._labelled, row["trace"], None)
        return None

    def _hand_out(self, row: dict[str, Any], response: Response, release: str) -> Pair:
        pair = Pair(
            id=secrets.token_hex(16),
            row=row,
            rival=response.text,
            rival_release=release,
            rival_is_a=secrets.randbelow(2) == 0,
            passages=tuple(response.hits),
            given=time.monotonic(),
        )
        with self._lock:
            _remember(self._pairs, pair.id, pair, _OUT)
        return pair


def _remember(memory: OrderedDict[str, Any], key: str, value: Any, most: int = _REMEMBERED) -> None:
    """Keep a value as the newest, and forget the oldest beyond `most`."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > most:
        memory.popitem(last=False)
