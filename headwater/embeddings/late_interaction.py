"""A question's tokens against a passage's: late interaction (Khattab and Zaharia 2020, "ColBERT", §3.3).

Knows an encoder that gives a vector for each token. The encoder here was trained for one vector a text,
not for this, and so neither marks questions nor pads them with masks, as ColBERT's own does.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from headwater.documents.split import embed_text
from headwater.records import Hit, digest_bytes

#: What `HEADWATER_RERANKER` calls it.
LATE_INTERACTION = "late-interaction"
#: Of passages' vectors in memory: 64 MB are about 270 passages of 160 tokens, 384 numbers each.
KEPT_BYTES = 64 * 2**20

Vectors = npt.NDArray[np.float32]


@runtime_checkable
class TokenEncoder(Protocol):
    """What late interaction needs; `headwater.embeddings.encoder.Encoder` is one."""

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """Of each text a unit vector for each of its tokens: shape (tokens, dimension)."""


def max_similarity(question: Vectors, passage: Vectors) -> float:
    """The mean, over a question's tokens, of the cosine with the passage's token that is nearest.

    The paper sums (MaxSim); a mean orders alike, and compares with a cosine. Both hold unit vectors.
    """
    return float((question @ passage.T).max(axis=1).mean())


class LateInteraction:
    """Scores passages by their heading path and text, cut at the encoder's window.

    Args:
        kept_bytes: of passages' vectors, by digest of the text, the least recently used dropped first.
    """

    def __init__(self, encoder: TokenEncoder, kept_bytes: int = KEPT_BYTES) -> None:
        self._encoder, self._most = encoder, kept_bytes
        self._kept: OrderedDict[str, Vectors] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def scores(self, question: str, passages: Sequence[Hit]) -> list[float]:
        """The similarity of each passage, from -1 to 1.

        Rounded to five decimals, as an engine sums float32 in an order that varies.
        """
        texts = [embed_text(hit.heading, hit.text) for hit in passages]
        keys = [digest_bytes(text.encode("utf-8", "surrogatepass")) for text in texts]
        known = self._recall(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        wanted = [question, *missing.values()]
        asked, *found = self._encoder.token_vectors(wanted)
        new = dict(zip(missing, found, strict=True))
        self._keep(new)
        known |= new
        return [round(max_similarity(asked, known[key]), 5) for key in keys]

    def _recall(self, keys: Sequence[str]) -> dict[str, Vectors]:
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        return found

    def _keep(self, new: dict[str, Vectors]) -> None:
        with self._lock:
            for key, vectors in new.items():
                if key not in self._kept:
                    self._kept[key] = vectors
                    self._bytes += vectors.nbytes
            while self._bytes > self._most:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.nbytes
