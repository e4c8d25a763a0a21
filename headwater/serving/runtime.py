"""A release in memory: engine, index, encoder and prompt, loaded and checked together.

Knows how to load and free one; who uses it and when it is swapped is `swap`'s business.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from headwater.embeddings.encoder import AnyEncoder, model_digest, open_encoder
from headwater.embeddings.rerank import Reranker, open_reranker
from headwater.embeddings.retrieve import Found, RetrievalSettings, Retriever
from headwater.embeddings.store import Index, open_store
from headwater.engine import CONTEXT_TOKENS, Engine
from headwater.errors import HeadwaterError
from headwater.guardrails.guard import Guard, load_guard
from headwater.records import short
from headwater.release import manifest
from headwater.release.manifest import Release
from headwater.settings import Settings

log = logging.getLogger("headwater")

T = TypeVar("T")


class Shared(Generic[T]):
    """A value with several holders, closed by the last; `key` tells what it was made from."""

    def __init__(self, key: object, value: T, close: Callable[[T], None]) -> None:
        self.key, self.value = key, value
        self._close, self._holders, self._lock = close, 1, threading.Lock()

    def hold(self) -> "Shared[T]":
        """Become one more holder."""
        with self._lock:
            self._holders += 1
        return self

    def drop(self) -> None:
        """Cease to hold it."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._close(self.value)


class Retrieves(Protocol):
    """What an answer needs of retrieval; `headwater.embeddings.retrieve.Retriever` is one."""

    def find(self, question: str, *, limit: int) -> Found:
        """The best passages for a question, best first, and how near the index comes to it."""


class Runtime:
    """A loaded release. What two releases have in common they share in memory.

    Attributes:
        id: of the release.
    """

    def __init__(
        self,
        release: Release,
        retriever: Retrieves,
        engine: Shared[Engine],
        encoder: Shared[AnyEncoder],
        index: Shared[Index],
        *,
        guard: Guard,
        reranker: Shared[Reranker | None] | None = None,
    ) -> None:
        self.release, self.retriever, self.guard = release, retriever, guard
        self.id = release.id
        self.shared_engine, self.shared_encoder, self.shared_index = engine, encoder, index
        self.shared_reranker = reranker

    @property
    def engine(self) -> Engine:
        return self.shared_engine.value

    @property
    def encoder(self) -> AnyEncoder:
        return self.shared_encoder.value

    def close(self) -> None:
        """Free what no other runtime shares."""
        held = (self.shared_engine, self.shared_encoder, self.shared_index, self.shared_reranker)
        for shared in held:
            if shared is not None:
                shared.drop()


def load_runtime(settings: Settings, release_id: str, before: Runtime | None) -> Runtime:
    """Load a release, verified, and try it once so that the first question finds it warm.

    Args:
        before: the runtime in force; parts that are the same are shared, not loaded again.

    Raises:
        IntegrityError: a file or the index is not what the release names.
        HeadwaterError: something is missing, or was made for another embedding model.
    """
    started = time.perf_counter()
    release = manifest.load(settings, release_id)
    manifest.verify(settings, release)
    held: list[Shared[Any]] = []
    try:
        engine = _hold(held, before.shared_engine if before else None, *_engine(settings, release))
        encoder = _hold(
            held, before.shared_encoder if before else None, *_encoder(settings, release)
        )
        index = _hold(held, before.shared_index if before else None, *_index(settings, release))
        fields: dict[str, Any] = dict(release.retrieval)
        how = RetrievalSettings(**fields)
        reranker = _hold(
            held,
            before.shared_reranker if before else None,
            *_reranker(settings, release, how, encoder.value),
        )
        retriever = Retriever(index.value, encoder.value, how, reranker.value)
        guard = load_guard(settings, release.guardrails)
        runtime = Runtime(
            release, retriever, engine, encoder, index, guard=guard, reranker=reranker
        )
        _try(runtime)
    except BaseException:
        for shared in held:
            shared.drop()
        raise
    log.info("endpoint: release %s in %.1f s", short(release_id), time.perf_counter() - started)
    return runtime


def _hold(
    held: list[Shared[Any]],
    before: Shared[T] | None,
    key: object,
    make: Callable[[], T],
    close: Callable[[T], None],
) -> Shared[T]:
    """The earlier value where it was made from the same, else a new one."""
    same = before is not None and before.key == key
    shared = before.hold() if before is not None and same else Shared(key, make(), close)
    held.append(shared)
    return shared


def _engine(
    settings: Settings, release: Release
) -> tuple[object, Callable[[], Engine], Callable[[Engine], None]]:
    base, adapter = release.base_model, release.adapter
    key = (base.file_digest, adapter and adapter.file_digest)

    def make() -> Engine:
        return Engine(
            settings.root / base.file,
            settings.root / adapter.file if adapter else None,
            threads=settings.threads,
            context=CONTEXT_TOKENS,
        )

    return key, make, Engine.close


def _encoder(
    settings: Settings, release: Release
) -> tuple[object, Callable[[], AnyEncoder], Callable[[AnyEncoder], None]]:
    if model_digest(settings.embedding_model) != release.embedding_model:
        raise HeadwaterError(
            f"Release {short(release.id)} was made with another embedding model than"
            f" {settings.embedding_model}.",
            mend="Set HEADWATER_EMBEDDING_MODEL as it was, or run `headwater build`.",
        )

    def make() -> AnyEncoder:
        return open_encoder(settings.embedding_model, settings.threads, settings.encoders)

    return release.embedding_model, make, lambda _: None


def _reranker(
    settings: Settings, release: Release, how: RetrievalSettings, encoder: AnyEncoder
) -> tuple[object, Callable[[], Reranker | None], Callable[[Reranker | None], None]]:
    def make() -> Reranker | None:
        return open_reranker(settings, how.reranker, encoder)

    return (how.reranker, release.embedding_model), make, lambda _: None


def _index(
    settings: Settings, release: Release
) -> tuple[object, Callable[[], Index], Callable[[Index], None]]:
    def make() -> Index:
        return open_store(settings).open(release.index)

    return release.index, make, lambda index: index.close()


def _try(runtime: Runtime) -> None:
    """One search and one token: what cannot answer must not go into production."""
    runtime.retriever.find("Is anything here?", limit=1)
    runtime.engine.complete("<|im_start|>", max_tokens=1, cache_prompt=False)
