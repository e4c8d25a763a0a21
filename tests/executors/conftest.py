"""Fixtures of the executors: a corpus, and what one process makes of it."""

from pathlib import Path

import pytest

from headwater.lake import Lake
from tests.documents.examples import Corpus
from tests.executors.examples import build, furnish


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A furnished corpus without a lake."""
    folder = tmp_path / "documents"
    folder.mkdir()
    corpus = Corpus(folder, Lake(tmp_path / "lake"))
    furnish(corpus)
    return corpus


@pytest.fixture
def inline(corpus: Corpus) -> tuple[Corpus, dict[str, str]]:
    """The same documents built by one process, with the digests."""
    alone = Corpus(corpus.folder, Lake(corpus.lake.root.parent / "inline"))
    return alone, build(alone)
