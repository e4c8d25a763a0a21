"""Offensive words in text, by the word list and the engine of badwords-py.

A word list, not a classifier: it tells words, not meanings. The library was chosen because it is
maintained, takes microseconds, finds disguised spellings, and finds nothing in all of Python's
documentation; a classifier that a package carries would have to be unpickled.
"""

from functools import cache
from typing import Any

from headwater.guardrails.policy import ProfanityPolicy


def find(text: str, policy: ProfanityPolicy) -> int:
    """How many offensive words and phrases a text holds."""
    filter_, options = _filter(policy)
    return len(filter_.find(text, options))


def censor(text: str, policy: ProfanityPolicy) -> tuple[str, int]:
    """The text with asterisks for each offensive word, and how many there were."""
    filter_, options = _filter(policy)
    found = len(filter_.find(text, options))
    return (filter_.censor(text, "*", options), found) if found else (text, 0)


@cache
def _filter(policy: ProfanityPolicy) -> tuple[Any, Any]:
    from badwords import Options, ProfanityFilter

    filter_ = ProfanityFilter()
    filter_.init(["en"])
    filter_.add_words(policy.add)
    filter_.add_whitelist(policy.allow)
    return filter_, Options(split_on_punctuation=True, collapse_repeats=True, leetspeak=True)
