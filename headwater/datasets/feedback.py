"""What people said of answers, as the lake holds it: corrections and choices with their questions.

Joins the tables `feedback` and `requests`. Knows nothing about how the feedback was given.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.lake import Lake

_SAID = ["id", "time", "trace", "user", "correction", "rival", "preferred"]
_ASKED = ["trace", "question", "answer", "chunk_ids", "uris"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A better answer to a logged question; `chunk_ids` are the passages that answered it, of `uris`."""

    trace: str
    question: str
    answer: str
    correction: str
    chunk_ids: tuple[str, ...]
    uris: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Two answers to a logged question, of which most raters preferred the first."""

    trace: str
    question: str
    winner: str
    loser: str
    chunk_ids: tuple[str, ...]
    uris: tuple[str, ...]


def read_corrections(lake: Lake) -> list[Correction]:
    """The last correction of each person on each trace, the newest first."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for row in _said(lake):
        if row["correction"]:
            last[row["trace"], row["user"]] = row
    rows = sorted(last.values(), key=_by_time, reverse=True)
    requests = _requests(lake, rows)
    return [
        Correction(
            trace=row["trace"],
            question=asked["question"],
            answer=asked["answer"],
            correction=row["correction"],
            chunk_ids=tuple(asked["chunk_ids"]),
            uris=tuple(asked["uris"]),
        )
        for row in rows
        if (asked := requests.get(row["trace"])) is not None
    ]


def read_choices(lake: Lake) -> list[Choice]:
    """Pairs of answers that more people judged one way than the other, in order of trace.

    Of each person the last word on a pair counts; equal and skipped ones say nothing.
    """
    last: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in _said(lake):
        if row["preferred"] is not None:
            last[row["trace"], row["rival"], row["user"]] = row
    votes: Counter[tuple[str, str]] = Counter()
    for (trace, rival, _), row in last.items():
        votes[trace, rival] += {"answer": 1, "rival": -1}.get(row["preferred"], 0)
    requests = _requests(lake, last.values())
    choices = []
    for (trace, rival), balance in sorted(votes.items()):
        asked = requests.get(trace)
        if asked is None or balance == 0:
            continue
        both = (asked["answer"], rival)
        winner, loser = both if balance > 0 else reversed(both)
        choices.append(
            Choice(
                trace=trace,
                question=asked["question"],
                winner=winner,
                loser=loser,
                chunk_ids=tuple(asked["chunk_ids"]),
                uris=tuple(asked["uris"]),
            )
        )
    return choices


def _said(lake: Lake) -> list[dict[str, Any]]:
    """All feedback, oldest first."""
    return sorted(lake.read("feedback", columns=_SAID).to_pylist(), key=_by_time)


def _by_time(row: Mapping[str, Any]) -> tuple[Any, str]:
    return row["time"], row["id"]


def _requests(lake: Lake, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The requests that feedback is about, by trace."""
    traces = sorted({row["trace"] for row in rows})
    found = lake.read("requests", columns=_ASKED, where={"trace": traces}).to_pylist()
    return {row["trace"]: row for row in found}
