"""What a chunk can ask and answer by itself: whole, clean sentences, and nothing else."""

import pytest

from headwater.datasets.extract import LONGEST, SHORTEST, best_sentences, locations, pairs
from headwater.datasets.sentences import paragraphs, plain

METHOD = """object.__del__(self)

   Called when the *instance* is about to be destroyed [4] (see Destroying).
   This is also called a finalizer.

   >>> del x
   it prints Nothing here is prose.

str.lower()

   Return a copy of the string
   with all the "cased" characters converted to lowercase.
"""
SECTION = """The "pump" loop

The pump is a machine that moves water from
the well to the tank. It needs read-
only access.

   pump_stmt ::= "pump" expression

A valve must be opened before the pump starts. They shift it by one.

* The handle can be removed for cleaning, if the pump is dry.
* Screws and bolts.

This is why nobody touches it in the winter months.
"""


def asked(kind: str, text: str, heading: str = "Well > The pump loop") -> dict[str, str]:
    found = pairs(heading, text, opens_section=True)
    return {pair.question: pair.answer for pair in found if pair.kind == kind}


def test_a_section_answers_what_its_heading_asks() -> None:
    ((question, answer),) = asked("heading", SECTION).items()
    assert "the pump loop" in question.lower()
    assert answer.startswith("The pump is a machine that moves water from the well to the tank.")


def test_a_later_chunk_of_a_section_does_not_answer_its_heading() -> None:
    assert "heading" not in {p.kind for p in pairs("The pump", SECTION, opens_section=False)}


def test_definitions_and_details_ask_for_a_sentences_subject() -> None:
    assert "What is the pump?" in asked("definition", SECTION)
    details = asked("detail", SECTION)
    valve = details["In The pump loop, how must a valve be opened?"]
    assert valve.startswith("A valve must be opened")
    assert "In The pump loop, how can the handle be removed?" in details


def test_methods_are_asked_for_by_name() -> None:
    found = asked("signature", METHOD, "Methods")
    assert len(found) == 2
    dunder = next(answer for question, answer in found.items() if "__del__()" in question)
    assert dunder == (
        "Called when the instance is about to be destroyed. This is also called a finalizer."
    )
    lower = next(answer for question, answer in found.items() if "str.lower()" in question)
    assert lower == (
        "Return a copy of the string with all the cased characters converted to lowercase."
    )


@pytest.mark.parametrize("text", [METHOD, SECTION, "", "Word", "1.\n2.\n", "::=\n" * 9])
def test_answers_are_whole_sentences_that_stand_alone(text: str) -> None:
    for pair in pairs("A > B", text, opens_section=True):
        assert pair.answer.endswith(".")
        assert SHORTEST <= len(pair.answer.split()) <= LONGEST
        assert not pair.answer.startswith(("It ", "They ", "This "))
        assert not {"*", "`", "\n", "::="} & set(pair.answer)


def test_code_grammar_and_titles_are_no_prose() -> None:
    text = ">>> x = 1\n\nA Title\n\na ::= b\n\nx = 5\n\nThis is prose, at last."
    assert paragraphs(text) == [["This is prose, at last."]]


def test_abbreviations_do_not_end_a_sentence() -> None:
    text = "Some names, e.g. Python and i.e. Monty, are names. Others are not names."
    assert [len(paragraph) for paragraph in paragraphs(text)] == [2]


def test_markup_goes_and_arguments_stay() -> None:
    assert plain('The *cls* of "f(*args, **kwargs)" is ``None`` [2].') == (
        "The cls of f(*args, **kwargs) is None."
    )


def test_a_written_question_gets_the_sentence_that_holds_its_words() -> None:
    answer = best_sentences("When must a valve be opened?", "The pump", SECTION)
    assert answer is not None
    assert answer.startswith("A valve must be opened before the pump starts.")


@pytest.mark.parametrize(
    "question",
    ["Who painted the ceiling of the chapel?", 'What does "valvo" do when a valve is opened?', "?"],
)
def test_a_question_that_no_sentence_answers_gets_none(question: str) -> None:
    assert best_sentences(question, "The pump", SECTION) is None


def test_every_document_says_where_things_are() -> None:
    found = list(locations("Manual", "Manual > Descaling"))
    assert len({pair.question for pair in found}) == len({pair.answer for pair in found}) == 4
    assert all("descaling" in pair.question for pair in found)
    assert list(locations("Manual", "Manual"))
