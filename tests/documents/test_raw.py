import os
from dataclasses import asdict

import pytest

from headwater.documents import raw
from headwater.documents.raw import foresee, update_raw
from headwater.documents.sources import FolderSource, PackageSource, list_items
from headwater.errors import HeadwaterError
from tests.documents.examples import SHARDS, Corpus


def test_bytes_are_stored_once_and_read_only_when_the_listing_changed(three: Corpus):
    first = three.raw()
    assert (first.seen, first.processed, first.reused) == (3, 3, 0)
    rows = {row["uri"]: row for row in three.rows("raw_documents")}
    assert rows["docs:///plain.txt"]["content"] == (three.folder / "plain.txt").read_bytes()

    # A file whose status is unchanged is not opened, so it need not even be readable.
    before = three.lake.version("raw_documents")
    again = three.raw()
    assert (again.processed, again.reused, again.shards_written) == (0, 3, ())
    assert again.digest == first.digest
    assert three.lake.version("raw_documents") == before

    os.utime(three.folder / "plain.txt", ns=(1, 1))
    touched = three.raw()
    assert (touched.processed, touched.reused) == (1, 2)
    assert touched.digest == first.digest
    assert touched.shard_digests == first.shard_digests


def test_an_edit_writes_its_shard_alone(three: Corpus):
    first = three.raw()
    three.write("plain.txt", "Other text that replaces the chart.")
    stats = three.raw()
    (shard,) = [r["shard"] for r in three.rows("raw_documents") if r["uri"] == "docs:///plain.txt"]
    assert (stats.processed, stats.shards_written) == (1, (shard,))
    changed = {key for key in SHARDS if stats.shard_digests[key] != first.shard_digests[key]}
    assert changed == {shard}


def foreseen(corpus: Corpus, shards: int = 4) -> dict[str, dict[str, int]]:
    source = FolderSource(name="docs", path=corpus.folder)
    found = foresee(corpus.lake, [(source, list_items(source))], shards, 2**20)
    return {name: asdict(each) for name, each in found.items()}


def test_what_a_build_would_do_is_told_from_the_listing(three: Corpus):
    everything = sum(path.stat().st_size for path in three.folder.iterdir())
    nothing = {"new": 0, "changed": 0, "removed": 0, "unchanged": 0, "bytes": 0}
    assert foreseen(three) == {"docs": nothing | {"new": 3, "bytes": everything}}
    assert not (three.lake.root / "raw_documents").exists()
    three.write("empty.md", "x" * 2**21)  # turned away, and would be again
    stats = three.raw()
    assert (stats.processed, stats.quarantined) == (4, 1)
    version = three.lake.version("raw_documents")
    assert foreseen(three) == {"docs": nothing | {"unchanged": 4}}

    three.write("plain.txt", "Other text.")
    three.write("new.txt", "New text.")
    (three.folder / "notes.md").unlink()
    told = {"new": 1, "changed": 1, "removed": 1, "unchanged": 2, "bytes": 20}
    assert foreseen(three) == {"docs": told}
    assert three.lake.version("raw_documents") == version
    stats = three.raw()
    assert (stats.processed, stats.removed, stats.reused) == (2, 1, 2)
    # With another number of shards what lives in another one is read again, and nothing is gone.
    again = foreseen(three, shards=3)["docs"]
    assert again["removed"] == 0 and again["changed"] > 0


def test_shards_of_too_many_documents_are_told(three: Corpus, monkeypatch, caplog):
    three.raw()
    assert "HEADWATER_SHARDS" not in caplog.text
    monkeypatch.setattr(raw, "MANY", 0.5)
    three.raw()
    assert "3 documents in 4 shards" in caplog.text and "HEADWATER_SHARDS=1 " in caplog.text


def test_what_no_source_lists_is_removed(three: Corpus):
    three.raw()
    (three.folder / "notes.md").unlink()
    stats = three.raw()
    assert (stats.seen, stats.removed) == (2, 1)
    assert len(three.rows("raw_documents")) == 2
    update_raw(three.lake, [], three.keys(), 4, 2**20)
    assert three.rows("raw_documents") == []


def test_a_change_of_licence_reaches_the_rows(three: Corpus):
    first = three.raw()
    source = FolderSource(name="docs", path=three.folder, licence="MIT")
    stats = update_raw(three.lake, [source], three.keys(), 4, 2**20)
    assert {row["licence"] for row in three.rows("raw_documents")} == {"MIT"}
    assert stats.digest != first.digest


def test_too_large_is_quarantined_until_it_fits(three: Corpus):
    three.write("big.txt", "x" * 5000)
    stats = three.raw(max_bytes=4000)
    assert (stats.seen, stats.quarantined) == (4, 1)
    assert three.reasons() == {"big.txt": "too_large"}
    again = three.raw(max_bytes=4000)
    assert (again.processed, again.reused, again.quarantined) == (0, 4, 1)
    fits = three.raw(max_bytes=6000)
    assert (fits.processed, fits.quarantined) == (1, 0)
    assert three.reasons() == {}
    assert len(three.rows("raw_documents")) == 4


def test_a_document_that_grows_too_large_leaves_the_table(three: Corpus):
    three.raw()
    three.write("plain.txt", "x" * 5000)
    stats = three.raw(max_bytes=4000)
    assert (stats.removed, stats.quarantined) == (1, 1)
    assert len(three.rows("raw_documents")) == 2


def test_a_huge_sparse_file_is_not_read(three: Corpus):
    with (three.folder / "sparse.txt").open("wb") as file:
        file.truncate(2 * 2**30)
    three.raw()
    assert three.reasons() == {"sparse.txt": "too_large"}


def test_two_sources_cannot_hold_one_uri(corpus: Corpus):
    twins = [
        PackageSource(name=name, package="pydoc_data", object="topics.topics", base_uri="pydoc://")
        for name in ("a", "b")
    ]
    with pytest.raises(HeadwaterError, match="'a' and 'b' both hold"):
        update_raw(corpus.lake, twins, corpus.keys(), 4, 2**20)


def test_a_smaller_number_of_shards_leaves_no_document_twice(corpus: Corpus):
    for number in range(12):
        corpus.write(f"{number}.txt", f"Document number {number} about the harbour and its boats.")
    corpus.build()
    assert len({row["shard"] for row in corpus.rows("raw_documents")}) > 2
    corpus.shards = 2
    corpus.build()
    for table in ("raw_documents", "clean_documents", "document_shards"):
        rows = corpus.rows(table)
        assert len(rows) == 12, table
        assert {row["shard"] for row in rows} == {"00", "01"}
    fresh = Corpus(corpus.folder, type(corpus.lake)(corpus.lake.root.parent / "fresh"), shards=2)
    digests = [stats.digest for stats in fresh.build()]
    assert [stats.digest for stats in corpus.build()] == digests
