"""Licence and access tags travel with a document into every table, and change no name without."""

import deltalake

from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.kinds.base import Entry
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource, list_items, listing_digest
from tests.documents.examples import MODEL, Corpus

TABLES = ("raw_documents", "clean_documents", "document_shards")


def build(corpus: Corpus, **fields):
    source = FolderSource(name="docs", path=corpus.folder, **fields)
    raw = update_raw(corpus.lake, [source], corpus.keys(), corpus.shards, 2**20)
    clean = clean_documents(corpus.lake, corpus.keys(), 2**20)
    return raw, clean, shard_documents(corpus.lake, corpus.keys(), 64, MODEL)


def tags(corpus: Corpus):
    return [
        {(row["licence"], tuple(row["access"] or ())) for row in corpus.rows(table)}
        for table in TABLES
    ]


def test_tags_are_a_set_of_words():
    assert Entry(name="a", access="restricted").access == ("restricted",)
    assert Entry(name="a", access=["b", "a", "b"]).access == ("a", "b")


def test_tags_of_a_source_reach_every_table_and_leave_it_again(three: Corpus):
    plain = build(three)
    assert tags(three) == [{("unknown", ())}] * 3
    tagged = build(three, licence="MIT", access=["restricted", "hr"])
    assert tags(three) == [{("MIT", ("hr", "restricted"))}] * 3
    assert [stage.processed for stage in tagged] == [3, 3, 3]
    assert all(new.digest != old.digest for new, old in zip(tagged, plain, strict=True))
    again = build(three, licence="MIT", access=["hr", "restricted"])
    assert [stage.processed for stage in again] == [0, 0, 0]
    ids = {row["id"] for row in three.rows("document_shards")}
    cleared = build(three)
    assert tags(three) == [{("unknown", ())}] * 3
    assert [stage.digest for stage in cleared] == [stage.digest for stage in plain]
    assert {row["id"] for row in three.rows("document_shards")} == ids


def test_a_listing_tells_that_a_tag_was_given(three: Corpus):
    source = FolderSource(name="docs", path=three.folder)
    tagged = source.model_copy(update={"access": ("restricted",)})
    assert listing_digest(list_items(tagged)) != listing_digest(list_items(source))


def test_tables_without_the_columns_are_read_and_get_them(three: Corpus):
    """An installation of the version before: null is no tags, and nothing is parsed again."""
    before = build(three)
    for table in TABLES:
        rows = three.lake.read(table).drop_columns(["access"])
        path = str(three.lake.path(table))
        deltalake.write_deltalake(
            path, rows, mode="overwrite", schema_mode="overwrite", partition_by=["shard"]
        )
    after = build(three)
    assert [stage.processed for stage in after] == [0, 0, 0]
    assert [stage.digest for stage in after] == [stage.digest for stage in before]
    assert [stage.processed for stage in build(three, access="restricted")] == [3, 3, 3]
    assert {access for _, access in tags(three)[2]} == {("restricted",)}


def poor(corpus: Corpus) -> None:
    """One document too large to be read, one that cannot be parsed, one that is poor in words."""
    corpus.write("large.txt", "x" * 5000)
    corpus.write("empty.txt", "")
    corpus.write("poor.txt", "12 34 56 78 90\n" * 30)


def turn_away(corpus: Corpus, **fields):
    source = FolderSource(name="docs", path=corpus.folder, **fields)
    update_raw(corpus.lake, [source], corpus.keys(), corpus.shards, 4000)
    clean_documents(corpus.lake, corpus.keys(), 2**20, quality_filter="filter")


def test_what_is_turned_away_keeps_licence_and_tags(three: Corpus):
    poor(three)
    turn_away(three, licence="MIT", access=["hr"])
    rows = three.rows("quarantine")
    assert {row["stage"] for row in rows} == {"raw", "clean", "filter"}
    assert {(row["licence"], *row["access"]) for row in rows} == {("MIT", "hr")}
    turn_away(three, licence="MIT")
    rows = three.rows("quarantine")
    assert {(row["licence"], row["access"]) for row in rows} == {("MIT", None)}


def test_a_quarantine_without_the_columns_gets_them_where_a_shard_is_looked_at(three: Corpus):
    poor(three)
    turn_away(three, licence="MIT", access=["hr"])
    rows = three.lake.read("quarantine")
    old, path = rows.drop_columns(["licence", "access"]), str(three.lake.path("quarantine"))
    deltalake.write_deltalake(
        path, old, mode="overwrite", schema_mode="overwrite", partition_by=["shard"]
    )
    assert {row["licence"] for row in three.rows("quarantine")} == {None}
    turn_away(three, licence="MIT", access=["hr"])
    assert (
        three.lake.read("quarantine").sort_by("uri").to_pylist() == rows.sort_by("uri").to_pylist()
    )
