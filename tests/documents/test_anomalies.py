"""What is unlike earlier builds is told, what is like them is not, and early on nothing is."""

import shutil
from statistics import median

import pytest

from headwater.documents import figures
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
        "documents of docs": 3.0,
        "median characters": float(len(PROSE.strip())),
        "share in de": 1 / 3,
        "share in en": 2 / 3,
        "share of duplicates": 1 / 3,
    }


def of_sources(docs: float, wiki: float) -> dict[str, float]:
    named = {"documents of docs": docs, "documents of wiki": wiki}
    return USUAL | {name: count for name, count in named.items() if count}


@pytest.mark.parametrize(
    ("wiki", "unusual"), [(8.0, set()), (5.0, set()), (0.0, {"wiki"}), (17.0, {"wiki"})]
)
def test_a_small_source_that_empties_or_doubles_is_named(wiki: float, unusual: set[str]):
    earlier = [of_sources(992.0, 8.0) for _ in range(10)]
    found = names(anomalies(of_sources(1000.0 - wiki, wiki), earlier))
    assert found == {f"documents of {name}" for name in unusual}
    # That it has always varied is no reason to pass over that it is gone.
    varied = [of_sources(990.0, float(count)) for count in (2, 20, 5, 30, 9, 40)]
    assert ("documents of wiki" in names(anomalies(of_sources(1000.0, wiki), varied))) == (
        wiki == 0
    )


def test_a_new_source_is_not_unusual_and_one_that_left_is_forgotten_in_time():
    alone, both = of_sources(1000.0, 0.0), of_sources(1000.0, 20.0)
    for builds in range(LEAST_BUILDS + 3):
        assert anomalies(both, [both] * builds + [alone] * 10) == []
    gone = [len(anomalies(alone, [alone] * builds + [both] * 6)) for builds in (0, 3, 9)]
    assert gone == [1, 1, 0]


def test_an_unchanged_shard_is_not_measured_again(corpus: Corpus, monkeypatch):
    for number in range(12):
        corpus.write(f"{number}.txt", f"Number {number}. " + PROSE * (1 + number % 3))
    corpus.raw()
    corpus.clean()
    first = measures(corpus.lake)
    texts = corpus.lake.read("clean_documents", columns=["text"])["text"].to_pylist()
    assert first["median characters"] == median(map(len, texts))
    read: list[str] = []
    real = figures.figures_of
    monkeypatch.setattr(
        figures, "figures_of", lambda rows, **_: read.append(rows) or real(rows, **_)
    )
    assert measures(corpus.lake) == first
    assert read == []
    corpus.write("3.txt", "A text of its own about the harbour, its boats and the fees of a berth.")
    corpus.raw()
    corpus.clean()
    changed = measures(corpus.lake)
    assert len(read) == 1
    shutil.rmtree(corpus.lake.root / ".figures")
    assert measures(corpus.lake) == changed
    # What is kept and torn is measured again.
    kept = next((corpus.lake.root / ".figures").iterdir())
    kept.write_bytes(kept.read_bytes()[:100])
    assert measures(corpus.lake) == changed
