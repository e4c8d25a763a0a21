"""Question to passages: dense and BM25 rankings, fused, repeated passages shown once.

Knows an index and an encoder. Fusion is done here, not in the store, so that every backend gives
the same answer.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal, Protocol

from headwater.embeddings.store import Index, Vector, VectorStore
from headwater.errors import HeadwaterError
from headwater.records import Hit, digest_of

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
    """

    limit: int = 5
    depth: int = 50
    rrf_k: int = 60
    dense_weight: float = 0.5
    relevance: float = 0.6

    @property
    def digest(self) -> str:
        return digest_of(RETRIEVAL_VERSION, asdict(self))


@dataclass(frozen=True, slots=True)
class Found:
    """Passages for a prompt, best first, and the cosine similarity of the nearest in the index."""

    hits: list[Hit]
    similarity: float


class QuestionEncoder(Protocol):
    """What retrieval needs of an encoder; `headwater.embeddings.encoder.Encoder` is one."""

    def encode(self, texts: Sequence[str], *, what: str = ...) -> Vector: ...


class Retriever:
    """Retrieval over one open index. Safe to use from several threads."""

    def __init__(
        self,
        index: Index,
        encoder: QuestionEncoder,
        settings: RetrievalSettings = RetrievalSettings(),
    ) -> None:
        self.index = index
        self.encoder = encoder
        self.settings = settings

    def retrieve(self, question: str, mode: Mode = "fused", limit: int | None = None) -> list[Hit]:
        """The best passages for a question, best first, none twice.

        Scores compare within one mode: cosine similarity, BM25, or the fused score.
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
            fuse(self._dense(vector, wanted), self._bm25(question, wanted), self.settings)[:wanted]
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
            hits = relevant(fused[:limit], dense, self.settings.relevance)
            found.append(Found(hits, dense[0].score if dense else 0.0))
        return found

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
) -> Iterator[Retriever]:
    """A retriever over a published version (the newest one unless told), closed at the end."""
    if version is None:
        published = store.versions()
        if not published:
            raise HeadwaterError("No index is published yet.", mend="Run `headwater build`.")
        version = published[-1]
    index = store.open(version)
    try:
        yield Retriever(index, encoder, settings)
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
