"""BM25 as sparse vectors: term weights here, inverse document frequency in the store.

Both backends use these weights, so both rank alike. Words are folded to lower case and stemmed;
punctuation and underscores separate them, so `slots` finds `__slots__`. There are no stop words:
`for`, `with`, `not` and `is` are names in technical text, and inverse document frequency makes
words that are everywhere count for little (docs/experiments.md).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headwater.records import digest_of

if TYPE_CHECKING:
    from qdrant_edge import Bm25

#: Saturation of term frequency and normalisation by length (Robertson and Zaragoza 2009, §3), and
#: the length it counts from: about the mean number of words of a chunk, but fixed, so that a new
#: document changes no other document's weights.
K, B, MEAN_WORDS = 1.2, 0.75, 60.0
DIGEST = digest_of(1, K, B, MEAN_WORDS)

Sparse = tuple[list[int], list[float]]

_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=1)
def _model() -> "Bm25":
    from qdrant_edge import Bm25, Bm25Config, StopwordsSet, TokenizerType

    none = StopwordsSet(custom=set())
    return Bm25(
        Bm25Config(k=K, b=B, avg_len=MEAN_WORDS, tokenizer=TokenizerType.Word, stopwords=none)
    )


def document_weights(payload: Mapping[str, Any]) -> Sparse:
    """Indices and weights of a chunk's words: its heading path and its text."""
    vector = _model().embed_document(f"{payload['heading']}\n{payload['text']}")
    return list(vector.indices), list(vector.values)


def query_weights(text: str) -> Sparse:
    """Indices and weights (1 each) of a question's words; both empty where it has none."""
    vector = _model().embed_query(text)
    return list(vector.indices), list(vector.values)


def query_words(text: str) -> dict[int, str]:
    """The words of a question by their index, in order; `#` and the index where none is known.

    Words of one stem share an index and are told by the first of them.
    """
    wanted = query_weights(text)[0]
    words: dict[int, str] = {}
    for word in _WORD.findall(text):
        for index in query_weights(word)[0]:
            words.setdefault(index, word.lower())
    known = {index: word for index, word in words.items() if index in wanted}
    return known | {index: f"#{index}" for index in wanted if index not in known}
