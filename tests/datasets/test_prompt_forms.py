"""Messages and YAML make the same prompt, and what breaks a rule says which and how to mend it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.datasets.prompt_forms import (
    check_length,
    from_messages,
    from_yaml,
    to_messages,
    to_yaml,
)
from headwater.errors import HeadwaterError
from headwater.records import Prompt

EXAMPLES = (("Passages: Tea is hot.\nQuestion: What is tea?", "Hot."), ("Who?", "Nobody: [1]."))
SHOWN = replace(DEFAULT_PROMPT, examples=EXAMPLES)
SETTINGS = {"top_k": 3, "max_context_tokens": 360}
LAST = {"role": "user", "content": "{{context}} {{ question }}"}
SYSTEM = {"role": "system", "content": "Answer."}


def chat(*messages: Any) -> Prompt:
    return from_messages(list(messages), **SETTINGS, where="Prompt version 7")


@pytest.mark.parametrize("prompt", [DEFAULT_PROMPT, SHOWN])
def test_both_forms_give_the_prompt_back(prompt: Prompt) -> None:
    settings = {"top_k": str(prompt.top_k), "max_context_tokens": str(prompt.max_context_tokens)}
    assert from_messages(to_messages(prompt), **settings, where="") == prompt
    assert from_yaml(to_yaml(prompt), "") == prompt
    assert "{{context}}\n" in to_yaml(prompt), "a text of several lines is a block"


@settings(max_examples=30)
@given(
    user=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    said=st.text(st.characters(codec="utf-8"), min_size=1),
)
def test_any_text_comes_back(user: str, said: str) -> None:
    asked = f"q {user}{{context}}: {{question}}?".replace("{{", "").replace("}}", "")
    answer = f"a {said} a".replace("{{", "")
    prompt = replace(DEFAULT_PROMPT, user=asked, examples=((answer, answer),))
    assert from_messages(to_messages(prompt), **SETTINGS, where="") == prompt


def test_a_block_ends_without_its_last_line_break() -> None:
    text = to_yaml(SHOWN).replace("|-", "|")
    assert from_yaml(text, "") == SHOWN


EXAMPLE = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody."}]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([LAST], "system message"),
        ([SYSTEM, *EXAMPLE], "user message"),
        ([SYSTEM, EXAMPLE[0], LAST], r"pairs.*\(user\)"),
        ([SYSTEM, *reversed(EXAMPLE), LAST], "pairs"),
        ([SYSTEM, {"role": "user", "content": "{{context}}"}], r"lacks \{\{question\}\}"),
        ([SYSTEM, {"role": "user", "content": "{{context}} {question}"}], "one brace"),
        (
            [SYSTEM, {"role": "user", "content": "{{context}} {{question}} {{date}}"}],
            r"\{\{date\}\}",
        ),
        ([{"role": "system", "content": "{{question}}"}, LAST], "before the last"),
        ([SYSTEM, {**EXAMPLE[0], "content": "{{context}}"}, EXAMPLE[1], LAST], "before the last"),
        ([{**SYSTEM, "content": " "}, LAST], "no text in message 1"),
        ([SYSTEM, {"role": "user", "content": [{"type": "image"}]}], "no text in message 2"),
        ("Answer {{question}} from {{context}}", "is no chat"),
    ],
)
def test_what_is_wrong_with_a_chat(messages: Any, said: str) -> None:
    with pytest.raises(HeadwaterError, match=said) as raised:
        from_messages(messages, **SETTINGS, where="Prompt version 7")
    assert raised.value.what.startswith("Prompt version 7 ")
    assert raised.value.mend


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 0}, {"top_k": "21"}, {"top_k": "many"}, {"top_k": True}, {"top_k": 2.5},
        {"max_context_tokens": 20}, {"max_context_tokens": "2049"},
    ],
)  # fmt: skip
def test_settings_out_of_bounds(settings: dict[str, Any]) -> None:
    with pytest.raises(HeadwaterError, match=next(iter(settings))):
        from_messages([SYSTEM, LAST], **{**SETTINGS, **settings}, where="Prompt version 7")


def test_blanks_in_a_variable_say_nothing() -> None:
    assert chat(SYSTEM, LAST).user == "{context} {question}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("system: [", "YAML"),
        ("just text", "no fields"),
        ("system: a\nuser: b\ntopk: 3", "unknown fields: topk"),
        ("system: a\nuser: b", "lacks top_k"),
        (to_yaml(SHOWN).replace("assistant:", "answer:"), "examples"),
        (to_yaml(DEFAULT_PROMPT).replace("{{context}}", "{{ctx}}"), "ctx"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, said: str) -> None:
    with pytest.raises(HeadwaterError, match=said):
        from_yaml(text, "prompt.yaml")


def test_text_examples_and_passages_leave_room_for_an_answer() -> None:
    def words(texts: Any) -> list[int]:
        return [len(text.split()) for text in texts]

    check_length(SHOWN, words, where="Prompt version 7", context=800)
    for long in (
        replace(SHOWN, examples=(*EXAMPLES, ("word " * 500, "Yes."))),
        replace(SHOWN, max_context_tokens=700),
    ):
        with pytest.raises(HeadwaterError, match=r"Prompt version 7 needs \d+ tokens"):
            check_length(long, words, where="Prompt version 7", context=800)
