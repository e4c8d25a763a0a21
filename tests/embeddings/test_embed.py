from collections import Counter

import numpy as np
import pytest

from headwater.embeddings import embed
from headwater.embeddings.embed import drop_unneeded, embed_chunks, vector_rows
from headwater.lake import Lake, rows_to_table
from headwater.records import shard_of
from headwater.snapshot import Snapshot
from tests.embeddings.examples import (
    WordEncoder,
    chunk,
    corpus,
    shard_keys,
    vector_keys,
    write_chunks,
)


class NoEncoder:
    """Fails when it is used: nothing may be encoded, so no model may be loaded."""

    digest = "words"

    def encode(self, texts, *, what=""):
        raise AssertionError(f"encodes {texts}")


def wanted(rows, model="words"):
    return {(row["shard"], row["embed_digest"], model) for row in rows}


def test_every_chunk_gets_the_vector_of_its_heading_and_text(lake, encoder):
    stats = embed_chunks(lake, shard_keys(), encoder)
    assert (stats.total, stats.embedded, stats.reused, stats.removed) == (8, 8, 0, 0)
    rows = lake.read("chunk_embeddings")
    vectors = dict(zip(rows["embed_digest"].to_pylist(), vector_rows(rows["vector"]), strict=True))
    for row in corpus():
        expected = WordEncoder().encode([f"{row['heading']}\n{row['text']}"])[0]
        np.testing.assert_array_equal(vectors[row["embed_digest"]], expected)


def test_nothing_new_loads_no_model_and_writes_nothing(lake, encoder):
    first = embed_chunks(lake, shard_keys(), encoder)
    version = lake.version("chunk_embeddings")
    again = embed_chunks(lake, shard_keys(), NoEncoder())
    assert (again.embedded, again.reused, again.shards_written) == (0, 8, ())
    assert again.digest == first.digest and again.shard_digests == first.shard_digests
    assert lake.version("chunk_embeddings") == version


def test_an_edit_embeds_one_chunk_and_writes_one_shard(lake, encoder):
    first = embed_chunks(lake, shard_keys(), encoder)
    rows = corpus()
    rows[1] = chunk("doc://raise", "Another text.", heading="raise")
    write_chunks(lake, rows)
    encoder.encoded.clear()
    stats = embed_chunks(lake, shard_keys(), encoder)
    assert encoder.encoded == ["raise\nAnother text."]
    assert (stats.embedded, stats.removed, stats.shards_written) == (1, 1, (rows[1]["shard"],))
    assert stats.digest != first.digest
    changed = {s for s in shard_keys() if stats.shard_digests[s] != first.shard_digests[s]}
    assert changed == {rows[1]["shard"]}
    assert vector_keys(lake) == wanted(rows)


def test_a_moved_span_with_the_same_text_embeds_nothing(lake, encoder):
    embed_chunks(lake, shard_keys(), encoder)
    write_chunks(lake, [{**row, "start": row["start"] + 7, "digest": "moved"} for row in corpus()])
    assert embed_chunks(lake, shard_keys(), NoEncoder()).shards_written == ()


def test_text_that_moves_to_another_shard_is_copied(lake, encoder):
    embed_chunks(lake, shard_keys(), encoder)
    rows = corpus()
    names = (f"doc://elsewhere/{n}" for n in range(99))
    moved = next(c for c in (chunk(n, rows[0]["text"], heading="with") for n in names)
                 if c["shard"] != rows[0]["shard"])  # fmt: skip
    write_chunks(lake, [moved, *rows[1:]])
    stats = embed_chunks(lake, shard_keys(), NoEncoder())
    assert (stats.embedded, stats.removed) == (0, 1)
    assert set(stats.shards_written) == {moved["shard"], rows[0]["shard"]}
    assert vector_keys(lake) == wanted([moved, *rows[1:]])


def test_a_repeated_text_is_embedded_once_and_stored_once_a_shard(tmp_path, encoder):
    lake = Lake(tmp_path / "other")
    rows = [chunk(f"doc://{n}", "The same.", ordinal=o) for n in range(12) for o in range(2)]
    write_chunks(lake, rows)
    stats = embed_chunks(lake, shard_keys(), encoder)
    assert (stats.total, stats.embedded, len(encoder.encoded)) == (24, 1, 1)
    assert vector_keys(lake) == wanted(rows)


def test_shards_run_one_by_one_give_the_same_table(lake, tmp_path):
    whole = embed_chunks(lake, shard_keys(), WordEncoder())
    other = Lake(tmp_path / "other")
    write_chunks(other, corpus())
    parts = [embed_chunks(other, [shard], WordEncoder()) for shard in shard_keys()]
    assert sum(part.embedded for part in parts) == 8
    assert parts[-1].digest == whole.digest
    assert {k: v for part in parts for k, v in part.shard_digests.items()} == whole.shard_digests
    assert vector_keys(other) == vector_keys(lake)


