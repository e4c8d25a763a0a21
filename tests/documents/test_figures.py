"""Figures of texts: what is kept of them holds by digest, and is the same as if it was measured."""

import pyarrow as pa
import pytest

from headwater.documents import figures
from headwater.documents.figures import Figures
from tests.documents.examples import PROSE, SHARDS, Corpus


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The documents that are measured."""
    noted: list[str] = []
    real = figures.figures_of

    def figures_of(table: pa.Table, *, words: bool) -> pa.Table:
        noted.extend(table["uri"].to_pylist())
        return real(table, words=words)

    monkeypatch.setattr(figures, "figures_of", figures_of)
    return noted


def every(corpus: Corpus, *, words: bool = False) -> pa.Table:
    """The figures of all shards, without what names the files that they are of."""
    documents = corpus.lake.snapshot("clean_documents")
    kept = Figures(corpus.lake, documents, words=words)
    shards = [kept.of(shard) for shard in SHARDS]
    names = [documents.partition(shard, ["uri"])["uri"].to_pylist() for shard in SHARDS]
    assert [shard["uri"].to_pylist() for shard in shards] == names
    return pa.concat_tables([shard.replace_schema_metadata(None) for shard in shards])


def forget(corpus: Corpus) -> None:
    for path in (corpus.lake.root / ".figures").glob("*.arrow"):
        path.unlink()


def test_of_an_edit_one_document_is_measured(twelve: Corpus, measured: list[str]):
    assert len(every(twelve)) == len(measured) == 12
    twelve.write("5.txt", f"Other words\n===========\n\n{PROSE}")
    twelve.write("new.txt", f"A new one. {PROSE}")
    (twelve.folder / "1.txt").unlink()
    twelve.raw()
    twelve.clean()
    measured.clear()
    found = every(twelve)
    assert sorted(measured) == ["docs:///5.txt", "docs:///new.txt"]
    measured.clear()
    assert every(twelve).equals(found) and not measured
    forget(twelve)
    assert every(twelve).equals(found) and len(measured) == 12


def test_figures_without_words_do_not_tell_words(twelve: Corpus, measured: list[str]):
    every(twelve)
    measured.clear()
    found = every(twelve, words=True)
    assert len(measured) == 12 and min(found["words"].to_pylist()) > 60
    measured.clear()
    assert every(twelve)["bytes"].equals(found["bytes"]) and not measured


@pytest.mark.parametrize("at", [0, 400, -8])
def test_a_torn_file_is_measured_again(twelve: Corpus, measured: list[str], at: int):
    found = every(twelve)
    for path in (twelve.lake.root / ".figures").glob("*.arrow"):
        data = path.read_bytes()
        path.write_bytes(data[:at] + bytes(len(data[at:])))
    measured.clear()
    assert every(twelve).equals(found)
    assert len(measured) == 12
