"""The benchmark of scale in small: what it makes, what it measures, and that edits cost edits."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import scale, synthetic
from benchmarks.synthetic import COPY_EVERY, Corpus


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().replace(".", " ").split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def test_a_corpus_is_the_same_for_the_same_seed_and_begins_like_a_smaller_one() -> None:
    small, large = Corpus(30), Corpus(60)
    texts = [large.text(number) for number in range(60)]
    assert [small.text(number) for number in range(30)] == texts[:30]
    assert len(set(texts)) > 50
    assert Corpus(30, seed=1).text(3) != texts[3]


def test_lengths_and_words_have_long_tails_and_a_fifth_are_copies() -> None:
    corpus = Corpus(400)
    texts = [corpus.text(number) for number in range(400)]
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[0] >= synthetic.SHORTEST and lengths[-1] <= synthetic.LONGEST
    assert 2 < (sum(lengths) / 400) / lengths[200] < 6
    words = Counter(" ".join(texts).lower().replace(".", " ").split())
    (_, most), *_, (_, tenth) = words.most_common(10)
    assert 2 < most / tenth < 5
    copies = [number for number in range(400) if corpus.is_copy(number)]
    assert len(copies) == 400 // COPY_EVERY
    for number in copies:
        original = corpus.original(number)
        assert original < number and not corpus.is_copy(original)
        ours, theirs = shingles(texts[number]), shingles(texts[original])
        assert len(ours & theirs) / len(ours | theirs) > 0.8


def test_edits_are_spread_and_leave_the_rest_as_it_was() -> None:
    before, after = Corpus(400), Corpus(400, edited=0.01)
    edited = [number for number in range(400) if after.text(number) != before.text(number)]
    assert edited == [number for number in range(400) if after.is_edited(number)]
    assert [number // 100 for number in edited] == [0, 1, 2, 3]


def test_edits_at_another_time_leave_the_earlier_ones_as_they_were() -> None:
    first, second = (Corpus(400, edited=0.01, times=times) for times in (1, 2))
    edited = [number for number in range(400) if second.text(number) != first.text(number)]
    assert edited == [number for number in range(400) if second.is_edited(number, 2)]
    assert len(edited) == 4
    assert edited != [number for number in range(400) if first.is_edited(number)]


def test_a_small_run_shows_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "WARM_UP", 2)
    found = scale.measure(tmp_path, documents=200, shards=4)
    assert list(found)[:5] == [
        "documents", "seconds_per_1000", "peak_mb", "edit_1pct_ratio", "no_change_ratio",
    ]  # fmt: skip
    assert found["documents"] == 200 and found["edited"] == 2
    assert all(found[name] > 0 for name in list(found)[:5])
    full, edit, none = found["full"], found["edit"], found["no_change"]
    assert set(full["processed"].values()) >= {200} and full["quarantined"] == 0
    assert full["processed"]["document_shards"] == 200 - full["duplicates"]
    assert full["indexed"] >= full["embedded"] > 0 and full["duplicates"] >= 35
    assert edit["processed"]["raw_documents"] == edit["processed"]["clean_documents"] == 2
    assert 0 < edit["indexed"] < full["indexed"] / 2
    assert edit["index"] != full["index"]
    assert edit["seconds"] == sorted(found["edits_seconds"])[1] and len(found["edits_seconds"]) == 3
    assert set(none["processed"].values()) == {0}
    assert (none["embedded"], none["indexed"]) == (0, 0) and none["index"] != full["index"]
    assert full["stages_peak_mb"]["clean_documents"] > 0  # others may be over between two looks
    assert "200 documents" in scale.show(found)
