"""What is compared of a request: a few numbers, its question's vector, where it was answered from.

Knows rows of `requests` and the lake's chunks, not how samples are compared. No question's text is
kept: a sample names its requests by their traces.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from headwater.lake import Lake
from headwater.records import digest_bytes, digest_of

#: Numbers of each request, in the order of a sample's columns. NaN where one is not known.
NUMBERS = (
    "question_characters",
    "question_words",
    "question_symbols",  # share of the characters that are neither letters nor spaces
    "top_score",  # fused score of the best passage; 0 where nothing was found
    "similarity",  # cosine of the question and the nearest passage shown
    "answer_characters",
    "grounded",  # share of the answer's words that the passages shown hold
    "refused",
    "thumb",  # 1 up, 0 down
)
_WORD = re.compile(r"\w{3,}")
_NO_SOURCE = "none"

Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Requests by what is compared of them; row i of every field is one request.

    Attributes:
        times: seconds since 1970, UTC.
        sources: of the best passage shown, "none" without one.
        numbers: float64, (n, len(NUMBERS)).
        vectors: of the questions, unit length, float16, (n, d): half the bytes, and three digits
            are more than a mean of questions has.
    """

    traces: npt.NDArray[np.str_]
    times: npt.NDArray[np.float64]
    releases: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_]
    numbers: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.traces)

    def take(self, rows: Any) -> Self:
        """Some of the requests, by index, slice or mask."""
        return type(self)(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def joined(self, other: Self) -> Self:
        """These requests and then the others."""
        both = {
            each.name: np.concatenate([getattr(self, each.name), getattr(other, each.name)])
            for each in fields(self)
        }
        return type(self)(**both)

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """One of `NUMBERS`, (n,)."""
        return self.numbers[:, NUMBERS.index(name)]

    @property
    def digest(self) -> str:
        """Names the requests and their features."""
        return digest_of(
            self.traces.tolist(),
            digest_bytes(self.numbers.tobytes()),
            digest_bytes(self.vectors.tobytes()),
        )

    def save(self, path: Path) -> None:
        """Write to a new file (not atomically: the caller publishes it by a name)."""
        with path.open("wb") as file:
            np.savez_compressed(
                file, **{each.name: getattr(self, each.name) for each in fields(self)}
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; nothing is unpickled."""
        with np.load(path, allow_pickle=False) as held:
            return cls(**{each.name: held[each.name] for each in fields(cls)})


def features(lake: Lake, rows: Sequence[Mapping[str, Any]], encode: Encode) -> Sample:
    """The features of rows of `requests`, n > 0; every question is encoded once.

    Args:
        encode: questions to unit vectors, (n, d).
    """
    vectors = encode([row["question"] for row in rows])
    chunks = _chunks(lake, {chunk for row in rows for chunk in row["chunk_ids"]})
    source_of = _sources(lake, {uri for row in rows for uri in row["uris"][:1]})
    thumbs = _thumbs(lake, [row["trace"] for row in rows])
    numbers = [
        [
            float(len(row["question"])),
            float(len(row["question"].split())),
            _symbols(row["question"]),
            # Nothing retrieved is the worst score there is, not a missing one.
            max(row["scores"], default=0.0),
            _similarity(vector, [chunks.get(chunk) for chunk in row["chunk_ids"]]),
            float(len(row["answer"])),
            _grounded(row["answer"], [chunks.get(chunk) for chunk in row["chunk_ids"]]),
            float(row["refused"]),
            thumbs.get(row["trace"], np.nan),
        ]
        for row, vector in zip(rows, vectors, strict=True)
    ]
    return Sample(
        traces=np.array([row["trace"] for row in rows], dtype=np.str_),
        times=np.array([row["time"].timestamp() for row in rows]),
        releases=np.array([row["release"] for row in rows], dtype=np.str_),
        sources=np.array(
            [source_of.get(next(iter(row["uris"]), ""), _NO_SOURCE) for row in rows], dtype=np.str_
        ),
        numbers=np.array(numbers),
        vectors=vectors.astype(np.float16),
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    """A passage as it was embedded and shown; the vector is None where it is not in the lake."""

    text: str
    vector: Vectors | None


def _chunks(lake: Lake, ids: set[str]) -> dict[str, _Shown]:
    """Chunks that are still in the lake, by id."""
    columns = ["id", "shard", "heading", "text", "embed_digest"]
    rows = lake.read("document_shards", columns=columns, where={"id": sorted(ids)}).to_pylist()
    wanted = {
        "shard": sorted({row["shard"] for row in rows}),
        "embed_digest": sorted({row["embed_digest"] for row in rows}),
    }
    held = lake.read("chunk_embeddings", columns=["embed_digest", "vector"], where=wanted)
    vectors = {
        row["embed_digest"]: np.asarray(row["vector"], np.float32) for row in held.to_pylist()
    }
    return {
        row["id"]: _Shown(f"{row['heading']}\n{row['text']}", vectors.get(row["embed_digest"]))
        for row in rows
    }


def _sources(lake: Lake, uris: set[str]) -> dict[str, str]:
    held = lake.read("clean_documents", columns=["uri", "source"], where={"uri": sorted(uris)})
    return {row["uri"]: row["source"] for row in held.to_pylist()}


def _thumbs(lake: Lake, traces: Sequence[str]) -> dict[str, float]:
    """1 for up and 0 for down, by trace; the last word counts where there are several."""
    rows = lake.read("feedback", columns=["trace", "time", "thumb"], where={"trace": list(traces)})
    said = sorted(rows.to_pylist(), key=lambda row: row["time"])
    return {row["trace"]: float(row["thumb"] == "up") for row in said if row["thumb"]}


def _symbols(text: str) -> float:
    odd = sum(not (letter.isalpha() or letter.isspace()) for letter in text)
    return odd / max(len(text), 1)


def _similarity(question: Vectors, shown: Sequence[_Shown | None]) -> float:
    if not shown:
        return 0.0
    near = [
        float(question @ each.vector)
        for each in shown
        if each is not None and each.vector is not None
    ]
    return max(near, default=np.nan)


def _grounded(answer: str, shown: Sequence[_Shown | None]) -> float:
    """Share of the answer's distinct words (three letters and more) that the passages hold."""
    said = {word.casefold() for word in _WORD.findall(answer)}
    known = [each for each in shown if each is not None]
    if not said or len(known) < len(shown) or not shown:
        return np.nan  # a refusal has nothing to be grounded in
    held = {word.casefold() for each in known for word in _WORD.findall(each.text)}
    return len(said & held) / len(said)
