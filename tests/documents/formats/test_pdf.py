import pytest

from headwater.documents.formats import pdf
from headwater.documents.parsed import Block, Rejected
from tests.documents.examples import make_pdf

LINES = [
    "Harbour",
    "The harbour opens at six and closes when the last ferry",
    "has gone.",
    "Fees apply.",
]


def reason(content, max_chars=10_000):
    with pytest.raises(Rejected) as error:
        pdf.blocks(content, max_chars)
    return error.value.reason


def test_title_outline_and_paragraphs():
    content = make_pdf([LINES, ["Second page."]], title="Guide", outline={0: "Harbour"})
    title, blocks = pdf.blocks(content, 10_000)
    assert title == "Guide"
    assert blocks == [
        Block("Harbour", 1),
        Block("The harbour opens at six and closes when the last ferry has gone."),
        Block("Fees apply."),
        Block("Second page."),
    ]


def test_an_encrypted_file_is_told_from_a_broken_one():
    assert reason(make_pdf([LINES], password="secret")) == "encrypted_pdf"


def test_a_file_locked_with_the_empty_password_opens():
    assert pdf.blocks(make_pdf([LINES], password=""), 10_000)[1]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(share):
    content = make_pdf([LINES] * 30)
    assert reason(content[: int(len(content) * share)]) == "truncated_pdf"


def test_damaged():
    content = make_pdf([LINES])
    assert reason(b"GIF89a" + content[8:]) == "damaged_pdf"
    assert reason(b"%PDF-1.7\ngarbage" * 100 + b"%%EOF") == "damaged_pdf"


def test_mutants_end_accepted_or_rejected():
    content = make_pdf([LINES] * 3, title="Guide", outline={0: "Harbour"})
    outcomes = set()
    for position in range(20, len(content) - 20, 37):
        mutant = content[:position] + b"\xff<<9" + content[position + 4 :]
        try:
            pdf.blocks(mutant, 10_000)
            outcomes.add("accepted")
        except Rejected as error:
            outcomes.add(error.reason)
    assert outcomes <= {"accepted", "damaged_pdf", "no_text", "truncated_pdf", "encrypted_pdf"}
    assert len(outcomes) > 1


def test_no_text_and_too_much_text():
    assert reason(make_pdf([[]])) == "no_text"
    assert reason(make_pdf([LINES] * 5), max_chars=100) == "too_large"
