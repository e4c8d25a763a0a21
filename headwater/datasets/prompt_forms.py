"""A prompt in the forms that people edit: MLflow's chat messages and a YAML file; and its rules.

Both write variables with two braces. Knows text and token counts; knows neither the registry nor a
tokenizer.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from headwater.datasets.prompt import Message, TokenCounter, chat_text, render
from headwater.engine import CONTEXT_TOKENS
from headwater.errors import HeadwaterError
from headwater.records import Prompt

VARIABLES = frozenset({"context", "question"})
MOST_PASSAGES = 20
FEWEST_CONTEXT_TOKENS = 48
#: Tokens that stay free for a question and its answer.
ROOM = 256

_VARIABLE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
_ONE_BRACE = re.compile(r"(?<!\{)\{(?:context|question)\}(?!\})")
_FIELDS = ("system", "examples", "user", "top_k", "max_context_tokens")


def to_messages(prompt: Prompt) -> list[Message]:
    """The chat that MLflow keeps: system, the examples in pairs, and the user's with variables."""
    pairs = (
        ({"role": "user", "content": user}, {"role": "assistant", "content": assistant})
        for user, assistant in prompt.examples
    )
    return [
        {"role": "system", "content": prompt.system},
        *(message for pair in pairs for message in pair),
        {"role": "user", "content": _two_braces(prompt.user)},
    ]


def from_messages(messages: Any, *, top_k: Any, max_context_tokens: Any, where: str) -> Prompt:
    """The prompt that a chat makes.

    Args:
        messages: role and content each, as somebody may have written them.
        top_k: a number, or the text of one.
        max_context_tokens: the same.
        where: what the chat is, for errors: "Prompt version 3".

    Raises:
        HeadwaterError: a rule is broken; see docs/prompts.md.
    """
    texts = _texts(messages, where)
    if not texts or texts[0][0] != "system":
        raise _wrong(
            where,
            "does not begin with a system message",
            "Put a message of role system first, which says how to answer.",
        )
    if texts[-1][0] != "user":
        raise _wrong(
            where,
            "does not end with a user message",
            "Put the message with {{context}} and {{question}} last.",
        )
    between = texts[1:-1]
    if [role for role, _ in between] != ["user", "assistant"] * (len(between) // 2):
        said = ", ".join(role for role, _ in between)
        raise _wrong(
            where,
            f"has examples that are not pairs of user and assistant ({said})",
            "Give every example a user message, then the assistant message that answers it.",
        )
    for role, content in texts[:-1]:
        if name := _VARIABLE.search(content):
            raise _wrong(
                where,
                f"has the variable {name[0]} in a message of role {role} before the last",
                "Only the last message is filled in: write out an example's passages and question.",
            )
    return Prompt(
        system=texts[0][1],
        user=_one_brace(texts[-1][1], where),
        max_context_tokens=_number(
            "max_context_tokens", max_context_tokens, FEWEST_CONTEXT_TOKENS, CONTEXT_TOKENS, where
        ),
        top_k=_number("top_k", top_k, 1, MOST_PASSAGES, where),
        examples=tuple(
            (user, assistant)
            for (_, user), (_, assistant) in zip(between[::2], between[1::2], strict=True)
        ),
    )


def to_yaml(prompt: Prompt) -> str:
    """The prompt as a file that a person edits."""
    fields: dict[str, Any] = {"system": prompt.system}
    if prompt.examples:
        fields["examples"] = [
            {"user": user, "assistant": assistant} for user, assistant in prompt.examples
        ]
    fields |= {
        "user": _two_braces(prompt.user),
        "top_k": prompt.top_k,
        "max_context_tokens": prompt.max_context_tokens,
    }
    return yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=96)


