"""Cuts streaming text into units that can be judged for themselves, and no later than must be.

Where a unit ends depends on the text alone and never on the pieces in which it came: so what a
filter makes of the units is the same however the model's tokens fall.
"""

import re
from collections.abc import Iterator

from headwater.guardrails.links import opens_tag

_WORD = re.compile(r"\s*\S+(?=\s)")
#: What may be a part of a number, an address or a code that goes on in the next word: digits, "@",
#: and words in capitals, which an account number may hold.
_OPEN_ENDED = re.compile(r"[\d@]|^\W*[A-Z]{2,}\W*$")


class Units:
    """Takes pieces of a text and gives its units, which join to the text.

    A unit is one word with the whitespace before it; or a run of words that may be one telephone
    number, card or account; or all from a "<" to its ">". A word is whole when whitespace follows.
    """

    def __init__(self) -> None:
        self._held = ""  # not yet a whole word
        self._run = ""  # whole words that may go on

    def feed(self, piece: str) -> Iterator[str]:
        """The units that are certain with this piece."""
        self._held += piece
        at = 0
        for match in _WORD.finditer(self._held):
            at = match.end()
            yield from self._take(match[0])
        self._held = self._held[at:]

    def finish(self) -> Iterator[str]:
        """What is left at the end of the text."""
        held, self._held = self._held, ""
        if held.strip():
            yield from self._take(held.rstrip())
            held = held[len(held.rstrip()) :]
        run, self._run = self._run, ""
        if run:
            yield run
        if held:
            yield held

    def _take(self, word: str) -> Iterator[str]:
        if opens_tag(self._run) or opens_tag(word) or _OPEN_ENDED.search(word.strip()):
            self._run += word
            return
        run, self._run = self._run, ""
        if run:
            yield run
        yield word
