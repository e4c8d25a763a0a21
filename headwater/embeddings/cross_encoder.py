"""A cross-encoder in a folder: one model that reads a question and a passage together, in OpenVINO.

Knows sentence-transformers' `CrossEncoder` format (Nogueira and Cho 2019, "Passage re-ranking with
BERT") as far as it is safe: BERT with one label, weights in safetensors, no code beside them. It
fetches nothing.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.documents.split import embed_text
from headwater.embeddings.encoder import (
    LENGTH_STEP,
    batches_by_length,
    padded,
    shared_out,
)
from headwater.errors import HeadwaterError
from headwater.records import Hit, digest_file, digest_of, short

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from headwater.embeddings.compiled import Compiled

#: Part of every digest: change it when the same files give other scores.
CROSS_ENCODER_VERSION = 1
#: What is read of a folder; its files besides do not count.
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_ARCHITECTURE = "BertForSequenceClassification"
_MEND = (
    "Set HEADWATER_RERANKER to the folder of a BERT cross-encoder with one label, saved by"
    " sentence-transformers as safetensors, or to nothing."
)


@functools.cache
def cross_encoder_digest(folder: Path) -> str:
    """Digest of what determines the scores; loads no model.

    Raises:
        HeadwaterError: there is no cross-encoder, or one that is not safe to load or not like BERT's.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise HeadwaterError(
            f"The cross-encoder in {folder} lacks {', '.join(missing)}.", mend=_MEND
        )
    _check(folder)
    digests = [(name, digest_file(folder / name)) for name in _FILES]
    return digest_of(CROSS_ENCODER_VERSION, digests, _max_tokens(folder))


class CrossEncoder:
    """A reranker of one folder. Cheap to construct: the model is loaded at the first question.

    Args:
        threads: threads that compute.
        kept: folder of converted models; the first process converts, which loads torch.

    Safe to use from several threads.
    """

    def __init__(self, folder: Path, threads: int, kept: Path) -> None:
        self.folder, self.threads, self._kept = folder, threads, kept
        self.digest = cross_encoder_digest(folder)
        self.max_tokens = _max_tokens(folder)
        self._loading = Lock()
        self._loaded: tuple[Tokenizer, Compiled] | None = None

    def scores(self, question: str, passages: Sequence[Hit]) -> list[float]:
        """The logit of each passage, read with its heading path; rounded to five decimals.

        The longer of question and passage is cut where both exceed the model's window.
        """
        if not passages:
            return []
        tokenizer, model = self._load()
        pairs = [(question, embed_text(hit.heading, hit.text)) for hit in passages]
        encodings = tokenizer.encode_batch(pairs)
        lengths = [len(encoding.ids) for encoding in encodings]
        batches = list(batches_by_length(lengths, shared_out(lengths, self.threads)))
        given = (_inputs([encodings[row] for row in rows]) for rows in batches)
        scores = np.zeros(len(pairs))
        for rows, found in zip(batches, model.at_once(given), strict=True):
            scores[rows] = found[:, 0]
        return [round(float(score), 5) for score in scores]

    def _load(self) -> "tuple[Tokenizer, Compiled]":
        with self._loading:
            if self._loaded is None:
                from tokenizers import Tokenizer

                from headwater.embeddings.compiled import Compiled

                tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
                tokenizer.no_padding()
                tokenizer.enable_truncation(self.max_tokens, strategy="longest_first")
                name = short(self.digest)
                model = Compiled(self.folder, self._kept, name, self.threads, "logits")
                self._loaded = (tokenizer, model)
            return self._loaded


def _inputs(encodings: Sequence["Encoding"]) -> dict[str, Any]:
    named = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {
        name: padded([np.asarray(getattr(each, field), np.int64) for each in encodings])
        for name, field in named.items()
    }


def _check(folder: Path) -> None:
    """Refuse a model that brings code, or that would be read in another way than it was meant."""
    config = _read(folder / "config.json")
    if "auto_map" in config:
        raise HeadwaterError(f"The cross-encoder in {folder} brings code of its own.", mend=_MEND)
    if config.get("architectures") != [_ARCHITECTURE]:
        kind = ", ".join(config.get("architectures") or ["none that it names"])
        raise HeadwaterError(f"The model in {folder} is no {_ARCHITECTURE}: {kind}.", mend=_MEND)
    if len(config.get("id2label") or (0, 1)) != 1:
        raise HeadwaterError(f"The cross-encoder in {folder} has several labels.", mend=_MEND)
    modules = folder / "modules.json"
    kinds = [each["type"] for each in _read(modules)] if modules.is_file() else []
    if len(kinds) > 1 or any(not _is_transformer(kind) for kind in kinds):
        raise HeadwaterError(
            f"The cross-encoder in {folder} is made of {', '.join(kinds)}.", mend=_MEND
        )


def _is_transformer(kind: str) -> bool:
    return kind.startswith("sentence_transformers.") and kind.endswith(".Transformer")


def _max_tokens(folder: Path) -> int:
    """The model's window, a multiple of the step that batches are padded to."""
    most = int(_read(folder / "config.json")["max_position_embeddings"])
    tokenizer = folder / "tokenizer_config.json"
    told = _read(tokenizer).get("model_max_length") if tokenizer.is_file() else None
    return int(min(most, told or most)) // LENGTH_STEP * LENGTH_STEP


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise HeadwaterError(f"{path} is no JSON.", mend=_MEND) from error
