"""A corpus made by code: any number of documents, the same for the same seed.

Words have Zipf's frequencies and lengths follow a power law, as in texts people write; of five
documents one is a copy of an earlier one, with a word in a hundred changed. Knows no stage. The
texts mean nothing, so they serve for time, memory and duplicates, not for retrieval.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

#: Documents of a file.
PER_FILE = 5_000
#: Every so many documents, one is a near-duplicate of an earlier one.
COPY_EVERY = 5
#: Words of a document: density falls with the power -1.5 between these, which makes 300 on average.
SHORTEST, LONGEST = 30, 3_000
#: Words of the vocabulary; the frequency of the n-th is proportional to 1 / (n + 2.7), as
#: Mandelbrot has it.
VOCABULARY, SHIFT = 20_000, 2.7
#: Of a copy one word in so many is another; of a shorter one the last word.
CHANGED = 100

Words = npt.NDArray[np.intp]
T = TypeVar("T")


@dataclass(frozen=True)
class Corpus:
    """Documents 0 to `documents` - 1 of a seed; a larger one begins with the smaller one.

    Args:
        edited: the share of documents that are edited at a time, spread over all.
        times: how often that was done, to others each time.
    """

    documents: int
    seed: int = 20_261_121
    edited: float = 0.0
    times: int = 1

    def text(self, number: int) -> str:
        """A document: sentences in paragraphs."""
        random = self._random(number, 1)
        words = self._words(number)
        if self.is_copy(number):
            changed = random.choice(len(words), len(words) // CHANGED, replace=False)
            at = changed if len(changed) else np.array([len(words) - 1])
            words[at] = random.integers(VOCABULARY, size=len(at))
        for _ in filter(partial(self.is_edited, number), range(1, self.times + 1)):
            words[random.integers(len(words))] = random.integers(VOCABULARY)
            words = np.append(words, random.integers(VOCABULARY, size=12))
        # Where sentences and paragraphs end is the original's, so that only words differ.
        return self._prose(words, self._random(self.original(number), 2))

    def is_copy(self, number: int) -> bool:
        """Whether it is a near-duplicate, by plan."""
        return number % COPY_EVERY == COPY_EVERY - 1

    def original(self, number: int) -> int:
        """The document that a near-duplicate is made from; itself for every other."""
        if not self.is_copy(number):
            return number
        earlier = int(self._random(number, 3).integers(number))
        return earlier - 1 if self.is_copy(earlier) else earlier

    def is_edited(self, number: int, time: int = 1) -> bool:
        """Whether it was edited at a time: one in each run of 1 / `edited` documents is."""
        if not self.edited:
            return False
        run = round(1 / self.edited)
        purpose = 4 if time == 1 else 4 + time  # 5 is taken
        return number % run == int(self._random(number // run, purpose).integers(run))

    def write(self, folder: Path) -> int:
        """Write the corpus as JSONL files; returns how many documents were edited at the last time."""
        folder.mkdir(parents=True, exist_ok=True)
        edited = 0
        for start in range(0, self.documents, PER_FILE):
            numbers = range(start, min(start + PER_FILE, self.documents))
            path = folder / f"part-{start // PER_FILE:05d}.jsonl"
            with path.open("w", encoding="utf-8") as file:
                for number in numbers:
                    edited += self.is_edited(number, self.times)
                    row = {"id": f"{number:08d}", "text": self.text(number)}
                    file.write(json.dumps(row) + "\n")
        return edited

    @cached_property
    def _vocabulary(self) -> list[str]:
        """Words of one to four syllables, the frequent ones short."""
        random = self._random(0, 5)
        onsets, vowels, codas = (
            ["b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w"],
            "aeiou",
            ["", "n", "r", "s"],
        )
        words: dict[str, None] = {}
        while len(words) < VOCABULARY:
            syllables = 1 + min(3, len(words) // 200 if len(words) < 600 else 3)
            parts = []
            for _ in range(int(random.integers(1, syllables + 1))):
                onset, vowel, coda = random.integers([len(onsets), len(vowels), len(codas)])
                parts.append(onsets[onset] + vowels[vowel] + codas[coda])
            words["".join(parts)] = None
        return list(words)

    @cached_property
    def _frequencies(self) -> npt.NDArray[np.float64]:
        weights = 1 / (np.arange(VOCABULARY) + SHIFT)
        return np.asarray(np.cumsum(weights) / weights.sum(), np.float64)

    def _words(self, number: int) -> Words:
        """Places in the vocabulary, of the document or of the one that it is made from."""
        random = self._random(self.original(number), 0)
        # The inverse of the distribution function of the power law.
        low, high = SHORTEST**-0.5, LONGEST**-0.5
        length = int((low - random.random() * (low - high)) ** -2)
        places = np.searchsorted(self._frequencies, random.random(length))
        return np.minimum(places, VOCABULARY - 1)

    def _prose(self, words: Words, random: np.random.Generator) -> str:
        known = self._vocabulary
        text = [known[place] for place in words]
        paragraphs: list[str] = []
        for sentences in _runs(list(_runs(text, random, 6, 24)), random, 3, 8):
            lines = (" ".join(sentence).capitalize() + "." for sentence in sentences)
            paragraphs.append(" ".join(lines))
        return "\n\n".join(paragraphs)

    def _random(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, purpose, number]))


def _runs(
    items: Sequence[T], random: np.random.Generator, fewest: int, most: int
) -> Iterator[Sequence[T]]:
    """Neighbours in runs of some length."""
    start = 0
    while start < len(items):
        end = start + int(random.integers(fewest, most))
        yield items[start:end]
        start = end
