"""Texts encoded by the workers of an executor, where these may be on other machines.

Knows encoders and executors, no table. On one machine there is nothing to gain: OpenVINO has every core
at work in one process already, and a second process would hold a second model.
"""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np

from headwater.embeddings.encoder import AnyEncoder, Vectors, open_encoder
from headwater.executors.base import Executor, refuse_unlike
from headwater.progress import track
from headwater.settings import Settings

#: Texts of one task: a second or two of one core.
BLOCK = 64


def encoder_over(executor: Executor, encoder: AnyEncoder, model: str) -> AnyEncoder:
    """An encoder whose texts go to the executor's workers, or the same one where these are here.

    Args:
        model: the name that `encoder` was opened by.
    """
    return EncoderApart(executor, encoder, model) if executor.elsewhere else encoder


class EncoderApart:
    """What `headwater.embeddings.encoder.Encoder` is, with the model in the workers alone."""

    def __init__(self, executor: Executor, encoder: AnyEncoder, model: str) -> None:
        self.digest = encoder.digest
        self.dimension = encoder.dimension
        self.max_tokens = encoder.max_tokens
        self._executor, self._model = executor, model

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> Vectors:
        """Vectors of unit length, float32, one row a text: shape (len(texts), dimension).

        They may differ from one process's in their last digits: texts have other neighbours in a batch.
        """
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        blocks = [list(texts[start : start + BLOCK]) for start in range(0, len(texts), BLOCK)]
        encoded = self._executor.map(partial(encode_apart, self._model, self.digest), blocks)
        for number, rows in enumerate(track(encoded, what=what, total=len(blocks))):
            vectors[number * BLOCK : number * BLOCK + len(rows)] = rows
        return vectors


def encode_apart(model: str, digest: str, texts: Sequence[str]) -> Vectors:
    """Vectors of some texts, in a worker: with one thread, as it has one core.

    Raises:
        HeadwaterError: this worker has another model by that name.
    """
    encoder = _own_encoder(model)
    refuse_unlike("weights or tokens", digest, encoder.digest)
    return encoder.encode(texts, what="encoding")


@cache
def _own_encoder(model: str) -> AnyEncoder:
    """The model of a worker, loaded at its first texts; kept below the node's own home."""
    return open_encoder(model, 1, Settings().encoders)
