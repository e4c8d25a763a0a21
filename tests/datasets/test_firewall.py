"""The firewall: golden questions and near-duplicates are found, honest rows are not."""

import pytest

from headwater.datasets.firewall import leaks
from headwater.records import GoldenItem, TrainingRow

GOLDEN = GoldenItem(
    id="g1",
    question="What value does the loop variable of a for loop have after break ends the loop?",
    reference="It keeps the value it had when break was executed, since the loop never resets it.",
    uris=("u",),
    category="c",
    provisional=False,
)


def row(question: str, answer: str = "Something else altogether is said here.") -> TrainingRow:
    return TrainingRow(
        id="r1", kind="written", question=question, answer=answer, chunk_id="c", uri="u",
        context=("c",), split="train",
    )  # fmt: skip


@pytest.mark.parametrize(
    "question",
    [
        GOLDEN.question,
        GOLDEN.question.upper(),
        GOLDEN.question.replace("?", " !").replace(" ", "   "),
        f"Please tell me: {GOLDEN.question} I need to know.",
        f"My colleague and I have argued about this all morning, and nobody could settle it, so "
        f"we would like you to tell us once and for all: {GOLDEN.question}",
        "What value does the loop variable of a for loop have after break?",
        "Which value does the loop variable of a for loop have after break ends the loop?",
    ],
)
def test_a_golden_question_in_disguise_is_found(question: str) -> None:
    (leak,) = leaks([row(question)], [GOLDEN])
    assert (leak.row_id, leak.golden_id) == ("r1", "g1")
    assert leak.similarity >= 0.5


def test_a_golden_reference_as_an_answer_is_found() -> None:
    assert leaks([row("Tell me about loops.", f"Well: {GOLDEN.reference}")], [GOLDEN])


@pytest.mark.parametrize(
    "question",
    [
        "What does break do?",
        "What is the loop variable?",
        "How is the target list of a for loop assigned?",
        "",
    ],
)
def test_another_question_on_the_subject_passes(question: str) -> None:
    assert leaks([row(question)], [GOLDEN]) == []


def test_nothing_leaks_without_a_golden_set() -> None:
    assert leaks([row(GOLDEN.question)], []) == []
