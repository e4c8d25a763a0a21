"""Headwater's data layer as it is measured beside others: the functions that a build calls."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from benchmarks.peers.contract import (
    AGAIN,
    CHUNKING,
    DUPLICATES,
    END_TO_END,
    PARSING,
    Facts,
    Request,
    Stage,
    groups_of,
    longest,
    page_id,
    page_paths,
    read_texts,
    write_texts,
)
from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.duplicates import COMPARED, Signed, find_duplicates, resolve, survivors
from headwater.documents.kinds.base import base_uri
from headwater.documents.parsed import Parsed, fold
from headwater.documents.parser_pool import ParserPool, Unparsed
from headwater.documents.raw import update_raw
from headwater.documents.signature import signature, signatures
from headwater.documents.sources import FolderSource
from headwater.documents.split import Text, embed_text, split_texts
from headwater.documents.stage import BLOCK, BLOCK_BYTES
from headwater.documents.tokens import adds_up, token_counter
from headwater.executors.base import in_blocks
from headwater.executors.choice import executor_of
from headwater.lake import Lake
from headwater.records import digest_of
from headwater.settings import Settings

_SOURCE = "pages"


def parsing(request: Request) -> Callable[[], Facts]:
    """Pages to texts, in confined parser processes."""
    paths = page_paths(request.pages)
    documents = [
        Unparsed(content=path.read_bytes(), media_type="text/html", uri=str(path)) for path in paths
    ]
    with ParserPool(children=request.processes) as pool:
        outcomes = pool.map(documents)
    texts = [
        (page_id(request.pages, path), outcome.text)
        for path, outcome in zip(paths, outcomes, strict=True)
        if isinstance(outcome, Parsed)
    ]
    write_texts(Path(request.output) / "texts.jsonl", texts)
    return lambda: {"kept": len(texts), "characters": sum(len(text) for _, text in texts)}


def chunking(request: Request) -> Callable[[], Facts]:
    """Texts without headings to chunks."""
    texts, count = read_texts(request.texts), token_counter(request.model)
    sure = adds_up(request.model)
    chunks = [
        (name, embed_text(span.heading, span.text).strip())
        for block in in_blocks(texts, lambda each: len(each[1]), most=BLOCK, most_size=BLOCK_BYTES)
        for (name, _), spans in zip(
            block,
            split_texts(
                [Text(text, "", ()) for _, text in block], request.max_tokens, count, adds_up=sure
            ),
            strict=True,
        )
        for span in spans
    ]
    write_texts(Path(request.output) / "chunks.jsonl", chunks)
    return lambda: {
        "kept": len({name for name, _ in chunks}),
        "chunks": len(chunks),
        "longest": longest([text for _, text in chunks], request.tokenizer),
    }


def duplicates(request: Request) -> Callable[[], Facts]:
    """Texts to those that stay."""
    texts = read_texts(request.texts)
    documents = [
        {
            "uri": name,
            "source": _SOURCE,
            "shard": "00",
            "folded_digest": digest_of(fold(text)),
            "signature": signature(text),
        }
        for name, text in texts
    ]
    table = pa.Table.from_pylist(documents, schema=COMPARED)
    found = resolve(table, Signed(signatures(table["signature"])), request.threshold)
    instead = {row["uri"]: row["survivor"] for row in found}
    kept = [(name, text) for name, text in texts if name not in instead]
    write_texts(Path(request.output) / "kept.jsonl", kept)
    return lambda: {
        "kept": len(kept),
        "groups": groups_of((instead.get(name, name), name) for name, _ in texts),
    }


def end_to_end(request: Request) -> Callable[[], Facts]:
    """Pages to chunks in the lake, by the stages of a build with its defaults.

    By worker processes, as many as the others have. Personal data is not looked for, as no peer does;
    signals of quality and languages are.
    """
    settings = Settings(
        home=Path(request.state),
        threads=request.threads,
        executor="processes",
        workers=request.processes,
    )
    lake, keys = Lake(settings.lake), settings.shard_keys()
    source = FolderSource(name=_SOURCE, path=Path(request.pages), include=["*.html"])
    update_raw(lake, [source], keys, settings.shards, settings.max_document_bytes)
    with executor_of(settings) as executor:
        cleaned = clean_documents(lake, keys, settings.max_text_chars, executor=executor)
        find_duplicates(lake, request.threshold)
        shard_documents(lake, keys, request.max_tokens, request.model, executor=executor)

    def tell() -> Facts:
        rows = lake.read("document_shards", columns=["uri", "heading", "text"]).to_pylist()
        texts = [embed_text(row["heading"], row["text"]) for row in rows]
        instead = survivors(lake)
        uris = lake.read("clean_documents", columns=["uri"])["uri"].to_pylist()
        return {
            "kept": len({row["uri"] for row in rows}),
            "chunks": len(rows),
            "longest": longest(texts, request.tokenizer),
            "groups": groups_of((instead.get(uri, uri), _id(uri)) for uri in uris),
            "processed": cleaned.processed,
        }

    return tell


def _id(uri: str) -> str:
    return unquote(uri.removeprefix(base_uri(_SOURCE)))


STAGES: dict[str, Stage] = {
    PARSING: parsing,
    CHUNKING: chunking,
    DUPLICATES: duplicates,
    END_TO_END: end_to_end,
    AGAIN: end_to_end,
}
