"""LlamaIndex as it is measured: its ingestion pipeline, with its cache and document store.

The document store leaves out documents of equal hash. Pipeline, cache and store are its own; the
splitter is its own too, given our tokenizer in a way that its worker processes keep.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import HTMLNodeParser, SentenceSplitter
from llama_index.core.schema import Document
from llama_index.core.storage.docstore import SimpleDocumentStore

from benchmarks.peers.contract import (
    AGAIN,
    CHUNKING,
    END_TO_END,
    PARSING,
    Facts,
    Request,
    Stage,
    groups_of,
    longest,
    read_pages,
    read_texts,
    token_ids,
    write_texts,
)

#: Where a worker process finds the tokenizer's file.
_TOKENIZER = "PEERS_TOKENIZER"
#: What `IngestionPipeline.persist` writes first.
_CACHE = "llama_cache"


class BoundedSplitter(SentenceSplitter):
    """Counts our tokens also in a worker, where its own would be back to OpenAI's.

    A splitter crosses to a worker without its tokenizer, and is made anew there from its fields.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(tokenizer=token_ids(os.environ[_TOKENIZER]), **fields)


def parsing(request: Request) -> Callable[[], Facts]:
    """Pages to texts."""
    pages = _documents(read_pages(request.pages))
    pipeline = IngestionPipeline(transformations=[HTMLNodeParser()], disable_cache=True)
    nodes = pipeline.run(documents=pages, num_workers=_workers(request))
    parts: dict[str, list[str]] = {}
    for node in nodes:
        parts.setdefault(str(node.ref_doc_id), []).append(node.text)
    texts = [(name, "\n\n".join(found)) for name, found in parts.items()]
    write_texts(Path(request.output) / "texts.jsonl", texts)
    return lambda: {"kept": len(texts), "characters": sum(len(text) for _, text in texts)}


def chunking(request: Request) -> Callable[[], Facts]:
    """Texts to chunks."""
    texts = _documents(read_texts(request.texts))
    pipeline = IngestionPipeline(transformations=[_splitter(request)], disable_cache=True)
    nodes = pipeline.run(documents=texts, num_workers=_workers(request))
    return _written(request, nodes)


def end_to_end(request: Request) -> Callable[[], Facts]:
    """Pages to chunks, without exact copies and without what an earlier run has done."""
    pages = _documents(read_pages(request.pages))
    pipeline = IngestionPipeline(
        transformations=[HTMLNodeParser(), _splitter(request)],
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.DUPLICATES_ONLY,
    )
    if (Path(request.state) / _CACHE).exists():
        pipeline.load(request.state)
    nodes = pipeline.run(documents=pages, num_workers=_workers(request))
    pipeline.persist(request.state)
    told = _written(request, nodes)
    return lambda: {
        **told(),
        "groups": groups_of((page.hash, page.id_) for page in pages),
        "processed": len({node.ref_doc_id for node in nodes}),
    }


def _documents(rows: Sequence[tuple[str, str]]) -> list[Document]:
    return [Document(text=text, id_=name) for name, text in rows if text]


def _splitter(request: Request) -> BoundedSplitter:
    os.environ[_TOKENIZER] = request.tokenizer
    return BoundedSplitter(chunk_size=request.max_tokens, chunk_overlap=0)


def _workers(request: Request) -> int | None:
    """None is this process; a number is of processes that start anew for each run."""
    return request.processes if request.processes > 1 else None


def _written(request: Request, nodes: Sequence[Any]) -> Callable[[], Facts]:
    chunks = [(str(node.ref_doc_id), node.text) for node in nodes]
    write_texts(Path(request.output) / "chunks.jsonl", chunks)
    return lambda: {
        "kept": len({name for name, _ in chunks}),
        "chunks": len(chunks),
        "longest": longest([text for _, text in chunks], request.tokenizer),
    }


STAGES: dict[str, Stage] = {
    PARSING: parsing,
    CHUNKING: chunking,
    END_TO_END: end_to_end,
    AGAIN: end_to_end,
}
