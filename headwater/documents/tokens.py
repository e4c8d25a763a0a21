"""Counting tokens as the embedding model does, without loading the model."""

import importlib.util
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater.records import digest_file, digest_of

#: Counts the tokens of each text, special tokens not included.
TokenCounter = Callable[[Sequence[str]], list[int]]
#: Texts that a thread counts at a time, and such threads at most.
_BATCH, _MOST_THREADS = 128, 4
#: What the names of encoders without a model begin with; their tokens are words and signs.
STATIC = "static:"
_STATIC_TOKEN = re.compile(r"\w+|[^\w\s]")


@lru_cache(maxsize=4)
def token_counter(embedding_model: str) -> TokenCounter:
    """The counter of an embedding model.

    Args:
        embedding_model: `package:NAME`, a folder or `static:DIMENSIONS`, as in
            `Settings.embedding_model`.

    Raises:
        HeadwaterError: there is no tokenizer there.
    """
    if embedding_model.startswith(STATIC):
        return _count_words
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file(embedding_model)))
    # The file asks for a fixed length; we count what is there.
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count_batch(batch: list[str]) -> list[int]:
        encoded = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        return [len(encoding) for encoding in encoded]

    def count(texts: Sequence[str]) -> list[int]:
        batches = [list(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        if len(batches) < 2:
            return [tokens for batch in batches for tokens in count_batch(batch)]
        # The tokenizer lets other threads run; its own ones do not survive a fork of the process.
        counted = _threads(os.getpid()).map(count_batch, batches)
        return [tokens for counts in counted for tokens in counts]

    return count


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of a process, this one, that count; to start some for each document takes longer."""
    return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), f"counting-{process}")


@lru_cache(maxsize=4)
def adds_up(embedding_model: str) -> bool:
    """Whether two texts with white space between them have as many tokens as both by themselves.

    So it is where words are parted at white space first, and nothing tells what stood before one.
    """
    if embedding_model.startswith(STATIC):
        return True
    made_of = json.loads(tokenizer_file(embedding_model).read_bytes())
    kinds = {
        name: (made_of.get(name) or {}).get("type") for name in ("normalizer", "pre_tokenizer")
    }
    return kinds == {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}


def tokenizer_digest(embedding_model: str) -> str:
    """Digest of the tokenizer that `token_counter` counts with."""
    if embedding_model.startswith(STATIC):
        return digest_of("static tokens/1", _STATIC_TOKEN.pattern)
    return digest_file(tokenizer_file(embedding_model))


def tokenizer_file(embedding_model: str) -> Path:
    """The tokenizer.json of an embedding model that has one.

    Raises:
        HeadwaterError: there is none.
    """
    package = embedding_model.removeprefix("package:")
    if package == embedding_model:
        roots = [Path(embedding_model).expanduser()]
    else:
        spec = importlib.util.find_spec(package)
        roots = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    found = sorted(
        (file for root in roots for file in root.glob("**/tokenizer.json")),
        key=lambda file: (len(file.parts), str(file)),
    )
    if not found:
        raise HeadwaterError(
            f"The embedding model {embedding_model!r} has no tokenizer.json.",
            mend="Install the package, or set HEADWATER_EMBEDDING_MODEL to a model's folder.",
        )
    return found[0]


def _count_words(texts: Sequence[str]) -> list[int]:
    return [len(_STATIC_TOKEN.findall(text)) for text in texts]
