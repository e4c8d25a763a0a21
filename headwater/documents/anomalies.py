"""What is unlike earlier builds: volume by source, length, duplicates and languages of the documents.

Knows numbers and their history, not who keeps it. Bounds are robust: medians and median absolute
deviations of the last builds, so that one odd build neither shifts nor widens them much. An anomaly is
a question to a person, not a fault.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pyarrow.compute as pc

from headwater.documents.figures import Figures
from headwater.lake import Lake

#: Builds before anything is said, and builds that are looked back at.
LEAST_BUILDS, MOST_BUILDS = 5, 30
#: Scales a median absolute deviation to the standard deviation of a normal distribution.
_TO_SIGMA = 1.4826
#: Deviations that are allowed.
_DEVIATIONS = 5.0
#: What is allowed at least: as a part of the median, and of shares in points. Builds that are all
#: alike have no deviation, and a tenth more documents is no news.
_LEAST_PART, _LEAST_POINTS = 0.1, 0.05
_LANGUAGE = "share in "
#: A source varies more than all of them do; one that doubles or empties is told.
_SOURCE, _LEAST_PART_OF_SOURCE = "documents of ", 0.5
#: What is measured once, whatever the languages.
DOCUMENTS, CHARACTERS, DUPLICATES = "documents", "median characters", "share of duplicates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A measure outside of what earlier builds lead one to expect."""

    measure: str
    value: float
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.measure} is {self.value:.4g}, {self.low:.4g} to {self.high:.4g} is usual"


def measures(lake: Lake) -> dict[str, float]:
    """The figures of the corpus as it stands; texts are read of shards whose files changed.

    Held of each document is its length, eight bytes, for the median.
    """
    documents = lake.snapshot("clean_documents")
    figures = Figures(lake, documents)
    lengths = [np.empty(0, dtype=np.int64)]
    languages, sources = Counter[str](), Counter[str]()
    for shard, rows in documents.partitions(sorted(documents.files), ["language", "source"]):
        lengths.append(figures.of(shard)["characters"].to_numpy())
        for counted, column in ((languages, "language"), (sources, "source")):
            for each in pc.value_counts(rows[column].combine_chunks()).to_pylist():
                counted[each["values"]] += each["counts"]
    every = np.concatenate(lengths)
    count = len(every)
    if not count:
        return {DOCUMENTS: 0.0}
    left_out = lake.snapshot("duplicates").sizes.total()
    found = {
        DOCUMENTS: float(count),
        CHARACTERS: float(np.median(every)),
        DUPLICATES: left_out / count,
    }
    found |= {f"{_LANGUAGE}{name}": number / count for name, number in languages.items()}
    found |= {f"{_SOURCE}{name}": float(number) for name, number in sources.items()}
    return dict(sorted(found.items()))


def anomalies(now: Mapping[str, float], earlier: Sequence[Mapping[str, float]]) -> list[Anomaly]:
    """What is unusual, by measure; nothing before there are `LEAST_BUILDS` earlier builds.

    Args:
        earlier: measures of earlier builds, the newest first.
    """
    history = earlier[:MOST_BUILDS]
    if len(history) < LEAST_BUILDS:
        return []
    names = sorted({*now, *(name for build in history for name in build)})
    return [found for name in names if (found := _judged(name, now, history)) is not None]


def _judged(
    name: str, now: Mapping[str, float], history: Sequence[Mapping[str, float]]
) -> Anomaly | None:
    # No document in a language or of a source is 0 of them; a corpus without any has no length.
    is_source = name.startswith(_SOURCE)
    default = 0.0 if is_source or name.startswith(_LANGUAGE) else None
    if is_source:  # before its first document there was no source, so a new one is not odd
        first = max((at for at, build in enumerate(history) if name in build), default=-1)
        history = history[: first + 1]
    known = [build.get(name, default) for build in history]
    values = [value for value in known if value is not None]
    value = now.get(name, default)
    if value is None or len(values) < LEAST_BUILDS:
        return None
    middle = median(values)
    deviation = _TO_SIGMA * median(abs(each - middle) for each in values)
    is_share = name.startswith(_LANGUAGE) or name == DUPLICATES
    part = _LEAST_PART_OF_SOURCE if is_source else _LEAST_PART
    least = _LEAST_POINTS if is_share else part * middle
    width = max(_DEVIATIONS * deviation, least)
    low, high = max(0.0, middle - width), middle + width
    if is_share:
        high = min(1.0, high)
    if is_source:  # however much it varies, that it is empty is news
        low = max(low, min(1.0, middle))
    if low <= value <= high:
        return None
    return Anomaly(measure=name, value=value, median=middle, low=low, high=high)