def test_another_model_replaces_all_vectors(lake, encoder):
    first = embed_chunks(lake, shard_keys(), encoder)
    stats = embed_chunks(lake, shard_keys(), WordEncoder("other"))
    assert (stats.embedded, stats.removed) == (8, 8)
    assert stats.digest != first.digest
    assert vector_keys(lake) == wanted(corpus(), "other")


def test_documents_and_shards_that_are_gone_leave_no_vectors(lake, encoder):
    embed_chunks(lake, shard_keys(), encoder)
    rows = [row for row in corpus() if row["shard"] == "00"][:1]
    write_chunks(lake, rows)
    stats = embed_chunks(lake, ["00"], NoEncoder())  # the other shards are no longer asked for
    assert vector_keys(lake) == wanted(rows)
    assert stats.total == len(rows)


def test_a_killed_run_is_continued(lake, tmp_path, monkeypatch):
    """The second of three blocks fails: the first is not encoded again, the end is the same."""
    monkeypatch.setattr(embed, "COMMIT_EVERY", 3)
    monkeypatch.setattr(embed, "COMMIT_SECONDS", 0)

    class Dies(WordEncoder):
        def encode(self, texts, *, what=""):
            if self.encoded:
                raise KeyboardInterrupt
            return super().encode(texts, what=what)

    killed = Dies()
    with pytest.raises(KeyboardInterrupt):
        embed_chunks(lake, shard_keys(), killed)
    assert len(killed.encoded) == 3
    assert len(vector_keys(lake)) == 3
    encoder = WordEncoder()
    stats = embed_chunks(lake, shard_keys(), encoder)
    assert stats.embedded == len(encoder.encoded) == 5
    assert not Counter(killed.encoded) & Counter(encoder.encoded)

    undisturbed = Lake(tmp_path / "undisturbed")
    write_chunks(undisturbed, corpus())
    assert embed_chunks(undisturbed, shard_keys(), WordEncoder()).digest == stats.digest
    ours, theirs = lake.read("chunk_embeddings"), undisturbed.read("chunk_embeddings")
    order = [("shard", "ascending"), ("embed_digest", "ascending")]
    assert ours.sort_by(order).equals(theirs.sort_by(order))


def test_an_empty_lake_is_an_empty_table(tmp_path):
    lake = Lake(tmp_path / "empty")
    stats = embed_chunks(lake, shard_keys(), NoEncoder())
    assert (stats.total, stats.embedded, stats.shards_written) == (0, 0, ())
    assert len(lake.read("chunk_embeddings")) == 0
    assert set(stats.shard_digests) == set(shard_keys())


def resharded(rows: list[dict], shards: int) -> list[dict]:
    return [{**row, "shard": shard_of(row["uri"], shards)} for row in rows]


@pytest.mark.parametrize("commit_every", [1024, 2])
@pytest.mark.parametrize("shards", [1, 3, 7, 64])
def test_another_number_of_shards_embeds_nothing(
    tmp_path, encoder, monkeypatch, shards, commit_every
):
    """Whether the vectors are few enough to be lost, or are added first and moved then."""
    rows = [*corpus(), chunk("doc://twice", corpus()[0]["text"], heading="with")]
    lake, fresh = Lake(tmp_path / "lake"), Lake(tmp_path / "fresh")
    write_chunks(lake, rows)
    embed_chunks(lake, shard_keys(), encoder)
    monkeypatch.setattr(embed, "COMMIT_EVERY", commit_every)
    keys = [f"{index:02x}" for index in range(shards)]
    moved = resharded(rows, shards)
    for each in (lake, fresh):
        table = rows_to_table("document_shards", moved)
        each.replace("document_shards", table, keys=[*keys, *shard_keys()])
    stats = embed_chunks(lake, keys, NoEncoder())
    assert (stats.embedded, stats.total) == (0, 9)
    assert vector_keys(lake) == wanted(moved)
    assert stats.digest == embed_chunks(fresh, keys, WordEncoder()).digest
    assert embed_chunks(lake, keys, NoEncoder()).shards_written == ()
    order = [("shard", "ascending"), ("embed_digest", "ascending")]
    ours, theirs = (each.read("chunk_embeddings").sort_by(order) for each in (lake, fresh))
    assert ours.equals(theirs)


