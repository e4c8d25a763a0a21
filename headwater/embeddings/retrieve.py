"""Question to passages: dense and BM25 rankings, fused, repeated passages shown once, reranked if asked.

Knows an index, an encoder and a reranker. Fusion is done here, not in the store, so that every
backend gives the same answer.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol

from headwater.embeddings.rerank import Reranked, Reranker, reference, rerank
from headwater.embeddings.store import Index, Vector, VectorStore
from headwater.errors import HeadwaterError
from headwater.records import Hit, digest_of
from headwater.settings import Settings

Ranking = Literal["dense", "bm25"]
Mode = Literal["dense", "bm25", "fused"]
#: Part of the settings' digest: change it when the same settings rank otherwise.
RETRIEVAL_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSettings:
    """How passages are found; measured on the golden set (docs/experiments.md).

    Args:
        limit: passages that `retrieve` gives unless told otherwise.
        depth: how many hits of each ranking take part in the fusion.
        rrf_k: smoothing constant of reciprocal rank fusion.
        dense_weight: weight of the dense ranking against 1 - dense_weight for BM25.
        relevance: a prompt shows no passage whose cosine similarity to the question is less than
            this part of the best one's: a small model answers from whatever it is shown.
        reranker: reference of who looks at the first fused passages again; empty is nobody
            (`headwater.embeddings.rerank`).
        rerank_first: how many that are.
    """

    limit: int = 5
    depth: int = 50
    rrf_k: int = 60
    dense_weight: float = 0.5
    relevance: float = 0.6
    reranker: str = ""
    rerank_first: int = 10

    @property
    def digest(self) -> str:
        return digest_of(RETRIEVAL_VERSION, self.as_mapping())

    def as_mapping(self) -> dict[str, Any]:
        """The fields, as a release names them; those of the reranker only where there is one.

        So releases from before there were rerankers, and those without, keep their names.
        """
        fields = asdict(self)
        if not self.reranker:
            del fields["reranker"], fields["rerank_first"]
        return fields


def retrieval_settings(settings: Settings) -> RetrievalSettings:
    """How a release that is made now finds passages.

    Raises:
        HeadwaterError: the folder that should hold a cross-encoder holds none that may be loaded.
    """
    return RetrievalSettings(reranker=reference(settings), rerank_first=settings.rerank_first)


@dataclass(frozen=True, slots=True)
class Found:
    """Passages for a prompt, best first, and the cosine similarity of the nearest in the index.

    `rerank_ms` is what the second look took; None where there is no reranker.
    """

    hits: list[Hit]
    similarity: float
    rerank_ms: float | None = field(default=None, compare=False)


class QuestionEncoder(Protocol):
    """What retrieval needs of an encoder; `headwater.embeddings.encoder.Encoder` is one."""

    def encode(self, texts: Sequence[str], *, what: str = ...) -> Vector: ...


class Retriever:
    """Retrieval over one open index. Safe to use from several threads.

    Args:
        reranker: the one that the settings name.
    """

    def __init__(
        self,
        index: Index,
        encoder: QuestionEncoder,
        settings: RetrievalSettings = RetrievalSettings(),
        reranker: Reranker | None = None,
    ) -> None:
        self.index = index
        self.encoder = encoder
        self.settings = settings
        self.reranker = reranker

    def retrieve(self, question: str, mode: Mode = "fused", limit: int | None = None) -> list[Hit]:
        """The best passages for a question, best first, none twice.

        Scores compare within one mode: cosine similarity, BM25, or the fused score, which a
        reranker leaves as it is: the first passages are then in its order, not in that of scores.
        """
        return self.retrieve_many([question], mode, limit)[0]

    def retrieve_many(
        self, questions: Sequence[str], mode: Mode = "fused", limit: int | None = None
    ) -> list[list[Hit]]:
        """`retrieve` for many questions, which are encoded together."""
        wanted = self.settings.limit if limit is None else limit
        if mode == "bm25":
            return [self._bm25(question, wanted)[:wanted] for question in questions]
        vectors = self.encoder.encode(questions, what="encoding questions")
        if mode == "dense":
            return [self._dense(vector, wanted)[:wanted] for vector in vectors]
        return [
            self._fused(question, self._dense(vector, wanted), wanted)
            for question, vector in zip(questions, vectors, strict=True)
        ]

    def find(self, question: str, *, limit: int) -> Found:
        """What a prompt shows for a question: the best of `retrieve` that are near enough to it."""
        return self.find_many([question], limit=limit)[0]

    def passages_many(self, questions: Sequence[str], *, limit: int) -> list[list[Hit]]:
        """The hits of `find` for many questions, which are encoded together."""
        return [found.hits for found in self.find_many(questions, limit=limit)]

    def find_many(self, questions: Sequence[str], *, limit: int) -> list[Found]:
        """`find` for many questions, which are encoded together."""
        found = []
        vectors = self.encoder.encode(questions, what="encoding questions")
        for question, vector in zip(questions, vectors, strict=True):
            dense = self._dense(vector, limit)
            fused = fuse(dense, self._bm25(question, limit), self.settings)
            started = time.perf_counter()
            ranked = [each.hit for each in self.rerank(question, fused)]
            spent = (time.perf_counter() - started) * 1000 if self.reranker is not None else None
            hits = relevant(ranked[:limit], dense, self.settings.relevance)
            found.append(Found(hits, dense[0].score if dense else 0.0, spent))
        return found

    def rerank(self, question: str, fused: Sequence[Hit]) -> list[Reranked]:
        """A fused ranking in the reranker's order, as it is where there is none."""
        return rerank(self.reranker, question, fused, self.settings.rerank_first)

    def rankings(
        self, question: str, *, limit: int, of: Collection[Ranking] = ("dense", "bm25")
    ) -> dict[Ranking, list[Hit]]:
        """The rankings that a fusion for `limit` passages joins, each by its own score.

        Args:
            of: which to make; BM25 alone loads no model.
        """
        found: dict[Ranking, list[Hit]] = {}
        if "dense" in of:
            (vector,) = self.encoder.encode([question], what="encoding the question")
            found["dense"] = self._dense(vector, limit)
        if "bm25" in of:
            found["bm25"] = self._bm25(question, limit)
        return found

    def _fused(self, question: str, dense: Sequence[Hit], wanted: int) -> list[Hit]:
        fused = fuse(dense, self._bm25(question, wanted), self.settings)
        return [each.hit for each in self.rerank(question, fused)][:wanted]

    def _dense(self, vector: Vector, wanted: int) -> list[Hit]:
        return _passages(partial(self.index.dense, vector), max(self.settings.depth, wanted))

    def _bm25(self, question: str, wanted: int) -> list[Hit]:
        return _passages(partial(self.index.bm25, question), max(self.settings.depth, wanted))


