"""Index versions on a Qdrant server, by qdrant-client: the interface of `edge` where one machine
is too small.

A version is a collection that is filled first and then given its name, an alias, in one step: what
has no alias is not published. Local mode (`:memory:`) is for tests; it emulates a server and is
never given a path, because it unpickles what it finds on disk.
"""

import time
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING

from headwater.embeddings import bm25
from headwater.embeddings.store import (
    BATCH,
    DENSE,
    MARGIN,
    SPARSE,
    BuildStats,
    Contents,
    Point,
    Vector,
    batches,
    no_version,
    point_key,
    to_hits,
)
from headwater.errors import HeadwaterError, IntegrityError
from headwater.progress import track
from headwater.records import Hit, short

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.models import PointStruct, SparseVector

PREFIX = "headwater-"


class ServerStore:
    """Versions as aliases `headwater-<version>` of a server.

    Args:
        client: a connected `QdrantClient`; indexes that are open share it.
        prefix: of the names of all its collections and aliases; others on the server are left alone.
    """

    def __init__(self, client: "QdrantClient", prefix: str = PREFIX) -> None:
        self.client = client
        self.prefix = prefix

    @classmethod
    def connect(cls, url: str, key: str | None = None, prefix: str = PREFIX) -> "ServerStore":
        """A store on the server at `url`.

        Args:
            key: what the server asks for, if it does.

        Raises:
            HeadwaterError: none answers, or it refuses.
        """
        from qdrant_client import QdrantClient
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        client = QdrantClient(url=url, api_key=key, check_compatibility=False, timeout=60)
        try:
            client.get_aliases()
        except ResponseHandlingException as error:
            raise HeadwaterError(
                f"No Qdrant server answers at {url}: {error}.",
                mend="Start it, or set HEADWATER_VECTORS=edge or HEADWATER_QDRANT_URL.",
            ) from error
        except UnexpectedResponse as error:
            refused = error.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
            raise HeadwaterError(
                f"What answers at {url} says {error.status_code} {error.reason_phrase}.",
                mend="Set HEADWATER_QDRANT_API_KEY to a key that may write."
                if refused
                else "See that HEADWATER_QDRANT_URL names a Qdrant server.",
            ) from error
        return cls(client, prefix)

    def versions(self) -> list[str]:
        """Published versions, the newest last."""
        published = self._published().items()
        return [v for _, v in sorted((self._metadata(c)["renewed"], v) for v, c in published)]

    def renew(self, version: str) -> None:
        """Make a published version the newest."""
        collection = self._collection(version)
        self.client.update_collection(collection, metadata={"renewed": time.time_ns()})

    def build(self, version: str, contents: Contents, *, base: str | None = None) -> BuildStats:
        """Fill a new collection and publish it. A server copies no collections: `base` is unused
        and all points are sent.
        """
        from qdrant_client.models import CreateAlias, CreateAliasOperation

        if version in self._published():
            return BuildStats(points=self._count(self.prefix + version), added=0, removed=0)
        self._drop_unfinished(version)
        count = len(contents.points)
        collection = f"{self.prefix}{version}-{time.time_ns()}"
        self._create(collection, contents.dimension, count)
        total = -(-count // BATCH)
        points = contents.fetch(range(count))
        for batch in track(batches(range(count)), what="indexing (batches of chunks)", total=total):
            some = [_point(point) for point in islice(points, len(batch))]
            self.client.upsert(collection, some, wait=True)
        self._check(version, collection)
        alias = CreateAlias(collection_name=collection, alias_name=self.prefix + version)
        self.client.update_collection_aliases([CreateAliasOperation(create_alias=alias)])
        return BuildStats(points=count, added=count, removed=0)

    def open(self, version: str) -> "ServerIndex":
        """A handle on a published version."""
        self._collection(version)
        return ServerIndex(version, self.client, self.prefix + version)

    def delete(self, version: str) -> None:
        """Remove a version: its name first, then its data."""
        from qdrant_client.models import DeleteAlias, DeleteAliasOperation

        collection = self._published().get(version)
        if collection is not None:
            alias = DeleteAlias(alias_name=self.prefix + version)
            self.client.update_collection_aliases([DeleteAliasOperation(delete_alias=alias)])
            self.client.delete_collection(collection)

    def verify(self, version: str) -> None:
        """Compare the number of points with what was published; the server checks its bytes."""
        self._check(version, self._collection(version))

    def _published(self) -> dict[str, str]:
        """Collection of each published version."""
        aliases = self.client.get_aliases().aliases
        return {
            alias.alias_name.removeprefix(self.prefix): alias.collection_name
            for alias in aliases
            if alias.alias_name.startswith(self.prefix)
        }

    def _collection(self, version: str) -> str:
        collection = self._published().get(version)
        if collection is None:
            raise no_version(version, "the Qdrant server")
        return collection

    def _create(self, collection: str, dimension: int, points: int) -> None:
        from qdrant_client.models import Distance, Modifier, SparseVectorParams, VectorParams

        self.client.create_collection(
            collection,
            vectors_config={DENSE: VectorParams(size=dimension, distance=Distance.COSINE)},
            sparse_vectors_config={SPARSE: SparseVectorParams(modifier=Modifier.IDF)},
            metadata={"points": points, "renewed": time.time_ns()},
        )

    def _check(self, version: str, collection: str) -> None:
        points = self._count(collection)
        expected = self._metadata(collection)["points"]
        if points != expected:
            raise IntegrityError(
                f"Index {short(version)} has {points} points, not {expected}.",
                mend=f"Delete the collection {collection} and run `headwater build`.",
            )

    def _metadata(self, collection: str) -> dict[str, int]:
        return dict(self.client.get_collection(collection).config.metadata or {})

    def _drop_unfinished(self, version: str) -> None:
        for collection in self.client.get_collections().collections:
            if collection.name.startswith(f"{self.prefix}{version}-"):
                self.client.delete_collection(collection.name)

    def _count(self, collection: str) -> int:
        return self.client.count(collection, exact=True).count


class ServerIndex:
    """A published version on a server, by its alias."""

    def __init__(self, version: str, client: "QdrantClient", alias: str) -> None:
        self.version = version
        self._client = client
        self._alias = alias

    def dense(self, vector: Vector, limit: int) -> list[Hit]:
        """Nearest chunks by cosine similarity."""
        return self._search(vector.tolist(), DENSE, limit)

    def bm25(self, text: str, limit: int) -> list[Hit]:
        """Best chunks by BM25."""
        from qdrant_client.models import SparseVector

        indices, values = bm25.query_weights(text)
        if not indices:
            return []
        return self._search(SparseVector(indices=indices, values=values), SPARSE, limit)

    def count(self) -> int:
        """Number of points."""
        return self._client.count(self._alias, exact=True).count

    def close(self) -> None:
        """Nothing to free: the connection is the store's."""

    def _search(self, vector: "list[float] | SparseVector", using: str, limit: int) -> list[Hit]:
        found = self._client.query_points(
            self._alias, query=vector, using=using, limit=limit + MARGIN
        )
        return to_hits([(point.score, point.payload or {}) for point in found.points], limit)


def _point(point: Point) -> "PointStruct":
    from qdrant_client.models import PointStruct, SparseVector

    indices, values = bm25.document_weights(point.payload)
    return PointStruct(
        id=point_key(point.id),
        vector={
            DENSE: point.vector.tolist(),
            SPARSE: SparseVector(indices=indices, values=values),
        },
        payload={**point.payload, "digest": point.digest},
    )
