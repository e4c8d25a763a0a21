"""What is unlike earlier builds is told, what is like them is not, and early on nothing is."""

import pytest

from headwater.documents.anomalies import LEAST_BUILDS, Anomaly, anomalies, measures
from tests.documents.examples import PROSE, Corpus

USUAL = {
    "documents": 1000.0, "median characters": 2000.0, "share of duplicates": 0.1,
    "share in en": 0.9, "share in de": 0.1,
}  # fmt: skip


def history(count: int) -> list[dict[str, float]]:
    """Builds that grow a little, the newest first."""
    builds = [USUAL | {"documents": 1000.0 + 3 * number} for number in range(count)]
    return builds[::-1]


def names(found: list[Anomaly]) -> set[str]:
    return {each.measure for each in found}


@pytest.mark.parametrize(
    ("change", "unusual"),
    [
        ({}, set()),
        ({"documents": 1080.0, "share in en": 0.87, "share in de": 0.13}, set()),
        ({"documents": 500.0}, {"documents"}),
        ({"documents": 2000.0}, {"documents"}),
        ({"median characters": 100.0}, {"median characters"}),
        ({"share of duplicates": 0.4}, {"share of duplicates"}),
        ({"share in en": 0.5, "share in fr": 0.4}, {"share in en", "share in fr"}),
    ],
)
def test_outside_of_what_is_usual(change: dict[str, float], unusual: set[str]):
    assert names(anomalies(USUAL | change, history(10))) == unusual
    assert anomalies(USUAL | change, history(LEAST_BUILDS - 1)) == []


def test_a_language_that_is_gone_is_missed():
    now = {name: value for name, value in USUAL.items() if name != "share in de"}
    (found,) = anomalies(now | {"share in en": 0.94}, history(10))
    assert (found.measure, found.value, found.median) == ("share in de", 0.0, 0.1)
    assert str(found) == "share in de is 0, 0.05 to 0.15 is usual"


def test_one_odd_build_changes_no_bound():
    earlier = history(10)
    earlier[3] = USUAL | {"documents": 10.0}
    assert names(anomalies(USUAL | {"documents": 500.0}, earlier)) == {"documents"}
    assert anomalies(USUAL, earlier) == []


def test_a_corpus_that_varies_is_allowed_more():
    earlier = [USUAL | {"documents": float(count)} for count in (600, 800, 1000, 1200, 1400, 1000)]
    assert anomalies(USUAL | {"documents": 1600.0}, earlier) == []


def test_measures_of_a_lake(corpus: Corpus):
    assert measures(corpus.lake) == {"documents": 0.0}
    corpus.write("a.txt", PROSE)
    corpus.write("b.txt", PROSE)
    corpus.write("c.txt", "Der Hafen öffnet um sechs Uhr und schließt mit der letzten Fähre.")
    corpus.raw()
    corpus.clean()
    corpus.duplicates()
    assert measures(corpus.lake) == {
        "documents": 3.0,
        "median characters": float(len(PROSE.strip())),
        "share in de": 1 / 3,
        "share in en": 2 / 3,
        "share of duplicates": 1 / 3,
    }
