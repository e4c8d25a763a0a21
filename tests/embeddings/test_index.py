import json
import logging

import pyarrow as pa
import pytest

from headwater.embeddings import bm25, index
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.embed import TABLE, embed_chunks
from headwater.embeddings.index import publish_index
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import digest_of
from tests.embeddings.examples import WordEncoder, chunk, corpus, shard_keys, write_chunks


@pytest.fixture
def store(tmp_path) -> EdgeStore:
    return EdgeStore(tmp_path / "indexes")


def publish(lake, store, rows=None, **options):
    if rows is not None:
        write_chunks(lake, rows)
    embed_chunks(lake, shard_keys(), WordEncoder())
    return publish_index(lake, store, model_digest="words", **options)


def test_publishes_all_chunks_under_their_digest(lake, store):
    stats = publish(lake, store)
    assert (stats.points, stats.added, stats.removed, stats.reused) == (8, 8, 0, False)
    assert store.versions() == [stats.version]
    index = store.open(stats.version)
    assert index.count() == 8
    (vector,) = WordEncoder().encode(["lambda\nLambda expressions create anonymous functions."])
    best = index.dense(vector, 1)[0]
    assert (best.uri, best.score) == ("doc://lambda", pytest.approx(1, abs=1e-5))
    index.close()


def test_the_same_corpus_is_not_published_again(lake, store, tmp_path):
    first = publish(lake, store)
    again = publish(lake, store)
    assert again.version == first.version and again.reused and again.added == 0
    other = Lake(tmp_path / "other")
    assert publish(other, EdgeStore(tmp_path / "x"), corpus()[::-1]).version == first.version


def test_a_corpus_that_comes_back_is_the_newest_version(lake, store):
    first = publish(lake, store)
    second = publish(lake, store, corpus()[:-1])
    back = publish(lake, store, corpus())
    assert back.version == first.version and back.reused
    assert store.versions() == [second.version, first.version]


def test_work_is_proportional_to_the_edit(lake, store):
    publish(lake, store)
    rows = corpus()
    rows[1] = chunk("doc://raise", "An edited text.", heading="raise")
    stats = publish(lake, store, rows[:-1])
    assert (stats.points, stats.added, stats.removed) == (7, 1, 1)


def test_a_moved_span_updates_the_payload(lake, store):
    first = publish(lake, store)
    rows = corpus()
    rows[1] = chunk("doc://raise", rows[1]["text"], heading="raise", start=99)
    write_chunks(lake, rows)
    assert embed_chunks(lake, shard_keys(), WordEncoder()).embedded == 0
    stats = publish(lake, store)
    assert stats.version != first.version and stats.added == 1
    index = store.open(stats.version)
    assert index.bm25("exception", 1)[0].start == 99
    index.close()


def test_vectors_of_another_model_lie_in_the_same_file(lake, store):
    first = publish(lake, store)
    rows = lake.read(TABLE)
    other = pa.Table.from_pylist(
        [{**row, "model": "other", "vector": [1.0, 2.0, 3.0]} for row in rows.to_pylist()],
        schema=rows.schema,
    )
    lake.replace(TABLE, pa.concat_tables([other, rows]), keys=shard_keys())
    store.delete(first.version)
    again = publish_index(lake, store, model_digest="words")
    assert again.version == first.version
    index = store.open(again.version)
    (vector,) = WordEncoder().encode(["lambda\nLambda expressions create anonymous functions."])
    assert index.dense(vector, 1)[0].score == pytest.approx(1, abs=1e-5)
    index.close()


def test_chunks_without_vectors_are_an_error(lake, store):
    write_chunks(lake, corpus())
    with pytest.raises(HeadwaterError, match="no vector of this embedding model"):
        publish_index(lake, store, model_digest="words")
    assert store.versions() == []


def test_an_empty_corpus_is_an_error(tmp_path, store):
    with pytest.raises(HeadwaterError, match="no chunks"):
        publish_index(Lake(tmp_path / "none"), store, model_digest="words")


def test_old_versions_go_unless_a_release_names_them(lake, store):
    versions = []
    for n in range(4):
        rows = [*corpus(), chunk("doc://n", f"Number {n}.")]
        kept = versions[:1]
        versions.append(publish(lake, store, rows, keep=kept, keep_versions=2).version)
    assert store.versions() == [versions[0], versions[2], versions[3]]


def test_a_damaged_base_is_not_built_upon(lake, store, caplog):
    first = publish(lake, store)
    manifest = store.root / first.version / "index.json"
    content = json.loads(manifest.read_text())
    content["files"] = dict.fromkeys(content["files"], "0" * 64)
    manifest.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "headwater"):
        stats = publish(lake, store, corpus()[:-1])
    assert "from scratch" in caplog.text and "damaged" in caplog.text
    assert (stats.points, stats.added) == (7, 7)
    store.verify(stats.version)


def test_the_version_is_named_by_every_chunk(lake, store):
    stats = publish(lake, store)
    digests = lake.read("document_shards")["digest"].to_pylist()
    made_with = digest_of(index.STAGE_VERSION, "words", bm25.DIGEST)
    assert stats.version == digest_of(made_with, sorted(digests))


def test_another_model_builds_upon_nothing(lake, store):
    first = publish(lake, store)
    embed_chunks(lake, shard_keys(), WordEncoder("other"))
    other = publish_index(lake, store, model_digest="other")
    assert (other.points, other.added, other.removed) == (8, 8, 0)
    assert other.version != first.version


def test_chunks_that_are_published_are_not_read(lake, store, monkeypatch):
    first = publish(lake, store)

    def read(*_):
        raise AssertionError("it reads the chunks")

    monkeypatch.setattr(index, "_Source", read)
    again = publish_index(lake, store, model_digest="words")
    assert (again.version, again.points, again.reused) == (first.version, 8, True)
    with pytest.raises(AssertionError):
        publish_index(lake, store, model_digest="other")
    store.delete(first.version)
    with pytest.raises(AssertionError):
        publish_index(lake, store, model_digest="words")
