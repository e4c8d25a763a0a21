from hypothesis import given
from hypothesis import strategies as st

from headwater.datasets.citations import rank_citations
from headwater.records import Hit

TEXTS = {
    "for": "The for statement is used to iterate over the elements of a sequence.",
    "while": "The while statement is used for repeated execution as long as it is true.",
    "pass": "pass is a null operation: when it is executed, nothing happens.",
}


def hit(name: str, text: str) -> Hit:
    return Hit(
        id=name, score=1.0, uri=f"doc://{name}", title="", heading="Statements", start=0, end=1,
        text=text,
    )  # fmt: skip


HITS = [hit(name, text) for name, text in TEXTS.items()]


def ranked(answer: str) -> list[str]:
    return [one.id for one in rank_citations(answer, HITS)]


def test_a_copied_or_paraphrased_passage_comes_first() -> None:
    assert ranked("It is used for repeated execution as long as it is true.")[0] == "while"
    assert ranked("Nothing happens when it is executed; a null operation")[0] == "pass"


def test_words_of_every_passage_decide_less_than_those_of_one() -> None:
    shared = "Statements: the is executed, used"
    assert ranked(shared)[0] == "for", "the first of the retrieval"
    assert ranked(f"{shared}; a NULL Operation")[0] == "pass"


def test_without_evidence_the_order_of_retrieval_stays() -> None:
    for answer in ("", "Bananas!", "¿?"):
        assert ranked(answer) == list(TEXTS)
    assert rank_citations("anything", []) == []


def test_repeating_words_adds_nothing() -> None:
    assert ranked("null operation. the the the the the") == ranked("null operation. the the")


@given(st.text(), st.permutations(range(3)))
def test_a_permutation_that_does_not_depend_on_hash_order(answer: str, order: list[int]) -> None:
    hits = [HITS[at] for at in order]
    result = rank_citations(answer, hits)
    assert sorted(one.id for one in result) == sorted(TEXTS)
    assert result == rank_citations(answer, hits)
