"""`preference_pairs`: a better and a worse answer to the same question, for preference training.

A rating gives the winner and the loser, a correction the correction and the answer that it
corrects. Pairs near a golden question are left out, as are those whose passages are all gone, and
answers that were given from a restricted document.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from headwater.datasets.feedback import read_choices, read_corrections
from headwater.datasets.firewall import Leak, leaks
from headwater.datasets.golden import read_golden
from headwater.datasets.restricted import restricted_documents
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem, digest_of

STAGE_VERSION = "preferences/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """One comparison, with the chunks that its prompt shows and the traces that it comes from."""

    id: str
    question: str
    context: tuple[str, ...]
    chosen: str
    rejected: str
    traces: tuple[str, ...]
    source: Literal["rating", "correction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceStats:
    """What was made; `dropped_leaks` were near a golden question, `dropped_gone` lost their text."""

    rows: int
    by_source: dict[str, int]
    dropped_leaks: int
    dropped_gone: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Text:
    """A question and one answer of a pair, as the firewall compares them."""

    id: str
    question: str
    answer: str


def build_preference_pairs(lake: Lake) -> PreferenceStats:
    """Make the pairs anew and write the table if they differ from what it holds."""
    known = set(lake.read("document_shards", columns=["id"]).column("id").to_pylist())
    made = list(_distinct(lake))
    shown = [
        replace(pair, context=tuple(chunk for chunk in pair.context if chunk in known))
        for pair in made
    ]
    placed = [pair for pair in shown if pair.context]
    leaking = {leak.row_id for leak in pair_leaks(placed, read_golden(lake))}
    kept = sorted(
        (replace(pair, id=digest_of(asdict(pair))) for pair in placed if pair.id not in leaking),
        key=lambda pair: pair.id,
    )
    table = rows_to_table("preference_pairs", map(asdict, kept))
    if lake.read("preference_pairs") != table:
        lake.overwrite("preference_pairs", table)
    return PreferenceStats(
        rows=len(kept),
        by_source=dict(sorted(Counter(pair.source for pair in kept).items())),
        dropped_leaks=len(leaking),
        dropped_gone=len(made) - len(placed),
        digest=digest_of(STAGE_VERSION, [pair.id for pair in kept]),
    )


def read_pairs(lake: Lake) -> list[PreferencePair]:
    """The pairs of the table, in order of id."""
    rows = lake.read("preference_pairs").to_pylist()
    lists = ("context", "traces")
    pairs = (
        PreferencePair(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows
    )
    return sorted(pairs, key=lambda pair: pair.id)


def pair_leaks(pairs: Sequence[PreferencePair], golden: Sequence[GoldenItem]) -> list[Leak]:
    """Leaks of the pairs' questions and of either answer."""
    texts = [
        _Text(pair.id, pair.question, answer)
        for pair in pairs
        for answer in (pair.chosen, pair.rejected)
    ]
    return leaks(texts, golden)


def _distinct(lake: Lake) -> Iterator[PreferencePair]:
    """A pair for each question and two answers, with every trace that says so."""
    merged: dict[str, PreferencePair] = {}
    for pair in _stated(lake):
        key = digest_of(pair.question, pair.chosen, pair.rejected)
        first = merged.setdefault(key, replace(pair, id=key))
        merged[key] = replace(first, traces=tuple(sorted({*first.traces, *pair.traces})))
    yield from merged.values()


def _stated(lake: Lake) -> Iterator[PreferencePair]:
    restricted = restricted_documents(lake)
    for given in read_corrections(lake):
        if not restricted.isdisjoint(given.uris):
            continue
        if given.correction.split() != given.answer.split() and given.answer:
            yield PreferencePair(
                id="",
                question=given.question,
                context=given.chunk_ids,
                chosen=given.correction,
                rejected=given.answer,
                traces=(given.trace,),
                source="correction",
            )
    for choice in read_choices(lake):
        if not restricted.isdisjoint(choice.uris):
            continue
        yield PreferencePair(
            id="",
            question=choice.question,
            context=choice.chunk_ids,
            chosen=choice.winner,
            rejected=choice.loser,
            traces=(choice.trace,),
            source="rating",
        )
