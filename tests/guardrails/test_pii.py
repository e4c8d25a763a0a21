"""Redaction with the real recognisers and the real model."""

import os
import subprocess
import sys

import pytest

from benchmarks import attacks
from headwater.guardrails.guard import Guard
from headwater.guardrails.pii import redact
from headwater.guardrails.policy import AnswerPolicy, GuardPolicy, load_policy
from headwater.records import Hit

ALL = load_policy().question.entities


@pytest.mark.parametrize("planted", attacks.personal(21), ids=lambda each: each.kind)
def test_planted_data_is_replaced_by_its_kind(planted: attacks.Planted) -> None:
    text, kinds = redact(planted.question, ALL)
    assert planted.value not in text
    assert kinds.total() >= 1
    assert any(f"[{kind}]" in text for kind in kinds)


@pytest.mark.parametrize(
    "text",
    [
        "What does Decimal do that Fraction does not?",
        "Why does Ellipsis compare equal to itself in Python 3.11.2?",
        "Is a@b.T the transpose, as in x@y?",
        "How are 1_000_000 and 0xdeadbeef and 1e-10 written?",
    ],
)
def test_names_of_a_language_are_not_names_of_people(text: str) -> None:
    assert redact(text, ALL) == (text, {})


def test_an_introduced_first_name_is_a_name() -> None:
    assert redact("I am Hannah, what is a list?", ALL)[0] == "I am [PERSON], what is a list?"


def test_an_address_with_invisible_characters_is_found_in_a_question() -> None:
    checked = Guard(load_policy()).question("Write to ada\u200b@exam\u00adple.org please")
    assert checked.logged == checked.asked == "Write to [EMAIL_ADDRESS] please"


def test_what_a_shown_passage_holds_may_be_said_if_the_policy_says_so() -> None:
    shown = Hit(
        id="a", score=1, uri="u", title="", heading="", start=0, end=0,
        text="Write to help@example.org.",
    )  # fmt: skip
    said = "Write to help@example.org or boss@example.org today."
    rules = AnswerPolicy(entities={"EMAIL_ADDRESS": 0.5})
    for keep, expected in (
        (False, "Write to [EMAIL_ADDRESS] or [EMAIL_ADDRESS] today."),
        (True, "Write to help@example.org or [EMAIL_ADDRESS] today."),
    ):
        policy = GuardPolicy(answer=rules.model_copy(update={"keep_from_passages": keep}))
        assert "".join(Guard(policy).answer([shown]).apply([said])) == expected


def test_a_number_is_a_whole_wherever_the_stream_cuts_it() -> None:
    policy = GuardPolicy(answer=AnswerPolicy(entities={"IBAN_CODE": 0.5, "PHONE_NUMBER": 0.4}))
    text = "Pay to GB82 WEST 1234 5698 7654 32 or call +49 170 1234567 now."
    for size in (1, 3, 8, len(text)):
        filter_ = Guard(policy).answer([])
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        said = "".join(filter_.apply(pieces))
        assert said == "Pay to [IBAN_CODE] or call [PHONE_NUMBER] now."
        assert filter_.decisions[0].count == 2


def test_nothing_is_looked_up_in_the_network_and_nothing_heavy_is_imported_early() -> None:
    """In a process where every connection fails, an address is judged by its public suffix."""
    code = (
        "import socket, sys\n"
        "import headwater.guardrails.guard, headwater.release.manifest\n"
        "assert not {'spacy', 'presidio_analyzer', 'badwords', 'torch'} & set(sys.modules)\n"
        "def refuse(*_): raise SystemExit('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from headwater.guardrails.pii import redact\n"
        "print(redact('ada@example.co.uk', {'EMAIL_ADDRESS': 0.5})[0])\n"
    )
    environment = {**os.environ, "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == "[EMAIL_ADDRESS]", done.stderr
