"""The adapter on disk, and that the engine reads in it what PyTorch learnt."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.base_model import BaseModel, load_torch
from headwater.engine import Engine
from headwater.errors import HeadwaterError, IntegrityError
from headwater.settings import Settings
from training import adapter as adapters
from training.adapter import Adapter, load_adapter, load_torch_with_adapter, save_adapter
from training.data import Example
from training.model import add_lora
from training.parity import parity
from training.progress import Trained
from training.recipe import Recipe
from training.trainer import train


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Trains all layers hard, so that the adapter changes what is said."""
    from training.recipe import load_recipe

    return replace(
        load_recipe("smoke"), layers=None, rank=8, epochs=10, max_steps=None,
        rows_per_step=4, learning_rate=5e-2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(
    base: BaseModel,
    examples: Sequence[Example],
    recipe: Recipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    work = tmp_path_factory.mktemp("adapter") / "work"
    return train(examples, [], base, recipe, work=work, threads=2)


@pytest.fixture(scope="module")
def adapter(
    trained: Trained, base: BaseModel, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Adapter:
    return save_adapter(trained.model, base, "d" * 64, recipe, tmp_path_factory.mktemp("adapters"))


def test_engine_and_torch_agree_with_the_adapter_and_differ_without(
    trained: Trained, base: BaseModel, adapter: Adapter, examples: Sequence[Example]
) -> None:
    report = parity(
        trained.model, trained.tokenizer, base, adapter,
        [example.prompt for example in examples[:4]], threads=2, n_tokens=12,
    )  # fmt: skip
    assert report.agreement >= 0.95
    assert report.without < 0.5
    assert report.tokens == sum(len(row.torch) for row in report.prompts) > 0


def test_rows_of_b_are_permuted_as_llama_cpp_rotates(
    trained: Trained,
    base: BaseModel,
    adapter: Adapter,
    examples: Sequence[Example],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapters, "_permute", lambda weight, heads: weight)
    folder = adapter.folder.with_name("unpermuted")
    folder.mkdir()
    for name in (adapters.WEIGHTS, adapters.CONFIG):
        (folder / name).write_bytes((adapter.folder / name).read_bytes())
    adapters.write_gguf(folder, base)
    plain = (folder / adapters.GGUF).read_bytes()
    assert plain != adapter.gguf.read_bytes()
    report = parity(
        trained.model, trained.tokenizer, base, replace(adapter, folder=folder),
        [example.prompt for example in examples[:4]], threads=2, n_tokens=12,
    )  # fmt: skip
    assert report.agreement < 0.95


def test_reading_back_gives_the_same_weights(
    trained: Trained, base: BaseModel, adapter: Adapter
) -> None:
    import torch

    model, _ = load_torch_with_adapter(base, adapter.folder)
    state = model.state_dict()
    assert all(torch.equal(state[name], w) for name, w in trained.model.state_dict().items())


def test_same_weights_give_the_same_files(
    trained: Trained, base: BaseModel, adapter: Adapter, recipe: Recipe, tmp_path: Path
) -> None:
    again = save_adapter(trained.model, base, "d" * 64, recipe, tmp_path)
    assert (again.id, again.files) == (adapter.id, adapter.files)
    assert str(tmp_path) not in (again.folder / adapters.CONFIG).read_text()


def test_id_follows_base_rows_and_recipe(base: BaseModel, recipe: Recipe) -> None:
    ids = {
        adapters.adapter_id(base, "d", recipe),
        adapters.adapter_id(replace(base, engine_digest="x"), "d", recipe),
        adapters.adapter_id(base, "e", recipe),
        adapters.adapter_id(base, "d", replace(recipe, seed=7)),
    }
    assert len(ids) == 4


def test_an_altered_file_is_refused(
    trained: Trained, base: BaseModel, recipe: Recipe, tmp_path: Path
) -> None:
    adapter = save_adapter(trained.model, base, "d" * 64, recipe, tmp_path)
    content = adapter.gguf.read_bytes()
    adapter.gguf.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"adapter\.gguf"):
        load_adapter(adapter.folder)


def test_missing_adapters(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="no adapter in"):
        load_adapter(tmp_path)
    with pytest.raises(HeadwaterError, match="No adapter was trained"):
        adapters.current_adapter(Settings(home=tmp_path))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_targets_that_the_engine_does_not_know(
    base: BaseModel, smoke: Recipe, tmp_path: Path
) -> None:
    model, _ = load_torch(base)
    peft = add_lora(model, replace(smoke, targets=("embed_tokens",), layers=None))
    with pytest.raises(HeadwaterError, match="embed_tokens"):
        save_adapter(peft, base, "d" * 64, smoke, tmp_path)


def test_untrained_adapter_changes_nothing(
    base: BaseModel, smoke: Recipe, tmp_path: Path, examples: Sequence[Example]
) -> None:
    model, _ = load_torch(base)
    adapter = save_adapter(add_lora(model, smoke), base, "d" * 64, smoke, tmp_path)
    with Engine(base.engine, adapter.gguf, threads=2) as engine:
        answers = {
            engine.complete(examples[0].prompt, max_tokens=8, adapter=on, cache_prompt=False).text
            for on in (True, False)
        }
    assert len(answers) == 1
