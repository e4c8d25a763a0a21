"""Fixtures of the document stages."""

from pathlib import Path

import pytest

from headwater.lake import Lake
from tests.documents.examples import PROSE, Corpus, copy_of


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


@pytest.fixture(scope="session")
def twelve_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve documents in four shards, one of them a duplicate, and the tables made of them."""
    root = tmp_path_factory.mktemp("twelve")
    (root / "documents").mkdir()
    corpus = Corpus(root / "documents", Lake(root / "lake"))
    for number in range(11):
        own = " ".join(f"w{number}x{at}" for at in range(60))
        corpus.write(f"{number}.txt", f"Document {number}. {PROSE}\n\n{own}.")
    corpus.write("copy.txt", (corpus.folder / "3.txt").read_bytes())
    corpus.raw()
    corpus.clean()
    corpus.duplicates()
    corpus.chunk()
    return root


@pytest.fixture
def twelve(twelve_once: Path, tmp_path: Path) -> Corpus:
    """A copy of them, which a test may change."""
    return copy_of(twelve_once, tmp_path)
