"""Text to vectors: a sentence-transformers model (mean pooling, unit length) in OpenVINO.

Knows nothing about chunks, the lake or the vector store, nor how the model is converted.
"""

import functools
import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from headwater.documents.tokens import STATIC
from headwater.embeddings.static import StaticEncoder, static_digest
from headwater.errors import HeadwaterError
from headwater.progress import track
from headwater.records import digest_file, digest_of, short

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from headwater.embeddings.compiled import Compiled

#: Part of every model digest: change it when the same files give other vectors.
ENCODER_VERSION = 1
#: Padded tokens in one forward pass; measured best of 512 to 8,192 on two cores.
BATCH_TOKENS = 2048
#: Lengths of batches are multiples of it, so that the engine meets few shapes.
LENGTH_STEP = 8

Vectors = npt.NDArray[np.float32]


class AnyEncoder(Protocol):
    """What every embedding model is to who uses it: `Encoder`, or `StaticEncoder`."""

    digest: str
    dimension: int
    max_tokens: int

    def encode(self, texts: Sequence[str], *, what: str = ...) -> Vectors: ...


def open_encoder(model: str, threads: int, kept: Path) -> AnyEncoder:
    """The encoder of `Settings.embedding_model`; no model is loaded before the first text.

    Args:
        kept: folder of converted models (`Settings.encoders`).

    Raises:
        HeadwaterError: there is no such model.
    """
    return StaticEncoder(model) if model.startswith(STATIC) else Encoder(model, threads, kept)


def model_folder(model: str) -> Path:
    """The folder of a sentence-transformers model: `package:NAME` or a path.

    A package is located without being imported. Raises HeadwaterError where there is no model.
    """
    if model.startswith("package:"):
        name = model.removeprefix("package:")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise HeadwaterError(
                f"The package {name} that should carry the embedding model is not installed.",
                mend="Install it, or set HEADWATER_EMBEDDING_MODEL to a folder.",
            )
        root = Path(next(iter(spec.submodule_search_locations)))
        folders = sorted(path.parent for path in root.rglob("modules.json"))
    else:
        root = Path(model).expanduser()
        folders = [root] if (root / "modules.json").is_file() else []
    if not folders:
        raise HeadwaterError(
            f"No sentence-transformers model (modules.json) in {root}.",
            mend="Set HEADWATER_EMBEDDING_MODEL to package:NAME or to a model's folder.",
        )
    return folders[0]


