"""A cross-encoder in a folder: what is loaded, what is not, and that it scores as it was made to."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.embeddings.cross_encoder import CrossEncoder, cross_encoder_digest
from headwater.embeddings.rerank import open_reranker, reference, rerank
from headwater.errors import HeadwaterError
from headwater.records import Hit
from headwater.settings import Settings
from tests.embeddings.examples import PASSAGES

QUESTION = "Which statement wraps a block?"


def passages() -> list[Hit]:
    texts = [*PASSAGES.values(), "The with statement wraps a block. " * 40]
    return [
        Hit(id=str(n), score=0.0, uri="", title="", heading="with", start=0, end=1, text=text)
        for n, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer that nobody has trained, with a vocabulary of the examples' words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("cross-encoder")
    words = sorted(
        {word.strip(".?").lower() for text in PASSAGES.values() for word in text.split()}
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", ".", "which", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=70, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_scores_are_those_of_the_model(model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, BertTokenizerFast

    hits = passages()
    found = CrossEncoder(model, 2, tmp_path / "kept").scores(QUESTION, hits)
    tokenizer = BertTokenizerFast.from_pretrained(model, local_files_only=True)
    theirs = AutoModelForSequenceClassification.from_pretrained(model, local_files_only=True).eval()
    for hit, score in zip(hits, found, strict=True):
        pair = tokenizer(
            QUESTION, f"with\n{hit.text}", truncation=True, max_length=64, return_tensors="pt"
        )
        with torch.no_grad():
            expected = theirs(**pair).logits[0, 0].item()
        assert score == pytest.approx(expected, abs=1e-4)
    assert len(set(found)) > 5, "they differ, so that an order can be told"
    order = [
        each.hit.id for each in rerank(CrossEncoder(model, 1, tmp_path / "kept"), QUESTION, hits, 9)
    ]
    assert order == [hits[n].id for n in np.argsort(-np.array(found), kind="stable")]
    assert len([each for each in (tmp_path / "kept").iterdir() if each.is_dir()]) == 1
    assert CrossEncoder(model, 1, tmp_path / "kept").scores(QUESTION, []) == []


@pytest.mark.models
def test_equals_sentence_transformers(model: Path, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder as Theirs

    hits = passages()[:-1]
    expected = Theirs(str(model), device="cpu", local_files_only=True).predict(
        [(QUESTION, f"with\n{hit.text}") for hit in hits], activation_fn=torch.nn.Identity()
    )
    found = CrossEncoder(model, 2, tmp_path / "kept").scores(QUESTION, hits)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_release_names_it_by_its_digest(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADWATER_RERANKER", str(model))
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    named = reference(Settings())
    assert named == f"cross-encoder/{cross_encoder_digest(model)}"
    assert isinstance(open_reranker(Settings(), named, None), CrossEncoder)
    with pytest.raises(HeadwaterError, match="is not 000000000000") as raised:
        open_reranker(Settings(), f"cross-encoder/{'0' * 64}", None)
    assert "HEADWATER_RERANKER as it was" in raised.value.mend


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    cross_encoder_digest.cache_clear()
    return tmp_path


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_digest_changes_with_the_files(folder: Path, name: str) -> None:
    before = cross_encoder_digest(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    cross_encoder_digest.cache_clear()
    assert cross_encoder_digest(folder) != before


def configured(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def composed(folder: Path) -> None:
    (folder / "modules.json").write_text('[{"type": "somebody.Module", "path": ""}]')


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (emptied, r"lacks config\.json, model\.safetensors, tokenizer\.json"),
        (pickled, r"lacks model\.safetensors"),
        (configured(auto_map={"AutoModel": "code.Model"}), "brings code of its own"),
        (configured(architectures=["BertModel"]), "is no BertForSequenceClassification: BertModel"),
        (configured(id2label={"0": "no", "1": "yes"}), "several labels"),
        (composed, "is made of somebody.Module"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no JSON"),
    ],
)
def test_what_is_missing_or_not_safe_is_refused_with_a_mend(
    folder: Path, spoil: Callable[[Path], object], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(folder)
    monkeypatch.setenv("HEADWATER_RERANKER", str(folder))
    with pytest.raises(HeadwaterError, match=what) as raised:
        reference(Settings())
    assert "HEADWATER_RERANKER" in raised.value.mend


def test_weights_without_a_head_are_not_made_up(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    cross_encoder_digest.cache_clear()
    with pytest.raises(HeadwaterError, match=r"lack classifier\.bias, classifier\.weight"):
        CrossEncoder(folder, 1, folder / "kept").scores(QUESTION, passages()[:1])
    assert not any(each.is_dir() for each in (folder / "kept").iterdir())
