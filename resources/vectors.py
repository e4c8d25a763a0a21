"""The vector store as a resource: Qdrant Edge in process, or a Qdrant server."""

import dagster as dg

from headwater.embeddings.store import VectorStore, open_store
from headwater.settings import Settings


class VectorsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Index versions; the backend is the one that `HEADWATER_VECTORS` names."""

    def get(self) -> VectorStore:
        """A handle on the store of this installation."""
        return open_store(Settings())