def from_yaml(text: str, where: str) -> Prompt:
    """The prompt that a file holds; whitespace around its texts does not count.

    Raises:
        HeadwaterError: it is not YAML of this shape, or a rule is broken.
    """
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise _wrong(
            where, f"is not YAML: {said}", "Correct it; quote texts with braces."
        ) from error
    if not isinstance(fields, Mapping):
        raise _wrong(where, "holds no fields", f"Give it {', '.join(_FIELDS)}.")
    if unknown := sorted(str(name) for name in set(fields) - set(_FIELDS)):
        raise _wrong(
            where, f"has unknown fields: {', '.join(unknown)}", f"Known are {', '.join(_FIELDS)}."
        )
    if missing := [name for name in _FIELDS if name != "examples" and name not in fields]:
        raise _wrong(where, f"lacks {', '.join(missing)}", "Add what is missing.")
    examples = fields.get("examples") or []
    if not isinstance(examples, list) or not all(
        isinstance(pair, Mapping) and set(pair) == {"user", "assistant"} for pair in examples
    ):
        raise _wrong(
            where,
            "has examples that are not pairs",
            "Write examples as a list, each with user and assistant.",
        )
    messages = [
        {"role": "system", "content": _stripped(fields["system"])},
        *(
            {"role": role, "content": _stripped(pair[role])}
            for pair in examples
            for role in ("user", "assistant")
        ),
        {"role": "user", "content": _stripped(fields["user"])},
    ]
    return from_messages(
        messages,
        top_k=fields["top_k"],
        max_context_tokens=fields["max_context_tokens"],
        where=where,
    )


def check_length(
    prompt: Prompt, count_tokens: TokenCounter, *, where: str, context: int = CONTEXT_TOKENS
) -> None:
    """Make sure that text, examples and passages leave room for a question and its answer.

    Raises:
        HeadwaterError: they do not.
    """
    (own,) = count_tokens([chat_text(render(prompt, "", []))])
    needed = own + prompt.max_context_tokens + ROOM
    if needed > context:
        raise _wrong(
            where,
            f"needs {needed} tokens where the engine takes {context}: {own} of its own text,"
            f" {prompt.max_context_tokens} of passages, {ROOM} for question and answer",
            "Shorten its examples, or lower max_context_tokens.",
        )


def _texts(messages: Any, where: str) -> list[tuple[str, str]]:
    """Role and text of each message."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise _wrong(where, "is no chat", "Register it as a list of messages, not as one text.")
    texts = []
    for number, message in enumerate(messages, 1):
        role, content = (
            (message.get("role"), message.get("content"))
            if isinstance(message, Mapping)
            else (None, None)
        )
        if not isinstance(role, str) or not isinstance(content, str) or not content.strip():
            raise _wrong(
                where,
                f"has no text in message {number}",
                "Give every message a role and a content that is plain text.",
            )
        texts.append((role, content))
    return texts


def _two_braces(user: str) -> str:
    return re.sub(r"\{(context|question)\}", r"{{\1}}", user)


def _one_brace(user: str, where: str) -> str:
    """The user's message as records hold it, once its variables are known to be right."""
    found = set(_VARIABLE.findall(user))
    if loose := _ONE_BRACE.search(user):
        raise _wrong(
            where, f"writes {loose[0]} with one brace", f"Write {{{loose[0]}}}, with two braces."
        )
    if unknown := sorted(found - VARIABLES):
        names = ", ".join(f"{{{{{name}}}}}" for name in unknown)
        raise _wrong(
            where,
            f"has variables that nothing fills: {names}",
            "Use {{context}} and {{question}} alone.",
        )
    if missing := sorted(VARIABLES - found):
        names = ", ".join(f"{{{{{name}}}}}" for name in missing)
        raise _wrong(where, f"lacks {names} in its last message", "Put it where it belongs.")
    return _VARIABLE.sub(r"{\1}", user)


def _number(name: str, value: Any, low: int, high: int, where: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise _wrong(
            where,
            f"has the {name} {value!r}",
            f"Set {name} to a whole number from {low} to {high}.",
        )
    return number


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _wrong(where: str, what: str, mend: str) -> HeadwaterError:
    return HeadwaterError(f"{where} {what}.", mend=mend)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
