"""A second, closer look at the first passages of a ranking: the seam, and who takes the look.

Knows the kinds of reranker by name, and nothing of indexes or of how a ranking is made. A release names
its reranker by a reference: `late-interaction/VERSION`, which its embedding model's vectors are enough
for, or `cross-encoder/DIGEST`, a model in a folder of this installation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headwater.embeddings.cross_encoder import CrossEncoder, cross_encoder_digest
from headwater.embeddings.late_interaction import LATE_INTERACTION, LateInteraction, TokenEncoder
from headwater.errors import HeadwaterError
from headwater.records import Hit, short
from headwater.settings import Settings

#: Part of every reference to late interaction: change it when the same vectors give other scores.
LATE_INTERACTION_VERSION = 1
CROSS_ENCODER = "cross-encoder"


class Reranker(Protocol):
    """Scores passages for a question, by reading both; safe to use from several threads."""

    def scores(self, question: str, passages: Sequence[Hit]) -> list[float]:
        """A number for each passage, the larger the better; they compare within one question."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """A hit in its new place.

    `before` is its rank from 1 before the second look, and `score` the reranker's; None where it stood
    too far behind to be looked at.
    """

    hit: Hit
    before: int
    score: float | None


def rerank(
    reranker: Reranker | None, question: str, hits: Sequence[Hit], first: int
) -> list[Reranked]:
    """The hits, the first so many of them in the reranker's order and the others behind.

    A hit keeps the score that it came with. Equal scores stay in the order that they came in.
    """
    looked = hits[:first] if reranker is not None else hits[:0]
    scores = reranker.scores(question, looked) if reranker is not None and looked else []
    ranked = [
        Reranked(hit, before, score)
        for before, (hit, score) in enumerate(zip(looked, scores, strict=True), start=1)
    ]
    ranked.sort(key=lambda each: (-(each.score or 0.0), each.before))
    behind = enumerate(hits[len(looked) :], start=len(looked) + 1)
    return ranked + [Reranked(hit, before, None) for before, hit in behind]


def reference(settings: Settings) -> str:
    """What a release that is made now calls the reranker of `Settings.reranker`; empty is none.

    Raises:
        HeadwaterError: the folder that it names holds no cross-encoder that may be loaded.
    """
    if not settings.reranker:
        return ""
    if settings.reranker == LATE_INTERACTION:
        return f"{LATE_INTERACTION}/{LATE_INTERACTION_VERSION}"
    return f"{CROSS_ENCODER}/{cross_encoder_digest(_folder(settings))}"


def open_reranker(settings: Settings, wanted: str, encoder: object) -> Reranker | None:
    """The reranker of a reference; no model is loaded before the first question.

    Args:
        wanted: a reference, as a release's retrieval settings hold it; empty is none.
        encoder: the embedding model in use.

    Raises:
        HeadwaterError: there is no such reranker here, or the embedding model has no tokens.
    """
    if not wanted:
        return None
    if wanted == f"{LATE_INTERACTION}/{LATE_INTERACTION_VERSION}":
        if not isinstance(encoder, TokenEncoder):
            raise HeadwaterError(
                "This embedding model has no vectors of single tokens, which late interaction compares.",
                mend="Unset HEADWATER_RERANKER, or set HEADWATER_EMBEDDING_MODEL to a language model.",
            )
        return LateInteraction(encoder)
    kind, _, digest = wanted.partition("/")
    if kind != CROSS_ENCODER:
        raise HeadwaterError(
            f"There is no reranker called {wanted!r} in this version of Headwater.",
            mend="Serve another release, or install the version that made this one.",
        )
    if settings.reranker in ("", LATE_INTERACTION):
        raise HeadwaterError(
            f"The cross-encoder {short(digest)} is asked for, and HEADWATER_RERANKER names no folder.",
            mend="Set it to the cross-encoder's folder, or run `headwater build`.",
        )
    folder = _folder(settings)
    if cross_encoder_digest(folder) != digest:
        raise HeadwaterError(
            f"The cross-encoder in {folder} is not {short(digest)}, which is asked for.",
            mend="Set HEADWATER_RERANKER as it was, or run `headwater build`.",
        )
    return CrossEncoder(folder, settings.threads, settings.encoders)


def _folder(settings: Settings) -> Path:
    return Path(settings.reranker).expanduser().resolve()
