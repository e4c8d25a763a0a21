"""A map of what is indexed: texts on the two axes along which their vectors differ most, and outliers.

Knows the lake's chunks and vectors, and draws nothing. What it costs is bounded by the sample and by
the largest shard, not by the corpus.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headwater.embeddings.embed import TABLE, vector_rows
from headwater.lake import Lake

#: Texts on a map: all pairs of so many are compared in a tenth of a second, and more dots on a
#: picture are one blot.
SAMPLE = 2_000
#: Shards are read until they hold this many times the sample, so that it has many documents.
_POOL = 4
#: Neighbours whose mean distance says how alone a text is.
NEIGHBOURS = 5

_COLUMNS = ["id", "uri", "source", "start", "end", "heading", "text", "embed_digest"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A text that is far from all others on the map: one page of a kind, or one that was read badly.

    `distance` is the mean cosine distance to its nearest neighbours, `nearest` the nearest one's
    document. `start` and `end` are byte offsets of the text in its document.
    """

    id: str
    uri: str
    start: int
    end: int
    heading: str
    text: str
    distance: float
    nearest: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingMap:
    """Distinct texts, each with its place, its document's source and its distance to the others.

    Args:
        points: shape (n, 2), in order of the texts' digests.
        variance: the share of all variance that each axis shows.
        sources: n names.
        distances: shape (n,), mean cosine distances to the nearest neighbours.
        fence: a text that is farther than this is an outlier.
        outliers: those, the farthest first.
        chunks: of the whole index; the map shows n distinct texts of them.
    """

    points: Floats
    variance: tuple[float, float]
    sources: tuple[str, ...]
    distances: Floats
    fence: float
    outliers: tuple[Outlier, ...]
    chunks: int


def embedding_map(
    lake: Lake, model: str, *, sample: int = SAMPLE, seed: int = 0
) -> EmbeddingMap | None:
    """The map of the chunks that the lake holds now, or None for fewer than three texts.

    Outliers are those beyond the upper fence of Tukey, Exploratory Data Analysis (1977), section 2D:
    the third quartile and one and a half times the distance between the quartiles.

    Args:
        model: digest of the embedding model whose vectors are taken.
        sample: at most this many texts.
        seed: of the sample; the same chunks give the same map.
    """
    rows, vectors, chunks = _sample(lake, model, sample, seed)
    if len(rows) < 3:
        return None
    distances, nearest = _neighbours(vectors)
    points, variance = principal_axes(vectors)
    low, high = np.quantile(distances, [0.25, 0.75])
    fence = float(high + 1.5 * (high - low))
    beyond = [at for at in np.argsort(-distances, kind="stable").tolist() if distances[at] > fence]
    return EmbeddingMap(
        points=points,
        variance=variance,
        sources=tuple(row["source"] for row in rows),
        distances=distances,
        fence=fence,
        outliers=tuple(
            Outlier(
                id=rows[at]["id"],
                uri=rows[at]["uri"],
                start=rows[at]["start"],
                end=rows[at]["end"],
                heading=rows[at]["heading"],
                text=rows[at]["text"],
                distance=float(distances[at]),
                nearest=rows[int(nearest[at])]["uri"],
            )
            for at in beyond
        ),
        chunks=chunks,
    )


def principal_axes(vectors: npt.NDArray[np.float32]) -> tuple[Floats, tuple[float, float]]:
    """Vectors on their first two principal components, and the share of variance of each.

    By the eigenvectors of the covariance (Jolliffe, Principal Component Analysis, 2002, chapter 1).
    The sign of a component is free: here its largest loading is positive.

    Args:
        vectors: shape (n, dimension), dimension > 1.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    scatter = centred.T @ centred
    values, loadings = np.linalg.eigh(scatter)
    axes = loadings[:, [-1, -2]]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, [0, 1]] < 0, -1.0, 1.0)
    total = float(np.trace(scatter))
    shares = [float(values[at]) / total if total > 0 else 0.0 for at in (-1, -2)]
    points: Floats = centred @ axes
    return points, (shares[0], shares[1])


def _neighbours(vectors: npt.NDArray[np.float32]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Mean cosine distance of each unit vector to its nearest others, and which is the nearest."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    count = min(NEIGHBOURS, len(vectors) - 1)
    best = np.partition(similar, -count, axis=1)[:, -count:]
    # An engine sums float32 in an order that varies: a distance is kept to what every order gives.
    distances: Floats = np.round(1 - best.mean(axis=1, dtype=np.float64), 5)
    return distances, similar.argmax(axis=1)


def _sample(
    lake: Lake, model: str, sample: int, seed: int
) -> tuple[list[dict[str, Any]], npt.NDArray[np.float32], int]:
    """Chunks of distinct texts with their vectors, in order of the texts' digests, and of how many.

    Documents are in shards by a hash of their URI, so some shards stand for all. A text that has no
    vector (the lake has just changed) is left out.
    """
    generator = np.random.default_rng(seed)
    counts = Counter(lake.read("document_shards", columns=["shard"])["shard"].to_pylist())
    names = sorted(counts)
    chosen: list[str] = []
    for at in generator.permutation(len(names)).tolist():
        if sum(counts[name] for name in chosen) >= _POOL * sample:
            break
        chosen.append(names[at])
    where = {"shard": chosen}
    light = lake.read("document_shards", columns=["id", "embed_digest"], where=where)
    first: dict[str, str] = {}
    for row in light.sort_by("id").to_pylist():
        first.setdefault(row["embed_digest"], row["id"])
    digests = sorted(first)
    if len(digests) > sample:
        picked = generator.choice(len(digests), sample, replace=False)
        digests = [digests[at] for at in sorted(picked.tolist())]

    found = lake.read("document_shards", columns=_COLUMNS, where=where)
    ids = pa.array([first[digest] for digest in digests], pa.string())
    rows = found.filter(pc.is_in(found["id"], ids)).sort_by("embed_digest").to_pylist()
    columns = ["embed_digest", "vector"]
    stored = lake.read(TABLE, columns=columns, where={**where, "model": [model]})
    stored = stored.filter(pc.is_in(stored["embed_digest"], pa.array(digests, pa.string())))
    known = dict(
        zip(stored["embed_digest"].to_pylist(), vector_rows(stored["vector"]), strict=True)
    )
    rows = [row for row in rows if row["embed_digest"] in known]
    vectors = [known[row["embed_digest"]] for row in rows]
    return rows, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32), counts.total()
