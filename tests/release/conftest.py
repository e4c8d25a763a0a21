"""A release over small files that lie where the real ones do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.base_model import BaseModel
from headwater.files import write_json
from headwater.records import Prompt, digest_bytes
from headwater.release.manifest import Release, pin_adapter, pin_base
from headwater.settings import Settings

PROMPT = Prompt(system="Answer.", user="{context}\n{question}", max_context_tokens=100, top_k=3)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def write_adapter(settings: Settings, content: bytes) -> Path:
    """An adapter folder as training saves it."""
    digest = digest_bytes(content)
    folder = settings.adapters / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.gguf").write_bytes(b"gguf " + content)
    (folder / "adapter_model.safetensors").write_bytes(content)
    write_json(
        folder / "adapter.json",
        {
            "id": folder.name,
            "weights_digest": digest,
            "files": {
                "adapter.gguf": digest_bytes(b"gguf " + content),
                "adapter_model.safetensors": digest,
            },
        },
    )
    return folder


def write_base(settings: Settings) -> BaseModel:
    """A base model whose engine file is a few bytes; nothing here loads it."""
    engine = settings.models / "abc" / "model-q8_0.gguf"
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_bytes(b"engine")
    return BaseModel(
        name="test", digest="d" * 64, source=engine, engine=engine,
        engine_digest=digest_bytes(b"engine"), tokenizer=engine, licence="", parameters=1,
        hidden=1, layers=1, heads=1, kv_heads=1, context=1, chat_template="",
    )  # fmt: skip


@pytest.fixture
def make_release(settings: Settings) -> Callable[..., Release]:
    """Build a release; `weights` and any field can be chosen."""

    def make(weights: bytes = b"weights", **fields: object) -> Release:
        values = {
            "base_model": pin_base(settings, write_base(settings)),
            "adapter": pin_adapter(settings, write_adapter(settings, weights)),
            "prompt": PROMPT,
            "index": "index1",
            "embedding_model": "e" * 64,
            "retrieval": {"rrf_k": 60, "dense_weight": 0.5},
        }
        return Release(**(values | fields))  # type: ignore[arg-type]

    return make