def test_a_kill_while_vectors_move_loses_none(lake, encoder, monkeypatch):
    embed_chunks(lake, shard_keys(), encoder)
    moved = resharded(corpus(), 3)
    write_chunks(lake, moved)
    monkeypatch.setattr(embed, "COMMIT_EVERY", 2)

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(embed._Run, "settle", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_chunks(lake, shard_keys()[:3], NoEncoder())
    monkeypatch.undo()
    embed_chunks(lake, shard_keys()[:3], NoEncoder())
    assert vector_keys(lake) == wanted(moved)


def test_many_commits_leave_few_files(tmp_path, monkeypatch):
    rows = [chunk(f"doc://{n}", f"Text number {n}.") for n in range(60)]
    whole, parts = Lake(tmp_path / "whole"), Lake(tmp_path / "parts")
    for each in (whole, parts):
        write_chunks(each, rows)
    digest = embed_chunks(whole, shard_keys(), WordEncoder()).digest
    monkeypatch.setattr(embed, "COMMIT_EVERY", 1)
    monkeypatch.setattr(embed, "COMMIT_SECONDS", 0)
    stats = embed_chunks(parts, shard_keys(), WordEncoder())
    assert (stats.embedded, stats.digest) == (60, digest)
    files = parts.snapshot("chunk_embeddings").files
    assert max(len(names) for names in files.values()) <= embed.MOST_FILES
    assert vector_keys(parts) == wanted(rows)


def test_shards_at_rest_are_not_read(lake, encoder, monkeypatch):
    first = embed_chunks(lake, shard_keys(), encoder)
    read = []
    real = Snapshot.partition
    monkeypatch.setattr(
        Snapshot, "partition", lambda self, *rest: read.append(self.name) or real(self, *rest)
    )
    again = embed_chunks(lake, shard_keys(), NoEncoder())
    assert read == []
    assert (again.digest, again.total, again.reused) == (first.digest, 8, 8)


def many(edited: int) -> list[dict]:
    """Forty chunks; the first ones can be others."""
    texts = [f"Text {n} {'edited' if n < edited else 'as it was'}." for n in range(40)]
    return [chunk("doc://one", text, ordinal=n) for n, text in enumerate(texts)]


def test_a_small_edit_writes_its_vectors_alone(lake, encoder, tmp_path):
    write_chunks(lake, many(0))
    embed_chunks(lake, shard_keys(), encoder)
    (before,) = lake.snapshot("chunk_embeddings").files.values()
    write_chunks(lake, many(2))
    stats = embed_chunks(lake, shard_keys(), encoder)
    (files,) = lake.snapshot("chunk_embeddings").files.values()
    assert set(before) < set(files) and len(files) == len(before) + 1
    assert (stats.embedded, stats.removed, lake.read("chunk_embeddings").num_rows) == (2, 0, 42)
    again = embed_chunks(lake, shard_keys(), NoEncoder())
    assert again.shards_written == () and again.digest == stats.digest
    # What is not needed any more is no content.
    fresh = Lake(tmp_path / "fresh")
    write_chunks(fresh, many(2))
    assert embed_chunks(fresh, shard_keys(), WordEncoder()).digest == stats.digest

    assert drop_unneeded(lake) == 2
    assert vector_keys(lake) == wanted(many(2))
    assert drop_unneeded(lake) == 0
    after = embed_chunks(lake, shard_keys(), NoEncoder())
    assert after.shards_written == () and after.digest == stats.digest


def test_what_many_edits_leave_is_dropped(lake, encoder):
    write_chunks(lake, many(0))
    embed_chunks(lake, shard_keys(), encoder)
    removed = []
    for edited in range(1, 12):
        write_chunks(lake, many(edited))
        removed.append(embed_chunks(lake, shard_keys(), encoder).removed)
        rows = lake.read("chunk_embeddings").num_rows
        assert rows - 40 <= embed.MOST_UNNEEDED * 40
    assert sum(removed) == 40 + 11 - rows
    (files,) = lake.snapshot("chunk_embeddings").files.values()
    assert len(files) <= embed.MOST_FILES


def test_a_kill_before_the_end_drops_no_fewer(lake, encoder, monkeypatch):
    """What is dropped depends on what is needed, not on what a killed run has added."""
    write_chunks(lake, many(0))
    embed_chunks(lake, shard_keys(), encoder)
    write_chunks(lake, many(6))
    monkeypatch.setattr(embed, "COMMIT_EVERY", 3)
    monkeypatch.setattr(embed, "MOST_UNNEEDED", 0.14)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(embed._Run, "settle", interrupt)
        embed_chunks(lake, shard_keys(), encoder)
    assert lake.read("chunk_embeddings").num_rows == 46
    assert embed_chunks(lake, shard_keys(), NoEncoder()).removed == 6
    assert vector_keys(lake) == wanted(many(6))


def interrupt(*_):
    raise KeyboardInterrupt
