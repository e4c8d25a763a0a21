"""Adapters on disk: safetensors for PyTorch, GGUF for llama.cpp, and a card that names both.

Knows LoRA weights and files; nothing about how they were learnt.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.base_model import BaseModel, load_torch
from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import new_folder, read_json, write_json
from headwater.records import digest_file, digest_of, short
from headwater.release import manifest, pointer, traffic
from headwater.settings import Settings
from training.recipe import Recipe

log = logging.getLogger("headwater")

#: Part of every adapter's name: raise it when the same inputs give other weights.
TRAINING_VERSION = 1
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's names
GGUF, CARD = "adapter.gguf", "adapter.json"
#: In the folder of adapters: names the one that the last training made or found.
CURRENT = "current.json"
_LORA = re.compile(r"base_model\.model\.(model\..+)\.lora_(A|B)\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A published adapter: its folder and what its card says."""

    id: str
    folder: Path
    weights_digest: str  # of the safetensors file
    base_digest: str
    dataset_digest: str
    recipe: str
    recipe_digest: str
    files: dict[str, str]  # name to digest

    @property
    def gguf(self) -> Path:
        return self.folder / GGUF


def adapter_id(base: BaseModel, dataset_digest: str, recipe: Recipe) -> str:
    """The name of what these inputs make."""
    return digest_of(base.engine_digest, dataset_digest, recipe.digest, TRAINING_VERSION)


def save_adapter(
    model: Any, base: BaseModel, dataset_digest: str, recipe: Recipe, root: Path
) -> Adapter:
    """Publish a PEFT model's LoRA weights to `root/<id>`, whole or not at all."""
    id_ = adapter_id(base, dataset_digest, recipe)
    with new_folder(root / id_) as folder:
        write_weights(model, base, folder)
        write_gguf(folder, base)
        card = {
            "id": id_,
            "weights_digest": digest_file(folder / WEIGHTS),
            "base_digest": base.digest,
            "dataset_digest": dataset_digest,
            "recipe": recipe.name,
            "recipe_digest": recipe.digest,
            "files": {name: digest_file(folder / name) for name in (WEIGHTS, CONFIG, GGUF)},
        }
        write_json(folder / CARD, card)
    return load_adapter(root / id_)


def load_adapter(folder: Path) -> Adapter:
    """The adapter in a folder, its files checked against their digests.

    Raises:
        HeadwaterError: there is none.
        IntegrityError: a file was altered.
    """
    card = read_json(folder / CARD)
    if card is None:
        raise HeadwaterError(f"There is no adapter in {folder}.", mend="Run `headwater build`.")
    for name, digest in card["files"].items():
        if not (folder / name).exists() or digest_file(folder / name) != digest:
            raise IntegrityError(
                f"{name} of the adapter {short(card['id'])} is not the file that was written.",
                mend=f"Delete the folder {folder} and build again.",
            )
    return Adapter(folder=folder, **card)


def current_adapter(settings: Settings) -> Adapter:
    """The adapter that the last training made, or found made.

    One that a canary has taken back gives way to the champion's, so that changed documents still
    find their way into a release while the next training is awaited.

    Raises:
        HeadwaterError: nothing was trained yet.
    """
    current = read_json(settings.adapters / CURRENT)
    if current is None:
        raise HeadwaterError("No adapter was trained yet.", mend="Run `headwater build`.")
    champion = pointer.current(settings)
    taken_back_with = traffic.rejected_adapters(settings).get(current["id"])
    if champion is not None and taken_back_with is not None:
        serving = manifest.load(settings, champion).adapter
        if serving is not None:
            log.warning(
                "adapter %s was taken back with release %s; the champion's stays",
                short(current["id"]),
                short(taken_back_with),
            )
            return load_adapter((settings.root / serving.file).parent)
    return load_adapter(settings.adapters / current["id"])


def load_torch_with_adapter(base: BaseModel, folder: Path) -> tuple[Any, Any]:
    """The PEFT model (float32, evaluation mode) of a checked adapter, and the tokenizer."""
    from peft import PeftModel

    load_adapter(folder)
    model, tokenizer = load_torch(base)
    return PeftModel.from_pretrained(model, str(folder)).eval(), tokenizer


def write_weights(model: Any, base: BaseModel, folder: Path) -> None:
    """Write PEFT's two files, equal for equal weights (PEFT's own saving adds paths and a card)."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file({name: state[name].contiguous() for name in sorted(state)}, folder / WEIGHTS)
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = base.name
    config["inference_mode"] = True
    write_json(folder / CONFIG, _plain(config))


def write_gguf(folder: Path, base: BaseModel) -> None:
    """Write `adapter.gguf` beside the PEFT files, as llama.cpp's convert_lora_to_gguf.py does.

    Names are llama.cpp's for the layer with `.lora_a` or `.lora_b`; llama.cpp rotates pairs of
    query and key rows differently, so those rows of B are permuted as the base's were.

    Raises:
        HeadwaterError: a weight belongs to no layer that llama.cpp knows.
    """
    import gguf
    from safetensors.numpy import load_file

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, base.layers)
    writer = gguf.GGUFWriter(folder / GGUF, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(
        gguf.Keys.Adapter.LORA_ALPHA, float(read_json(folder / CONFIG)["lora_alpha"])
    )
    for name, weight in load_file(folder / WEIGHTS).items():
        match = _LORA.fullmatch(name)
        target = names.get_name(match[1]) if match else None
        if match is None or target is None:
            raise HeadwaterError(
                f"The engine knows no layer for the adapter's weight {name}.",
                mend="Choose other targets in the recipe.",
            )
        heads = {"q_proj": base.heads, "k_proj": base.kv_heads}.get(match[1].rsplit(".")[-1])
        permuted = _permute(weight, heads) if heads and match[2] == "B" else weight
        writer.add_tensor(f"{target}.weight.lora_{match[2].lower()}", permuted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _permute(weight: Any, heads: int) -> Any:
    """Rows of each head from halves to interleaved pairs, llama.cpp's order for rotation."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, 2, rows // heads // 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns).copy()


def _plain(value: Any) -> Any:
    """JSON of a PEFT configuration; sets are sorted."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
