"""What `headwater search` tells: the passages of an index for one question, and why they are there.

Knows the release that serves, the index and the lake, each as it is now. The lake may be ahead of
the index: what has changed since is said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from headwater.embeddings.embed import TextEncoder
from headwater.embeddings.encoder import AnyEncoder, open_encoder
from headwater.embeddings.explain import RANKINGS, Explained, explain
from headwater.embeddings.rerank import open_reranker
from headwater.embeddings.retrieve import (
    Mode,
    RetrievalSettings,
    open_retriever,
    retrieval_settings,
)
from headwater.embeddings.store import open_store
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import Hit, shard_of, short
from headwater.release import manifest, pointer
from headwater.release.manifest import Release
from headwater.settings import Settings

#: What is told of a document besides its URI.
_ABOUT = ("source", "media_type", "size", "licence", "access", "digest")


def embedding_model(settings: Settings) -> AnyEncoder:
    """The embedding model of this installation; it is loaded at the first question."""
    return open_encoder(settings.embedding_model, settings.threads, settings.encoders)


def search(
    settings: Settings,
    question: str,
    *,
    mode: Mode = "fused",
    limit: int = 5,
    index: str | None = None,
    whole: bool = False,
    encoder: Callable[[Settings], TextEncoder] = embedding_model,
) -> dict[str, Any]:
    """The passages for a question as plain JSON, found as the release that serves finds them.

    Args:
        index: a published version, or the beginning of its name; by default the one that serves,
            or the newest where there is no release yet.
        whole: explain each hit: both rankings, words, the rule for prompts, the document.

    Raises:
        HeadwaterError: the question is empty, there is no such index, the index that serves was
            made with another embedding model, or its release's reranker is not here.
    """
    if not question.strip():
        raise HeadwaterError("The question is empty.", mend="Ask it in quotes, in a few words.")
    release = _serving(settings)
    store, model = open_store(settings), encoder(settings)
    version = _version(store.versions(), index, release)
    if release is not None and release.index == version and release.embedding_model != model.digest:
        raise HeadwaterError(
            f"Index {short(version)} was made with another embedding model than"
            f" {settings.embedding_model}.",
            mend="Set HEADWATER_EMBEDDING_MODEL as it was, or run `headwater build`.",
        )
    if release is None:
        choices = retrieval_settings(settings)
    else:
        how: dict[str, Any] = dict(release.retrieval)
        choices = RetrievalSettings(**how)
    reranker = open_reranker(settings, choices.reranker, model) if mode == "fused" else None
    with open_retriever(store, model, version, choices, reranker) as retriever:
        points = retriever.index.count()
        found = explain(retriever, question, mode=mode, limit=limit, whole=whole)
    told: dict[str, Any] = {
        "question": question,
        "mode": mode,
        "index": version,
        "points": points,
        "release": release.id if release is not None and release.index == version else None,
        "retrieval": {**choices.as_mapping(), "depth": found.depth},
    }
    rows = [_row(rank, each) for rank, each in enumerate(found.hits, start=1)]
    if whole:
        told |= {
            "words": dict(found.words),
            "least_similarity": found.least,
            "prompt_passages": release.prompt.top_k if release is not None else None,
        }
        hits = [each.hit for each in found.hits]
        documents = _documents(Lake(settings.lake), settings.shards, hits)
        rows = [
            {**row, **_why(each, documents[each.hit.id])}
            for row, each in zip(rows, found.hits, strict=True)
        ]
    return {**told, "hits": rows}


def _serving(settings: Settings) -> Release | None:
    current = pointer.current(settings)
    return None if current is None else manifest.load(settings, current)


def _version(published: Sequence[str], wanted: str | None, release: Release | None) -> str:
    if not published:
        raise HeadwaterError("No index is published yet.", mend="Run `headwater build`.")
    if wanted is None:
        return published[-1] if release is None else release.index
    named = [version for version in published if version.startswith(wanted)]
    if len(named) != 1:
        known = ", ".join(short(version) for version in published)
        raise HeadwaterError(
            f"{len(named)} index versions are called {wanted!r}.",
            mend=f"Give one of {known}, or nothing for the one that serves.",
        )
    return named[0]


def _row(rank: int, found: Explained) -> dict[str, Any]:
    places = {name: found.places.get(name) for name in RANKINGS}
    return {
        "rank": rank,
        **asdict(found.hit),
        **{name: asdict(place) if place is not None else None for name, place in places.items()},
        "reranked": asdict(found.moved) if found.moved is not None else None,
    }


def _why(found: Explained, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "fusion": dict(found.shares),
        "terms": [asdict(term) for term in found.terms],
        "similarity": found.similarity,
        "kept": found.kept,
        "document": document,
    }


def _documents(lake: Lake, shards: int, hits: Sequence[Hit]) -> dict[str, dict[str, Any]]:
    """Of each hit, by its id: what the lake has on its document, and whether the chunk is in it.

    `chunk` is "same", "moved" (the text stands elsewhere in the document), "changed" (the document
    has no such chunk any more) or "gone" (there is no such document). `stands_for` are documents
    that were left out because this one says the same.
    """
    uris = sorted({hit.uri for hit in hits})
    where = {"shard": sorted({shard_of(uri, shards) for uri in uris}), "uri": uris}
    columns = ["uri", *_ABOUT]
    raw = {row["uri"]: row for row in _rows(lake, "raw_documents", columns, where)}
    columns = ["id", "start", "end"]
    chunks = {row["id"]: row for row in _rows(lake, "document_shards", columns, where)}
    copies: dict[str, list[str]] = {}
    for row in _rows(lake, "duplicates", ["uri", "survivor"], {"survivor": uris}):
        copies.setdefault(row["survivor"], []).append(row["uri"])
    return {
        hit.id: {
            **{name: raw.get(hit.uri, {}).get(name) for name in _ABOUT},
            "chunk": _state(hit, raw.get(hit.uri), chunks.get(hit.id)),
            "stands_for": sorted(copies.get(hit.uri, [])),
        }
        for hit in hits
    }


def _rows(
    lake: Lake, table: str, columns: Sequence[str], where: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.read(table, columns=columns, where=where).to_pylist()
    return rows


def _state(hit: Hit, raw: object, chunk: Mapping[str, Any] | None) -> str:
    if raw is None:
        return "gone"
    if chunk is None:
        return "changed"
    return "same" if (chunk["start"], chunk["end"]) == (hit.start, hit.end) else "moved"
