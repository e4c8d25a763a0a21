"""Questions of production that were answered poorly, kept for the next training rows.

Knows requests and one small file. What becomes of a question is the dataset's business: it is
trained on only where a chunk answers it, and never where it is near a golden question.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from headwater.files import read_json, write_json
from headwater.monitoring.features import Sample
from headwater.monitoring.windows import Requests
from headwater.settings import Settings

_WORDS = range(3, 41)
_CHARS = 300
#: What smells of a person or a machine rather than of a topic: addresses, links, long numbers.
_PRIVATE = re.compile(r"@|://|\bwww\.|\d{5,}")


def hardest(requests: Requests, sample: Sample, limit: int) -> list[dict[str, str]]:
    """The worst answered of some requests, worst first: their traces and questions, none twice.

    Refused ones first, then by how little of the answer its passages hold, then by how far the
    passages are.
    """
    refused, grounded, near = (
        np.nan_to_num(sample.column(name)) for name in ("refused", "grounded", "similarity")
    )
    order = np.lexsort((sample.traces, near, grounded, -refused))
    asked = requests.questions(
        {str(trace): float(at) for trace, at in zip(sample.traces, sample.times, strict=True)}
    )
    kept: dict[str, dict[str, str]] = {}
    for trace in (str(sample.traces[at]) for at in order):
        question = " ".join(asked.get(trace, "").split())
        if _usable(question):
            kept.setdefault(question.casefold(), {"trace": trace, "question": question})
    return list(kept.values())[:limit]


def keep(settings: Settings, questions: Sequence[Mapping[str, str]], limit: int) -> None:
    """Put questions before those that are kept already; at most `limit` stay."""
    both = [*questions, *_kept(settings)]
    distinct = {each["question"].casefold(): dict(each) for each in reversed(both)}
    newest = [distinct[key] for key in dict.fromkeys(each["question"].casefold() for each in both)]
    write_json(_path(settings), newest[:limit])


def read(settings: Settings) -> list[str]:
    """The questions that the next training rows should answer, newest first."""
    return [each["question"] for each in _kept(settings)]


def _kept(settings: Settings) -> list[dict[str, str]]:
    found: list[dict[str, str]] | None = read_json(_path(settings))
    return found or []


def _path(settings: Settings) -> Path:
    return settings.root / "monitoring" / "hard_questions.json"


def _usable(question: str) -> bool:
    return (
        len(question) <= _CHARS
        and len(question.split()) in _WORDS
        and not _PRIVATE.search(question)
    )