@functools.cache
def model_digest(model: str) -> str:
    """Digest of what determines the vectors: a model's files, or a name; loads no model."""
    if model.startswith(STATIC):
        return static_digest(model)
    folder = model_folder(model)
    names = ["config.json", "model.safetensors", "tokenizer.json", *_pooling_files(folder)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise HeadwaterError(
            f"The embedding model in {folder} lacks {', '.join(missing)}.",
            mend="Use a complete sentence-transformers model with safetensors weights.",
        )
    digests = [(name, digest_file(folder / name)) for name in names]
    return digest_of(ENCODER_VERSION, digests, _max_tokens(folder))


class Encoder:
    """Encodes texts with one model. Cheap to construct: the model is loaded at the first text.

    Args:
        model: `package:NAME` or a folder in sentence-transformers' format.
        threads: threads that compute.
        kept: folder of converted models; the first process converts, which loads torch.

    Safe to use from several threads.
    """

    def __init__(self, model: str, threads: int, kept: Path) -> None:
        self.folder = model_folder(model)
        self.threads, self._kept = threads, kept
        self.digest = model_digest(model)
        self.max_tokens = _max_tokens(self.folder)
        self.dimension = int(_read(self.folder / "config.json")["hidden_size"])
        self._loading = threading.Lock()
        self._loaded: tuple[Tokenizer, Compiled] | None = None
        self._by_token: Compiled | None = None

    def encode(self, texts: Sequence[str], *, what: str = "encoding") -> Vectors:
        """Vectors of unit length, float32, one row a text: shape (len(texts), dimension).

        Longer texts are cut at `max_tokens`. Equal to sentence-transformers within 1e-5.
        """
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        tokenizer, model = self._load()
        ids = _token_ids(tokenizer, texts)
        batches = list(batches_by_length([len(row) for row in ids], BATCH_TOKENS))
        given = ((rows, _inputs([ids[row] for row in rows])) for rows in batches)
        for rows, found in track(model.results(given), what=what, total=len(batches)):
            vectors[rows] = found
        return vectors

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """Of each text the last hidden state of each token, scaled to unit length: (tokens, dimension).

        The two tokens that the model adds are among them. It is for few texts at once: they are
        shared out to the threads, and all are held in memory. The first call loads the model's
        weights a second time.
        """
        if not texts:
            return []
        tokenizer, model = self._load_by_token()
        ids = _token_ids(tokenizer, texts)
        lengths = [len(row) for row in ids]
        batches = list(batches_by_length(lengths, shared_out(lengths, self.threads)))
        given = (_inputs([ids[row] for row in rows]) for rows in batches)
        states: dict[int, Vectors] = {}
        for rows, found in zip(batches, model.at_once(given), strict=True):
            for row, each in zip(rows, found, strict=True):
                real = each[: lengths[row]]
                states[row] = real / np.linalg.norm(real, axis=1, keepdims=True)
        return [states[row] for row in range(len(texts))]

    def _load_by_token(self) -> "tuple[Tokenizer, Compiled]":
        tokenizer, _ = self._load()
        with self._loading:
            if self._by_token is None:
                from headwater.embeddings.compiled import Compiled

                self._by_token = Compiled(
                    self.folder, self._kept, short(self.digest), self.threads, "tokens"
                )
            return tokenizer, self._by_token

    def _load(self) -> "tuple[Tokenizer, Compiled]":
        with self._loading:
            if self._loaded is None:
                from headwater.embeddings.compiled import Compiled

                _check_pooling(self.folder)
                model = Compiled(self.folder, self._kept, short(self.digest), self.threads)
                self._loaded = (self._load_tokenizer(), model)
            return self._loaded

    def _load_tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group indices so that rows x longest row stays within the budget, longest first.

    Neighbours in length share a batch, so hardly any padding is computed, and the first batch is
    the largest: memory does not grow later. One row longer than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def shared_out(lengths: Sequence[int], threads: int) -> int:
    """A budget for `batches_by_length` that gives each thread about as many tokens, where it can."""
    return min(BATCH_TOKENS, max(*lengths, -(-sum(lengths) // threads)))


def padded(rows: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Rows of one batch with zeros behind, of shape (texts, tokens of the longest)."""
    longest = -(-max(len(row) for row in rows) // LENGTH_STEP) * LENGTH_STEP
    found = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        found[index, : len(row)] = row
    return found


def _inputs(ids: Sequence[npt.NDArray[np.int64]]) -> dict[str, npt.NDArray[np.int64]]:
    """Token ids of one batch and its mask."""
    return {"input_ids": padded(ids), "attention_mask": padded([np.ones_like(row) for row in ids])}


def _token_ids(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    encodings = tokenizer.encode_batch_fast(list(texts))
    return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _pooling_files(folder: Path) -> list[str]:
    modules = _read(folder / "modules.json")
    return [f"{m['path']}/config.json" for m in modules if m["type"].endswith(".Pooling")]


def _max_tokens(folder: Path) -> int:
    path = folder / "sentence_bert_config.json"
    length = _read(path).get("max_seq_length") if path.is_file() else None
    return int(length or _read(folder / "config.json")["max_position_embeddings"])


def _check_pooling(folder: Path) -> None:
    """Refuse a model whose vectors are made in another way than ours."""
    kinds = [module["type"].rsplit(".", 1)[-1] for module in _read(folder / "modules.json")]
    modes = {
        key
        for name in _pooling_files(folder)
        for key, on in _read(folder / name).items()
        if key.startswith("pooling_mode_") and on
    }
    if kinds != ["Transformer", "Pooling", "Normalize"] or modes != {"pooling_mode_mean_tokens"}:
        raise HeadwaterError(
            f"The embedding model in {folder} pools by {sorted(modes)} through {kinds}.",
            mend="Use a model with mean pooling and normalised vectors, such as all-MiniLM-L6-v2.",
        )
