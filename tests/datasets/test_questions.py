"""Questions by the base model: written once, kept by digest, refused where they are none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.base_model import BaseModel
from headwater.datasets import questions
from headwater.datasets.questions import QuestionWriter
from headwater.engine import Engine


@pytest.fixture(scope="module")
def engine(base: BaseModel) -> Iterator[Engine]:
    with Engine(base.engine, threads=1, context=512) as engine:
        yield engine


def never() -> Engine:
    raise AssertionError("the engine was opened")


def test_a_question_is_written_once(base: BaseModel, tmp_path: Path) -> None:
    def opened() -> Engine:
        return Engine(base.engine, threads=1, context=512)

    with QuestionWriter(opened, base.digest, tmp_path) as writer:
        first = writer("Snow", "A snowman is made of three balls of snow.")
    again = QuestionWriter(never, base.digest, tmp_path)
    assert again("Snow", "A snowman is made of three balls of snow.") == first
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_another_model_or_text_is_asked_anew(base: BaseModel, tmp_path: Path) -> None:
    with QuestionWriter(
        lambda: Engine(base.engine, threads=1, context=512), base.digest, tmp_path
    ) as writer:
        writer("Snow", "A snowman is made of snow.")
    with pytest.raises(AssertionError):
        QuestionWriter(never, "another", tmp_path)("Snow", "A snowman is made of snow.")
    with pytest.raises(AssertionError):
        QuestionWriter(never, base.digest, tmp_path)("Snow", "A snowman is made of ice.")


def test_the_same_text_gets_the_same_question(engine: Engine, tmp_path: Path) -> None:
    written = {
        QuestionWriter(lambda: engine, "m", tmp_path / name)._write(
            "Snow", "It is cold.", "What is"
        )
        for name in ("a", "b")
    }
    assert len(written) == 1
    assert written.pop().startswith("What is")


@pytest.mark.parametrize(
    ("written", "question"),
    [
        ("What is  a\nsnowman made of?", "What is a snowman made of?"),
        ("What is a snowman made of", None),  # cut off
        ("What is snow?", None),  # too short to be about anything
        ("What is the main point of the given text?", None),
        (f"What is {'very ' * 30}long?", None),
    ],
)
def test_only_whole_questions_about_the_subject_count(written: str, question: str | None) -> None:
    assert questions._usable(written) == question
