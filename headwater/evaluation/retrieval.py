"""Does retrieval find the document that holds the answer? Dense, BM25 and fused, side by side.

Knows questions and a function that retrieves; nothing about indexes or encoders.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from headwater.embeddings.retrieve import Mode
from headwater.evaluation import ranking
from headwater.evaluation.statistics import Interval, bootstrap, mean, paired_bootstrap
from headwater.progress import track
from headwater.records import GoldenItem, Hit, digest_of

RETRIEVAL_REPORT_VERSION = 1
MODES: tuple[Mode, ...] = ("dense", "bm25", "fused")
#: Cut-offs of recall; the last is also how many hits are asked for, and nDCG's.
CUTOFFS = (1, 3, 5, 10)
DEPTH = CUTOFFS[-1]
#: (question, mode, limit) -> hits, best first; `Retriever.retrieve` is one.
Retrieve = Callable[[str, Mode, int], Sequence[Hit]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItem:
    """Where one question's answer was found, per mode; `top` is the best hit's document."""

    id: str
    question: str
    uri: str
    provisional: bool
    rank: Mapping[str, int | None]
    top: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeFigures:
    """One mode's means over the questions of a slice."""

    recall: Mapping[int, float]
    mrr: float
    ndcg_at_10: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSlice:
    """Figures over the curated or the provisional questions.

    `differences` are in nDCG@10, paired by question: "fused-dense" and "fused-bm25".
    """

    items: int
    modes: Mapping[str, ModeFigures]
    differences: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalReport:
    """All figures; a slice is None where the golden set has no such question."""

    curated: RetrievalSlice | None
    provisional: RetrievalSlice | None
    rows: tuple[RankedItem, ...]

    @property
    def digest(self) -> str:
        return digest_of(RETRIEVAL_REPORT_VERSION, [asdict(row) for row in self.rows])

    @property
    def headline(self) -> RetrievalSlice | None:
        """The slice that speaks for the corpus: curated where there is one."""
        return self.curated or self.provisional


def evaluate_retrieval(items: Sequence[GoldenItem], retrieve: Retrieve) -> RetrievalReport:
    """Ask every question in every mode and rank what comes back; rows are in order of id."""
    items = sorted(items, key=lambda item: item.id)
    rows = tuple(_ranked(item, retrieve) for item in track(items, what="evaluating retrieval"))
    return report_of(rows)


def report_of(rows: Sequence[RankedItem]) -> RetrievalReport:
    """Aggregate ranked questions, curated and provisional apart."""
    return RetrievalReport(
        curated=_slice([row for row in rows if not row.provisional]),
        provisional=_slice([row for row in rows if row.provisional]),
        rows=tuple(rows),
    )


def _ranked(item: GoldenItem, retrieve: Retrieve) -> RankedItem:
    found = {mode: [hit.uri for hit in retrieve(item.question, mode, DEPTH)] for mode in MODES}
    return RankedItem(
        id=item.id,
        question=item.question,
        uri=item.uris[0],
        provisional=item.provisional,
        rank={mode: ranking.first_relevant(uris, item.uris) for mode, uris in found.items()},
        top={mode: uris[0] if uris else "" for mode, uris in found.items()},
    )


def _slice(rows: Sequence[RankedItem]) -> RetrievalSlice | None:
    if not rows:
        return None
    ndcg = {mode: [ranking.ndcg_at(row.rank[mode], DEPTH) for row in rows] for mode in MODES}
    return RetrievalSlice(
        items=len(rows),
        modes={mode: _figures([row.rank[mode] for row in rows], ndcg[mode]) for mode in MODES},
        differences={
            f"fused-{mode}": paired_bootstrap(ndcg["fused"], ndcg[mode])
            for mode in MODES
            if mode != "fused"
        },
    )


def _figures(ranks: Sequence[int | None], ndcg: Sequence[float]) -> ModeFigures:
    return ModeFigures(
        recall={k: mean([ranking.recall_at(rank, k) for rank in ranks]) for k in CUTOFFS},
        mrr=mean([ranking.reciprocal_rank(rank) for rank in ranks]),
        ndcg_at_10=bootstrap(ndcg),
    )
