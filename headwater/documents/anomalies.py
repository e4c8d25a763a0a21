"""What is unlike earlier builds: volume, length, duplicates and languages of the documents.

Knows numbers and their history, not who keeps it. Bounds are robust: medians and median absolute
deviations of the last builds, so that one odd build neither shifts nor widens them much. An anomaly is
a question to a person, not a fault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import pyarrow.compute as pc

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
    """The figures of the corpus as it stands."""
    table = lake.read("clean_documents", columns=["language", "text"])
    count = table.num_rows
    if not count:
        return {DOCUMENTS: 0.0}
    left_out = lake.read("duplicates", columns=["uri"]).num_rows
    lengths = pc.utf8_length(table["text"]).to_pylist()
    found = {
        DOCUMENTS: float(count),
        CHARACTERS: float(median(lengths)),
        DUPLICATES: left_out / count,
    }
    for each in pc.value_counts(table["language"].combine_chunks()).to_pylist():
        found[f"{_LANGUAGE}{each['values']}"] = each["counts"] / count
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
    # No document in a language is a share of 0; a corpus without any has no length.
    default = 0.0 if name.startswith(_LANGUAGE) else None
    known = [build.get(name, default) for build in history]
    values = [value for value in known if value is not None]
    value = now.get(name, default)
    if value is None or len(values) < LEAST_BUILDS:
        return None
    middle = median(values)
    deviation = _TO_SIGMA * median(abs(each - middle) for each in values)
    is_share = name.startswith(_LANGUAGE) or name == DUPLICATES
    least = _LEAST_POINTS if is_share else _LEAST_PART * middle
    width = max(_DEVIATIONS * deviation, least)
    low, high = max(0.0, middle - width), middle + width
    if is_share:
        high = min(1.0, high)
    if low <= value <= high:
        return None
    return Anomaly(measure=name, value=value, median=middle, low=low, high=high)
