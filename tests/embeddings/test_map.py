"""The map of the index: true axes, the text that is alone, and work bounded by the sample."""

from collections.abc import Sequence

import numpy as np
import pytest

from headwater.embeddings.embed import TABLE, embed_chunks
from headwater.embeddings.map import embedding_map, principal_axes
from headwater.lake import Lake
from tests.embeddings.examples import (
    DIMENSION,
    SHARDS,
    WordEncoder,
    chunk,
    corpus,
    shard_keys,
    write_chunks,
)


class Crowd:
    """Vectors close to one direction, but for texts that begin with `alone`."""

    digest = "words"

    def encode(self, texts: Sequence[str], *, what: str = "") -> np.ndarray:
        noise = np.random.default_rng(3).normal(scale=0.05, size=(len(texts), DIMENSION))
        alone = [text.split("\n")[1].startswith("alone") for text in texts]
        vectors = noise + np.where(
            np.array(alone)[:, None], -np.eye(DIMENSION)[1], np.eye(DIMENSION)[0]
        )
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fill(lake: Lake, rows: Sequence[dict], encoder=None) -> Lake:
    write_chunks(lake, rows)
    embed_chunks(lake, shard_keys(), encoder or WordEncoder())
    return lake


def many(count: int) -> list[dict]:
    return [chunk(f"doc://{n}", f"Text of number {n}.", heading="H") for n in range(count)]


def test_the_axes_are_the_principal_components():
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    vectors *= np.array([1, 5, 2, 1, 9, 1], dtype=np.float32)
    points, variance = principal_axes(vectors)
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred)
    for at in range(2):
        axis = axes[at] * np.sign(axes[at][np.abs(axes[at]).argmax()])
        np.testing.assert_allclose(points[:, at], centred @ axis, atol=1e-6)
        assert variance[at] == pytest.approx(sizes[at] ** 2 / (sizes**2).sum())
    assert variance[0] > variance[1]


def test_a_text_that_is_far_from_all_others_is_an_outlier(lake):
    rows = [*many(40), chunk("doc://alone", "alone in the corpus", heading="Odd")]
    found = embedding_map(fill(lake, rows, Crowd()), "words")
    first = found.outliers[0]
    assert (first.uri, first.heading, first.text) == ("doc://alone", "Odd", "alone in the corpus")
    assert first.nearest != first.uri
    assert first.distance > 0.5 > found.fence > np.median(found.distances)
    assert len(found.outliers) == (found.distances > found.fence).sum() < 10
    assert (first.start, first.end) == next(
        (row["start"], row["end"]) for row in rows if row["uri"] == "doc://alone"
    )
    assert all(each.distance > found.fence for each in found.outliers)
    distances = [each.distance for each in found.outliers]
    assert distances == sorted(distances, reverse=True)


def test_places_belong_to_their_texts(lake):
    """Rows, vectors, sources and distances are in one order."""
    rows = [
        *({**row, "source": "many"} for row in many(20)),
        {**chunk("doc://alone", "alone", heading="Odd"), "source": "odd"},
    ]
    found = embedding_map(fill(lake, rows, Crowd()), "words")
    at = found.sources.index("odd")
    assert found.sources.count("odd") == 1
    assert found.distances.argmax() == at
    assert np.abs(found.points[:, 0] - np.median(found.points[:, 0])).argmax() == at


def test_a_repeated_text_is_one_point(lake):
    copies = [chunk(f"doc://copy/{n}", "The same.") for n in range(12)]
    found = embedding_map(fill(lake, [*copies, *corpus()]), "words")
    assert (len(found.sources), found.chunks) == (9, 20)
    assert found.points.shape == (9, 2) and found.distances.shape == (9,)
    assert found.distances.min() > 1e-3, "a text is no neighbour of itself"


def test_the_sample_is_bounded_and_the_same_each_time(lake, monkeypatch):
    fill(lake, many(60))
    whole = embedding_map(lake, "words")
    assert (len(whole.sources), whole.chunks) == (60, 60)
    read = []
    original = Lake.read

    def spy(self, name, **how):
        if name == TABLE:
            read.append(how["where"]["shard"])
        return original(self, name, **how)

    monkeypatch.setattr(Lake, "read", spy)
    found, again, other = (embedding_map(lake, "words", sample=3, seed=seed) for seed in (0, 0, 1))
    assert len(found.sources) == len(other.sources) == 3 and found.chunks == 60
    np.testing.assert_array_equal(found.points, again.points)
    assert not np.array_equal(found.distances, other.distances)
    assert all(len(shards) < SHARDS for shards in read), "not all shards are read"


def test_too_few_texts_make_no_map(lake, tmp_path):
    assert embedding_map(Lake(tmp_path / "empty"), "words") is None
    assert embedding_map(fill(lake, corpus()[:2]), "words") is None
    assert embedding_map(fill(lake, corpus()), "another model") is None


def test_vectors_that_are_all_the_same_have_a_map(lake):
    class Same(WordEncoder):
        def _vector(self, text):
            return np.eye(DIMENSION)[0]

    found = embedding_map(fill(lake, corpus(), Same()), "words")
    assert found.outliers == () and np.isfinite(found.points).all()
    assert np.isfinite(found.variance).all()
