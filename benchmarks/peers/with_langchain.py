"""langchain-text-splitters as it is measured: HTML by headings, then by separators within a bound.

It has no processes of its own; pages are shared out among some, which is to its advantage.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from langchain_text_splitters import HTMLHeaderTextSplitter, RecursiveCharacterTextSplitter

from benchmarks.peers.contract import (
    CHUNKING,
    END_TO_END,
    PARSING,
    Facts,
    Request,
    Stage,
    longest,
    page_id,
    page_paths,
    read_page,
    read_texts,
    token_ids,
    write_texts,
)

_HEADERS = [(f"h{level}", f"h{level}") for level in range(1, 7)]
T = TypeVar("T")
R = TypeVar("R")


def parsing(request: Request) -> Callable[[], Facts]:
    """Pages to texts."""
    paths = page_paths(request.pages)
    names = [page_id(request.pages, path) for path in paths]
    parsed = _shared_out(_text_of, paths, request.processes)
    texts = [(name, text) for name, text in zip(names, parsed, strict=True) if text]
    write_texts(Path(request.output) / "texts.jsonl", texts)
    return lambda: {"kept": len(texts), "characters": sum(len(text) for _, text in texts)}


def chunking(request: Request) -> Callable[[], Facts]:
    """Texts to chunks."""
    texts = read_texts(request.texts)
    names = [name for name, _ in texts]
    work = partial(_chunks_of_text, max_tokens=request.max_tokens, tokenizer=request.tokenizer)
    found = _shared_out(work, [text for _, text in texts], request.processes)
    return _written(request, names, found)


def end_to_end(request: Request) -> Callable[[], Facts]:
    """Pages to chunks; nothing is left out."""
    paths = page_paths(request.pages)
    names = [page_id(request.pages, path) for path in paths]
    work = partial(_chunks_of_page, max_tokens=request.max_tokens, tokenizer=request.tokenizer)
    told = _written(request, names, _shared_out(work, paths, request.processes))
    return lambda: {**told(), "groups": []}


def _written(
    request: Request, names: Sequence[str], found: Sequence[list[str]]
) -> Callable[[], Facts]:
    chunks = [(name, chunk) for name, each in zip(names, found, strict=True) for chunk in each]
    write_texts(Path(request.output) / "chunks.jsonl", chunks)
    return lambda: {
        "kept": len({name for name, _ in chunks}),
        "chunks": len(chunks),
        "longest": longest([text for _, text in chunks], request.tokenizer),
    }


def _shared_out(work: Callable[[T], R], items: Sequence[T], processes: int) -> list[R]:
    if processes == 1:
        return list(map(work, items))
    with get_context("fork").Pool(processes) as pool:
        return pool.map(work, items)


def _text_of(path: Path) -> str:
    parts = HTMLHeaderTextSplitter(_HEADERS).split_text(read_page(path))
    return "\n\n".join(part.page_content for part in parts)


def _chunks_of_text(text: str, max_tokens: int, tokenizer: str) -> list[str]:
    found: list[str] = _splitter(max_tokens, tokenizer).split_text(text)
    return found


def _chunks_of_page(path: Path, max_tokens: int, tokenizer: str) -> list[str]:
    parts = HTMLHeaderTextSplitter(_HEADERS).split_text(read_page(path))
    chunks = _splitter(max_tokens, tokenizer).split_documents(parts)
    return [chunk.page_content for chunk in chunks]


@cache
def _splitter(max_tokens: int, tokenizer: str) -> RecursiveCharacterTextSplitter:
    ids = token_ids(tokenizer)
    return RecursiveCharacterTextSplitter(
        chunk_size=max_tokens, chunk_overlap=0, length_function=lambda text: len(ids(text))
    )


STAGES: dict[str, Stage] = {PARSING: parsing, CHUNKING: chunking, END_TO_END: end_to_end}
