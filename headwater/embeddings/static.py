"""Text to vectors without a model, for tests of scale: hashed words and pairs of words.

`static:256` is such an encoder with 256 dimensions. Texts that share words are near each other and
nothing else is: it knows no meaning, so it is no choice for answering questions. It gives the same
vectors on every machine. Feature hashing is that of Weinberger et al. 2009 ("Feature hashing for
large scale multitask learning"), with `SLOTS` signed slots a feature, a sparse random projection.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headwater.documents.signature import rolled, word_hashes
from headwater.documents.tokens import STATIC
from headwater.errors import HeadwaterError
from headwater.progress import track
from headwater.records import digest_of

#: Part of every digest: change it when the same text gets another vector.
STATIC_VERSION = "static/1"
#: Places of a vector that one word, or pair of words, adds to or takes from.
SLOTS = 4
#: Bounds of the number of dimensions.
FEWEST, MOST = 8, 4096
#: Words of a text that count; far beyond any chunk.
MAX_TOKENS = 8192
#: Texts that are encoded at once.
_BATCH = 256
_WORD = re.compile(r"\w+")
# Raw output, since only that of a bit generator is the same in every version of numpy; odd, so that
# each permutes the 64-bit numbers.
_FACTORS = np.random.PCG64(20_261_122).random_raw(SLOTS) | np.uint64(1)

Vectors = npt.NDArray[np.float32]


def static_digest(model: str) -> str:
    """Digest of what determines the vectors of `static:DIMENSIONS`."""
    return digest_of(STATIC_VERSION, _dimension(model))


class StaticEncoder:
    """What `headwater.embeddings.encoder.Encoder` is, of `static:DIMENSIONS`.

    Raises:
        HeadwaterError: the name holds no number of dimensions, or one out of bounds.
    """

    max_tokens = MAX_TOKENS

    def __init__(self, model: str) -> None:
        self.dimension = _dimension(model)
        self.digest = static_digest(model)

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> Vectors:
        """Vectors of unit length, float32, one row a text: shape (len(texts), dimension)."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for start in track(range(0, len(texts), _BATCH), what=what):
            vectors[start : start + _BATCH] = self._batch(texts[start : start + _BATCH])
        return vectors

    def _batch(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        places: list[npt.NDArray[np.int64]] = []
        signs: list[npt.NDArray[np.float64]] = []
        for row, text in enumerate(texts):
            hashes = _features(text)
            # The upper half of a product depends on all bits below it.
            mixed = (hashes[:, None] * _FACTORS) >> np.uint64(32)
            column = (mixed >> np.uint64(1)) % np.uint64(self.dimension)
            places.append((column.astype(np.int64) + row * self.dimension).ravel())
            signs.append(np.where(mixed & np.uint64(1), 1.0, -1.0).ravel())
        size = len(texts) * self.dimension
        sums = np.bincount(np.concatenate(places), np.concatenate(signs), minlength=size)
        vectors = sums.reshape(len(texts), self.dimension)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        # Slots may cancel each other out, and every text must have a direction.
        vectors[lengths[:, 0] == 0, 0] = 1.0
        return np.asarray(vectors / np.where(lengths == 0, 1.0, lengths), np.float64)


def _features(text: str) -> npt.NDArray[np.uint64]:
    """A number for each word and each pair of neighbours; one for a text without words."""
    words = _WORD.findall(text.lower())[:MAX_TOKENS] or [""]
    hashes = rolled(word_hashes(words), 1)
    return np.concatenate([hashes, rolled(hashes, 2)]) if len(words) > 1 else hashes


def _dimension(model: str) -> int:
    number = model.removeprefix(STATIC)
    if not number.isascii() or not number.isdigit() or not FEWEST <= int(number) <= MOST:
        raise HeadwaterError(
            f"The embedding model {model!r} is none.",
            mend=f"Name one as {STATIC}256, with {FEWEST} to {MOST} dimensions; for tests of scale.",
        )
    return int(number)
