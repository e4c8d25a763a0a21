"""Fixtures of the document stages."""

from pathlib import Path

import pytest

from headwater.lake import Lake
from tests.documents.examples import PROSE, Corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "documents"
    folder.mkdir()
    return Corpus(folder, Lake(tmp_path / "lake"))


def write_three(corpus: Corpus) -> None:
    """Three small documents of three formats."""
    corpus.write(
        "guide.html",
        f"<title>Harbour guide</title><h1>Harbour</h1><p>{PROSE}</p>"
        "<h2>Fees</h2><p>A berth costs twelve crowns a night, and water is free of charge.</p>"
        f"<h2>Weather</h2><p>{PROSE * 3}</p>",
    )
    corpus.write("notes.md", f"# Notes\n\n{PROSE}\n\n## Tides\n\n{PROSE * 2}\n")
    corpus.write("plain.txt", f"Old chart\n=========\n\n{PROSE}\n")


@pytest.fixture
def three(corpus: Corpus) -> Corpus:
    """A corpus of them."""
    write_three(corpus)
    return corpus
