"""Questions that the base model writes about a passage, kept by digest.

Knows passages and an engine. What a question is good for is judged by the caller, who asks
whether it retrieves its own passage.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from headwater.datasets.prompt import chat_text
from headwater.engine import STOP, Engine
from headwater.files import read_json, write_json
from headwater.records import digest_of

QUESTIONS_VERSION = "questions/2"
_SYSTEM = "You write one short, specific question that the given text answers."
_USER = "Text about {heading}:\n{text}\n\nWrite one question that this text answers."
#: Words of the passage that the model sees: prefill is most of the cost.
_WORDS = 90
_MAX_TOKENS = 28
#: The answer is begun for the model, which else writes about the text rather than a question.
_OPENINGS = ("What is", "How does", "What happens when", "When is", "Why is", "How can")
#: A question about the text itself, not about what it says.
_ABOUT_TEXT = re.compile(r"\b(text|passage|author|document|following|mentioned|given)\b", re.I)


class QuestionWriter:
    """Writes one question a passage; a question once written is never written again.

    Args:
        open_engine: loads the base model; called at the first passage that is new.
        base_digest: names the base model in the cache's keys.
        cache: a folder; one small file a passage, so a kill loses one question at most.
    """

    def __init__(self, open_engine: Callable[[], Engine], base_digest: str, cache: Path) -> None:
        self._open, self._base, self._cache = open_engine, base_digest, cache / "questions"
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._engine is not None:
            self._engine.close()

    def __call__(self, heading: str, text: str) -> str | None:
        """A question that the passage should answer, or None where the model wrote none."""
        shown = " ".join(text.split()[:_WORDS])
        key = digest_of(QUESTIONS_VERSION, self._base, _SYSTEM, _USER, heading, shown)
        path = self._cache / key[:2] / f"{key}.json"
        known = read_json(path)
        if known is None:
            opening = _OPENINGS[int(key[:8], 16) % len(_OPENINGS)]
            known = {"written": self._write(heading, shown, opening)}
            write_json(path, known)
        return _usable(known["written"])

    def _write(self, heading: str, text: str, opening: str) -> str:
        if self._engine is None:
            self._engine = self._open()
        user = _USER.replace("{heading}", heading).replace("{text}", text)
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": user}]
        # Without the prompt cache a question never depends on the one before it.
        completion = self._engine.complete(
            chat_text(messages) + opening,
            max_tokens=_MAX_TOKENS,
            adapter=False,
            stop=["?", "\n", *STOP],
            cache_prompt=False,
        )
        whole = completion.finish_reason == "stop"
        return f"{opening}{completion.text}{'?' if whole else ''}"


def _usable(written: str) -> str | None:
    question = " ".join(written.split())
    words = len(question.split())
    whole = question.endswith("?") and 4 <= words <= 25
    return question if whole and not _ABOUT_TEXT.search(question) else None
