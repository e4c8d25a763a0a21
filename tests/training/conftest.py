"""The tiny base model, prepared once, and a few examples to train it on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headwater.base_model import TINY, BaseModel, prepare
from headwater.settings import Settings
from training.data import Example
from training.recipe import Recipe, load_recipe


@pytest.fixture(scope="session")
def home(furnished: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnished(tmp_path_factory.mktemp("training-home"))


@pytest.fixture(scope="session")
def base(home: Path) -> BaseModel:
    return prepare(Settings(home=home), TINY)


@pytest.fixture
def smoke() -> Recipe:
    return load_recipe("smoke")


@pytest.fixture(scope="session")
def examples() -> Sequence[Example]:
    return make_examples(12)


def make_examples(count: int) -> list[Example]:
    """Distinct examples of different lengths."""
    return [
        Example(
            id=f"row-{number:02d}",
            prompt=(
                "<|im_start|>user\n" + f"What is item {number}? " * (1 + number % 4)
                + "<|im_end|>\n<|im_start|>assistant\n"
            ),
            completion=f"Item {number} is the one after {number - 1}.<|im_end|>",
        )
        for number in range(count)
    ]  # fmt: skip
