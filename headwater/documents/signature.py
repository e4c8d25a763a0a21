"""MinHash signatures: two texts' signatures agree in about the share of word 5-grams they share.

Knows texts and numbers, no tables. The share is Jaccard's; the estimate is Broder's ("On the
resemblance and containment of documents", 1997), its standard error at 0.8 is 0.035.
"""

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from headwater.documents.parsed import fold

SIGNATURE_VERSION = "minhash/1"
#: Words of a shingle: the usual length for documents, as in FineWeb and the T5 clean-ups.
SHINGLE = 5
PERMUTATIONS = 128
#: A signature keeps 16 bits of each minimum: two differing ones agree by chance once in 65,536.
SIGNATURE_BYTES = 2 * PERMUTATIONS

#: Scripts that put no space between words: each of their characters counts as one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD_ASCII = re.compile(r"\w+", re.ASCII)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
#: Shingles whose permutations are held in memory at once.
_BLOCK = 1024
# Raw output, since only that of a bit generator is the same in every version of numpy.
_RANDOM = np.random.PCG64(20_261_121).random_raw(2 * PERMUTATIONS)
# Odd factors, so that each permutes the 32-bit numbers; in columns, one row a permutation.
_FACTORS = (_RANDOM[:PERMUTATIONS, None] >> 32 | 1).astype(np.uint32)
_OFFSETS = (_RANDOM[PERMUTATIONS:, None] >> 32).astype(np.uint32)
#: Odd, of well spread bits: rolls words to shingles and spreads sums over all bits.
_ROLL = np.uint64(0x9E37_79B9_7F4A_7C15)
_SPREAD = np.uint64(0xC4CE_B9FE_1A85_EC53)
_SPREAD_32 = np.uint32(0x85EB_CA6B)

Hashes = npt.NDArray[np.uint64]


def signature(text: str) -> bytes:
    """The signature of a text, `SIGNATURE_BYTES` long; case, spaces and punctuation do not count."""
    lower = text.lower()
    words = (_WORD_ASCII if lower.isascii() else _WORD).findall(lower) or [fold(text)]
    shingles = rolled(word_hashes(words), min(SHINGLE, len(words)))
    short = (shingles >> np.uint64(32)).astype(np.uint32)
    lowest = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(short), _BLOCK):
        permuted = _FACTORS * short[start : start + _BLOCK]
        permuted += _OFFSETS
        np.minimum(lowest, permuted.min(axis=1), out=lowest)
    return bytes(((lowest * _SPREAD_32) >> np.uint32(16)).astype("<u2").tobytes())


def signatures(stored: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.uint16]:
    """Signatures as the rows of one array."""
    found = np.empty((len(stored), PERMUTATIONS), np.uint16)
    start = 0
    for chunk in stored.chunks if isinstance(stored, pa.ChunkedArray) else [stored]:
        part = chunk.cast(pa.binary(SIGNATURE_BYTES))
        numbers = np.frombuffer(part.buffers()[1], "<u2").reshape(-1, PERMUTATIONS)
        found[start : start + len(part)] = numbers[part.offset : part.offset + len(part)]
        start += len(part)
    return found


def word_hashes(words: list[str]) -> Hashes:
    """One 64-bit number for each word."""
    return np.fromiter(map(_hash, words), np.uint64, len(words))


def rolled(hashes: Hashes, width: int) -> Hashes:
    """One 64-bit number for each run of `width` neighbours."""
    count = len(hashes) - width + 1
    runs = hashes[:count].copy()
    for step in range(1, width):
        runs *= _ROLL
        runs += hashes[step : step + count]
    runs ^= runs >> np.uint64(31)
    runs *= _SPREAD
    runs ^= runs >> np.uint64(33)
    return runs


@lru_cache(maxsize=2**16)
def _hash(word: str) -> int:
    return xxhash.xxh3_64_intdigest(word.encode())
