"""What a vector store is: index versions that are built whole, published at once, then only read.

Knows no backend but by name: Qdrant Edge in process (`edge`), a Qdrant server (`server`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwater.errors import HeadwaterError
from headwater.records import Hit, digest_bytes, short

if TYPE_CHECKING:
    from headwater.settings import Settings

#: Names of the two vectors of a point.
DENSE, SPARSE = "dense", "bm25"
#: Hits that are asked for beyond the limit, so that a tie at its edge is broken by id.
MARGIN = 16
#: Points that are read, sent or written at a time.
BATCH = 512

#: What a payload holds besides the point's digest: the fields of `Hit` but the score.
HIT_FIELDS = ("id", "uri", "title", "heading", "start", "end", "text")

#: The list of an index's points: digests as their bytes.
POINTS = pa.schema([("id", pa.binary(32)), ("digest", pa.binary(32))])

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A chunk in an index: its unit vector, and the payload that answers are made from.

    `id` and `digest` are digests in hexadecimal; `digest` names everything that is stored. `payload` holds
    the fields of `Hit` but the score.
    """

    id: str
    digest: str
    vector: Vector
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index version shall hold, and how to get it.

    Attributes:
        dimension: of the vectors.
        points: `id` and `digest` of each point, as `POINTS` has them.
        fetch: yields the points of some rows of `points`, in their order, as they are taken; a build that
            starts from an earlier version asks for those alone that differ.
        made_with: names what points depend on besides. A version that is made with something else has
            none of these points, whatever their digests.
    """

    dimension: int
    points: pa.Table
    fetch: Callable[[Sequence[int]], Iterator[Point]]
    made_with: str = ""


def point_list(points: Sequence[Point]) -> pa.Table:
    """Points as `POINTS` has them."""
    ids = [bytes.fromhex(point.id) for point in points]
    return pa.table([ids, [bytes.fromhex(point.digest) for point in points]], schema=POINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStats:
    """`added` points were written (new or changed), `removed` ones deleted from the base."""

    points: int
    added: int
    removed: int


class Index(Protocol):
    """One published version, open for reading from several threads.

    Hits come best first; equal scores are in order of id, so that every backend and every way to
    build the same version gives the same answer.
    """

    @property
    def version(self) -> str: ...

    def dense(self, vector: Vector, limit: int) -> list[Hit]:
        """Nearest chunks by cosine similarity, which is the score."""

    def bm25(self, text: str, limit: int) -> list[Hit]:
        """Best chunks by BM25; chunks without any of the words are no hits."""

    def count(self) -> int:
        """Number of points."""

    def close(self) -> None:
        """Free what the index holds; it answers no more."""


class VectorStore(Protocol):
    """The versions of one installation's index."""

    def build(self, version: str, contents: Contents, *, base: str | None = None) -> BuildStats:
        """Build and publish a version; nothing is published unless all of it is.

        Args:
            base: a published version to start from, which makes the work proportional to what
                changed (a backend that cannot use it builds from scratch).
        """

    def open(self, version: str) -> Index:
        """Open a published version. Raises HeadwaterError where there is none."""

    def renew(self, version: str) -> None:
        """Make a published version the newest: what the lake holds now is what it held before."""

    def versions(self) -> list[str]:
        """Published versions, the newest last."""

    def delete(self, version: str) -> None:
        """Remove a version that nobody has open. Does nothing where there is none."""

    def verify(self, version: str) -> None:
        """Raise IntegrityError unless the version is whole and as it was published."""


def open_store(settings: "Settings") -> VectorStore:
    """The vector store that `HEADWATER_VECTORS` names."""
    if settings.vectors == "qdrant":
        from headwater.embeddings.server import ServerStore

        key = settings.qdrant_api_key
        secret = key.get_secret_value() if key else None
        return ServerStore.connect(settings.qdrant_url, secret)
    from headwater.embeddings.edge import EdgeStore

    return EdgeStore(settings.indexes, threads=settings.threads)


def no_version(version: str, place: str) -> HeadwaterError:
    """The error for a version that is not published."""
    what = f"There is no index version {short(version)} in {place}."
    return HeadwaterError(what, mend="Run `headwater build`.")


def point_key(chunk_id: str) -> str:
    """A chunk's id as the UUID that Qdrant asks for."""
    return str(UUID(digest_bytes(chunk_id.encode())[:32]))


def to_hits(scored: Sequence[tuple[float, Mapping[str, Any]]], limit: int) -> list[Hit]:
    """The best `limit` of scored payloads, best first, ties in order of id.

    Scores are rounded to five decimals first: an engine sums float32 in an order that varies.
    """
    hits = [
        Hit(score=round(float(score), 5), **{name: payload[name] for name in HIT_FIELDS})
        for score, payload in scored
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:limit]


def batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Numbers of rows in runs of `BATCH`."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
