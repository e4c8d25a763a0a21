"""The prompt: how a question and its passages become the text that the model reads.

Training, evaluation and serving render with these functions and no others. Knows strings and
token counts; knows neither a tokenizer nor where passages come from.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from headwater.records import Hit, Prompt

#: The first version in the registry, where people edit it. Short, because a prompt's prefill is most
#: of an answer's time, and plain, because the model is small.
DEFAULT_PROMPT = Prompt(
    system="Answer the question with a short sentence from the passages.",
    user="<passages>\n{context}\n</passages>\nQuestion: {question}",
    max_context_tokens=360,
    top_k=3,
)
#: A passage that is cut to fewer tokens than this says too little to be shown.
_LEAST_TOKENS = 48
#: Tokens of "[1] " and of the line breaks around a passage.
_MARKS = 6

_SPECIAL = re.compile(r"<\|(\w+)\|>")
_FENCE = re.compile(r"<(/?passages)>", re.IGNORECASE)
_WORD = re.compile(r"\S+\s*")

Message = dict[str, str]
TokenCounter = Callable[[Sequence[str]], list[int]]


def render(prompt: Prompt, question: str, hits: Sequence[Hit]) -> list[Message]:
    """Chat messages that ask a question about numbered passages, after the prompt's examples.

    Passages are data: what they hold cannot close their frame or begin another turn. The prompt
    shows them as they are given; see `fit` for how many.
    """
    numbered = (f"[{number}] {passage(hit)}" for number, hit in enumerate(hits, 1))
    context = _FENCE.sub(r"< \1>", "\n\n".join(numbered))
    # Not str.format: question and passages may hold braces.
    parts = {"{context}": context, "{question}": " ".join(question.split())}
    user = re.sub(r"\{context\}|\{question\}", lambda match: parts[match[0]], prompt.user)
    shown = (
        {"role": role, "content": text}
        for pair in prompt.examples
        for role, text in zip(("user", "assistant"), pair, strict=True)
    )
    return [
        {"role": "system", "content": prompt.system},
        *shown,
        {"role": "user", "content": user},
    ]


def passage(hit: Hit) -> str:
    """A passage as the prompt shows it: its heading path, then its text."""
    return f"{hit.heading or hit.title}\n{hit.text}".strip()


def chat_text(messages: Sequence[Mapping[str, str]], answer: str | None = None) -> str:
    """Messages in ChatML, as SmolLM2's own template writes them, open for the assistant.

    Special tokens inside a message are broken up, so that no content can begin or end a turn.

    Args:
        messages: role and content each; the first is the system's.
        answer: where given, it and the token that ends the turn follow.
    """
    turns = "".join(
        f"<|im_start|>{message['role']}\n{_plain(message['content'])}<|im_end|>\n"
        for message in messages
    )
    opened = f"{turns}<|im_start|>assistant\n"
    return opened if answer is None else f"{opened}{_plain(answer)}<|im_end|>"


def fit(hits: Sequence[Hit], count_tokens: TokenCounter, max_tokens: int) -> list[Hit]:
    """The passages, best first, that fit a budget of tokens; the last may be cut at a word.

    The best passage is always shown, cut if it must be. A cut passage keeps its span: the span
    names what was retrieved.
    """
    fitting: list[Hit] = []
    left = max_tokens
    for hit, size in zip(hits, count_tokens([passage(hit) for hit in hits]), strict=True):
        room = left - _MARKS
        if size > room:
            if room >= _LEAST_TOKENS or not fitting:
                fitting.append(_cut(hit, count_tokens, room))
            break
        fitting.append(hit)
        left = room - size
    return fitting


def _cut(hit: Hit, count_tokens: TokenCounter, room: int) -> Hit:
    """The longest beginning of a passage, in whole words, within `room` tokens."""
    ends = [match.end() for match in _WORD.finditer(hit.text)]
    shorter = [dataclasses.replace(hit, text=hit.text[:end].rstrip()) for end in ends]
    low, high = 0, len(shorter) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens([passage(shorter[middle])])[0] <= room:
            low = middle
        else:
            high = middle - 1
    return shorter[low] if shorter else hit


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"<| \1 |>", text)
