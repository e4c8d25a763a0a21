"""The queue asks what is uncertain, each thing once, and nothing that judges."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.datasets.queue import ALIKE, Candidate, most_worth, support, worth
from headwater.records import GoldenItem, digest_bytes

PASSAGE = "The kettle must be descaled every month with citric acid and rinsed twice."


def candidate(id: str = "t", **changes: object) -> Candidate:
    fields: dict[str, object] = {
        "id": id, "question": f"What about {id}?", "answer": "Descaled every month",
        "scores": (1.0, 0.2), "passages": (PASSAGE,),
    }  # fmt: skip
    return Candidate(**(fields | changes))  # type: ignore[arg-type]


def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Unit vectors of the words in the texts."""
    vectors = np.zeros((len(texts), 256), np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, int(digest_bytes(word.encode())[:8], 16) % 256] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ask(
    candidates: Sequence[Candidate],
    limit: int = 50,
    golden: Sequence[GoldenItem] = (),
    asked: Sequence[str] = (),
) -> list[str]:
    found = most_worth(candidates, golden=golden, encode=encode, limit=limit, asked=asked)
    return [each.id for each in found]


@pytest.mark.parametrize(
    ("surer", "less_sure"),
    [
        (candidate(), candidate(answer="Kettles are made by elves")),
        (candidate(), candidate(scores=(1.0, 0.95))),
        (candidate(), candidate(scores=(0.5, 0.1))),
        (candidate(), candidate(scores=())),
        (candidate(), candidate(disliked=True)),
        (candidate(answer="Kettles are made by elves"), candidate(disliked=True, scores=(0.1,))),
    ],
)
def test_what_is_uncertain_is_worth_more(surer: Candidate, less_sure: Candidate) -> None:
    assert worth(surer) < worth(less_sure)


def test_support_is_the_part_of_the_answer_that_the_passages_hold() -> None:
    assert support("descaled every month", [PASSAGE]) == 1
    assert support("month every descaled", [PASSAGE]) == 0
    assert support("descaled every year", ["nothing", PASSAGE]) == 0.5
    assert support("", [PASSAGE]) == 0
    assert support("kettle", ["kettle"]) == 1


@given(
    scores=st.lists(st.floats(0, 1), max_size=4),
    answer=st.text(max_size=40),
    passages=st.lists(st.text(max_size=40), max_size=3),
    disliked=st.booleans(),
)
def test_worth_is_bounded(
    scores: list[float], answer: str, passages: list[str], disliked: bool
) -> None:
    made = candidate(
        scores=tuple(sorted(scores, reverse=True)),
        answer=answer,
        passages=tuple(passages),
        disliked=disliked,
    )
    assert 0 <= worth(made) - disliked <= 2


def test_the_most_uncertain_comes_first_and_no_more_than_asked_for() -> None:
    sure = candidate("sure", question="How often is a kettle descaled?")
    unsure = candidate("unsure", question="Who makes teapots in winter?", answer="Elves do it")
    disliked = candidate("disliked", question="Where are spoons kept?", disliked=True)
    assert ask([sure, unsure, disliked]) == ["disliked", "unsure", "sure"]
    assert ask([sure, unsure, disliked], limit=1) == ["disliked"]


def test_the_same_question_in_other_case_or_nearly_the_same_words_is_asked_once() -> None:
    same = [candidate(f"t{n}", question="Why  is my kettle LOUD?") for n in range(10)]
    near = candidate("near", question="Why is my kettle loud? really")
    other = candidate("other", question="Where does tea grow best?")
    assert ask([*same, near, other]) == ["near", "other"]
    assert len(ask(same)) == 1


def test_many_equal_questions_do_not_crowd_out_others() -> None:
    same = [candidate(f"t{n}", question="Why is my kettle loud?", disliked=True) for n in range(99)]
    assert ask([*same, candidate("other", question="Where does tea grow best?")]) == ["t0", "other"]


def test_what_was_asked_before_is_not_asked_in_nearly_the_same_words() -> None:
    found = [candidate("t", question="Why is my kettle so loud today?")]
    assert ask(found, asked=["Why is my kettle so loud today"]) == []
    assert ask(found, asked=["Why is my kettle so loud today?"]) == []
    assert ask(found, asked=["Where does tea grow best?"]) == ["t"]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4), max_size=12))
def test_no_two_of_the_chosen_are_alike(questions: list[list[str]]) -> None:
    made = [candidate(f"t{n}", question=" ".join(words)) for n, words in enumerate(questions)]
    chosen = set(ask(made))
    vectors = [encode([each.question])[0] for each in made if each.id in chosen]
    for at, vector in enumerate(vectors):
        assert all(float(vector @ other) < ALIKE for other in vectors[:at])
    assert bool(chosen) == bool(made)


def test_golden_questions_are_never_asked() -> None:
    item = GoldenItem(
        id="g", question="How often is a kettle descaled?", reference="Once a month, with an acid.",
        uris=("u",), category="c", provisional=False,
    )  # fmt: skip
    made = [
        candidate("same", question="How often is a kettle descaled?"),
        candidate("near", question="Tell me: how often is a kettle descaled?"),
        candidate("answer", question="What then?", answer="Once a month, with an acid."),
        candidate("free", question="Where does tea grow best?"),
    ]
    assert ask(made, golden=[item]) == ["free"]
