"""Models as a resource: loaded when first used, then kept for the life of the process."""

from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import dagster as dg

from headwater.base_model import BaseModel, prepare
from headwater.embeddings.encoder import AnyEncoder, open_encoder
from headwater.embeddings.rerank import Reranker, open_reranker
from headwater.embeddings.retrieve import Retriever, open_retriever, retrieval_settings
from headwater.embeddings.store import VectorStore
from headwater.engine import Engine
from headwater.settings import Settings

_encoder = lru_cache(maxsize=1)(open_encoder)


@lru_cache(maxsize=1)
def _reranker(settings: Settings, wanted: str) -> Reranker | None:
    encoder = _encoder(settings.embedding_model, settings.threads, settings.encoders)
    return open_reranker(settings, wanted, encoder)


@lru_cache(maxsize=1)
def _base(settings: Settings, name: str) -> BaseModel:
    return prepare(settings.model_copy(update={"base_model": name}))


class ModelsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The embedding model, the reranker, the base model and the engine of this installation."""

    def encoder(self) -> AnyEncoder:
        """The embedding model; its weights are loaded at the first text."""
        settings = Settings()
        return _encoder(settings.embedding_model, settings.threads, settings.encoders)

    def retriever(self, store: VectorStore) -> AbstractContextManager[Retriever]:
        """Retrieval over the newest index, as a release that is made now finds passages."""
        settings = Settings()
        how = retrieval_settings(settings)
        reranker = _reranker(settings, how.reranker)
        return open_retriever(store, self.encoder(), settings=how, reranker=reranker)

    def base(self) -> BaseModel:
        """The base model that the recipe (or else the settings) names, digest checked."""
        from training.recipe import load_recipe

        settings = Settings()
        return _base(settings, load_recipe(settings.recipe).base or settings.base_model)

    def engine(self, adapter: Path | None = None) -> Engine:
        """A generation engine over the base model; the caller closes it.

        Args:
            adapter: a GGUF adapter that requests may switch on.
        """
        return Engine(self.base().engine, adapter, threads=Settings().threads)