@contextmanager
def open_retriever(
    store: VectorStore,
    encoder: QuestionEncoder,
    version: str | None = None,
    settings: RetrievalSettings = RetrievalSettings(),
    reranker: Reranker | None = None,
) -> Iterator[Retriever]:
    """A retriever over a published version (the newest one unless told), closed at the end."""
    if version is None:
        published = store.versions()
        if not published:
            raise HeadwaterError("No index is published yet.", mend="Run `headwater build`.")
        version = published[-1]
    index = store.open(version)
    try:
        yield Retriever(index, encoder, settings, reranker)
    finally:
        index.close()


def fuse(dense: Sequence[Hit], bm25: Sequence[Hit], settings: RetrievalSettings) -> list[Hit]:
    """Weighted reciprocal rank fusion (Cormack et al. 2009): the sum of weight / (k + rank).

    A passage that stands in several documents counts once, as its best dense hit where it has
    one. Scores are scaled so that the first in both rankings has 1; ties are in order of id.
    """
    rankings = by_passage(dense), by_passage(bm25)
    weights = settings.dense_weight, 1 - settings.dense_weight
    scores: dict[str, float] = defaultdict(float)
    for weight, ranking in zip(weights, rankings, strict=True):
        for rank, passage in enumerate(ranking, start=1):
            scores[passage] += rank_share(rank, weight, settings.rrf_k)
    hits = {**rankings[1], **rankings[0]}
    fused = [replace(hits[passage], score=round(score, 6)) for passage, score in scores.items()]
    return sorted(fused, key=lambda hit: (-hit.score, hit.id))


def rank_share(rank: int, weight: float, rrf_k: int) -> float:
    """What a 1-based rank adds to the fused score of a passage."""
    return weight * (rrf_k + 1) / (rrf_k + rank)


def relevant(hits: Sequence[Hit], dense: Sequence[Hit], least: float) -> list[Hit]:
    """The hits whose cosine similarity is at least `least` of the best; the first is always kept.

    Args:
        hits: best first, in any ranking.
        dense: the dense ranking.
    """
    if not dense:
        return list(hits)
    enough = least * dense[0].score
    return [
        hit
        for rank, (hit, similarity) in enumerate(similarities(hits, dense))
        if rank == 0 or similarity >= enough
    ]


def similarities(hits: Sequence[Hit], dense: Sequence[Hit]) -> list[tuple[Hit, float]]:
    """Each passage once, with its cosine similarity to the question.

    Args:
        dense: the dense ranking, not empty; a hit below its end counts as similar as its last.
    """
    known = {passage: hit.score for passage, hit in by_passage(dense).items()}
    last = dense[-1].score
    return [(hit, known.get(passage, last)) for passage, hit in by_passage(hits).items()]


def _passages(search: Callable[[int], list[Hit]], wanted: int) -> list[Hit]:
    """Hits until there are enough that differ: documents repeat passages, a reader needs one."""
    asked = 2 * wanted
    while True:
        hits = search(asked)
        passages = list(by_passage(hits).values())
        if len(passages) >= wanted or len(hits) < asked:
            return passages[:wanted]
        asked *= 4


def by_passage(hits: Sequence[Hit]) -> dict[str, Hit]:
    """The first hit of each text, whitespace and case folded, in order."""
    passages: dict[str, Hit] = {}
    for hit in hits:
        passages.setdefault(" ".join(hit.text.split()).casefold(), hit)
    return passages
