"""Why a passage stands where it stands: both rankings, the fusion's sum, the reranker, BM25's words.

Knows a retriever, and asks it what an answer asks it. Knows no release and no documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headwater.embeddings import bm25
from headwater.embeddings.retrieve import (
    Mode,
    Ranking,
    Retriever,
    by_passage,
    fuse,
    rank_share,
    relevant,
    similarities,
)
from headwater.embeddings.store import Index
from headwater.records import Hit

RANKINGS: tuple[Ranking, ...] = ("dense", "bm25")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a ranking has a passage: its rank from 1, and the ranking's own score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a reranker did with a passage that it looked at: ranks from 1, and its own score."""

    before: int
    after: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word of the question that a passage has.

    `score`, what it adds to the BM25 score, is `idf` (how rare the word is in the index) times
    `weight` (how often the passage has it, for its length). `idf` and `score` are None where the
    index does not tell them of the word alone.
    """

    word: str
    weight: float
    idf: float | None
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A hit and what put it there.

    `shares` is what each ranking adds to the fused score, which they sum to. `similarity` is the
    cosine that decides whether a prompt may show the passage (`kept`); both are None where the
    dense ranking was not made or the mode is not the one that prompts are made by. `moved` is None
    where no reranker looked at the passage.
    """

    hit: Hit
    places: Mapping[Ranking, Place]
    shares: Mapping[Ranking, float]
    terms: tuple[Term, ...]
    similarity: float | None
    kept: bool | None
    moved: Moved | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The hits of one question, best first.

    `words` are those of the question that BM25 looks for, with their idf where any passage has
    them; `depth` is how far each ranking was read; `least` is the cosine that a prompt asks of a
    passage that is not the first.
    """

    hits: tuple[Explained, ...]
    words: Mapping[str, float | None]
    depth: int
    least: float | None


def explain(
    retriever: Retriever, question: str, *, mode: Mode = "fused", limit: int, whole: bool = True
) -> Explanation:
    """The hits that `retriever.retrieve` gives, explained.

    Args:
        whole: look into the ranking that `mode` does not need too, and into words. Without it, the
            hits come with the ranks and scores that the search itself made.
    """
    of = RANKINGS if whole or mode == "fused" else (mode,)
    rankings = retriever.rankings(question, limit=limit, of=of)
    dense, sparse = rankings.get("dense", []), rankings.get("bm25", [])
    settings = retriever.settings
    moved: dict[Hit, Moved] = {}
    if mode == "fused":
        ranked = retriever.rerank(question, fuse(dense, sparse, settings))
        hits = [each.hit for each in ranked]
        moved = {
            each.hit: Moved(before=each.before, after=after, score=each.score)
            for after, each in enumerate(ranked, start=1)
            if each.score is not None
        }
    else:
        hits = rankings[mode]
    hits = hits[:limit]
    places = {name: _places(found) for name, found in rankings.items()}
    weights = {"dense": settings.dense_weight, "bm25": 1 - settings.dense_weight}
    # The rule for prompts, by the function that applies it: only the fused ranking goes there.
    near = dict(zip(hits, _cosines(hits, dense), strict=True)) if mode == "fused" else {}
    kept = set(relevant(hits, dense, settings.relevance)) if near else set()
    idf = _idf(retriever.index, question) if whole else {}
    matched = by_passage(sparse)

    explained = []
    for passage, hit in by_passage(hits).items():
        found = {name: known[passage] for name, known in places.items() if passage in known}
        shares = {
            name: rank_share(place.rank, weights[name], settings.rrf_k)
            for name, place in found.items()
        }
        explained.append(
            Explained(
                hit=hit,
                places=found,
                shares=shares if mode == "fused" else {},
                # BM25 may have found the passage in another document, under another heading.
                terms=_terms(matched.get(passage, hit), idf),
                similarity=near.get(hit),
                kept=hit in kept if near else None,
                moved=moved.get(hit),
            )
        )
    return Explanation(
        hits=tuple(explained),
        words=dict(idf.values()),
        depth=max(settings.depth, limit),
        least=settings.relevance * dense[0].score if near and dense else None,
    )


def _places(ranking: Sequence[Hit]) -> dict[str, Place]:
    passages = by_passage(ranking).items()
    return {
        passage: Place(rank=rank, score=hit.score)
        for rank, (passage, hit) in enumerate(passages, start=1)
    }


def _cosines(hits: Sequence[Hit], dense: Sequence[Hit]) -> list[float | None]:
    if not dense:
        return [None] * len(hits)
    return [similarity for _, similarity in similarities(hits, dense)]


def _idf(index: Index, question: str) -> dict[int, tuple[str, float | None]]:
    """Each word of a question by its index, with its inverse document frequency in an index.

    No store tells the latter, but a search for the word alone does: its score is idf times weight.
    """
    found: dict[int, tuple[str, float | None]] = {}
    for number, word in bm25.query_words(question).items():
        alone = bm25.query_weights(word)[0] == [number]
        best = index.bm25(word, 1) if alone else []
        weight = _weights(best[0]).get(number) if best else None
        found[number] = (word, round(best[0].score / weight, 4) if weight else None)
    return found


def _weights(hit: Hit) -> dict[int, float]:
    """The weights of a passage's words as the index holds them: made by the same function."""
    indices, values = bm25.document_weights({"heading": hit.heading, "text": hit.text})
    return dict(zip(indices, values, strict=True))


def _terms(hit: Hit, idf: Mapping[int, tuple[str, float | None]]) -> tuple[Term, ...]:
    """The words that a passage has of those asked for, the weightiest first."""
    if not idf:
        return ()
    weights = _weights(hit)
    terms = [
        Term(
            word=word,
            weight=round(weights[number], 4),
            idf=rarity,
            score=None if rarity is None else round(rarity * weights[number], 4),
        )
        for number, (word, rarity) in idf.items()
        if number in weights
    ]
    return tuple(sorted(terms, key=lambda term: (-(term.score or 0), term.word)))
