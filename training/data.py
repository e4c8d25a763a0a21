"""Training examples: prompt and answer as text, then as token ids.

Knows nothing about where they come from, or about models and steps.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwater.records import digest_of

log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt in ChatML, up to where the answer begins, and the answer with its end token."""

    id: str
    prompt: str
    completion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The rows of one training; `digest` names their content, whatever their order."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]

    @property
    def digest(self) -> str:
        splits = (self.train, self.validation)
        return digest_of(*(sorted([e.id, e.prompt, e.completion] for e in rows) for rows in splits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Token ids of one example; the last `supervised` of them are the completion's."""

    id: str
    ids: tuple[int, ...]
    supervised: int


def encode(examples: Sequence[Example], tokenizer: Any, *, max_tokens: int) -> list[Encoded]:
    """Token ids of examples; those longer than `max_tokens` are left out, and counted in the log.

    Prompt and completion are tokenised apart, as they are when an answer is generated.
    """
    encoded = []
    for example in examples:
        prompt = tokenizer(example.prompt, add_special_tokens=False)["input_ids"]
        completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        if len(prompt) + len(completion) <= max_tokens:
            ids = (*prompt, *completion)
            encoded.append(Encoded(id=example.id, ids=ids, supervised=len(completion)))
    if left_out := len(examples) - len(encoded):
        log.warning("training: %d rows longer than %d tokens left out", left_out, max_tokens)
    return encoded
