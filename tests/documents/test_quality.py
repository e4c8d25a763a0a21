from pathlib import Path

import pytest

from headwater.documents.quality import validate_chunks, validate_documents
from headwater.lake import Lake, rows_to_table
from tests.documents.conftest import write_three
from tests.documents.examples import Corpus, copy_of


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small documents, and the tables that the stages make of them."""
    root = tmp_path_factory.mktemp("built")
    folder = root / "documents"
    folder.mkdir()
    made = Corpus(folder, Lake(root / "lake"))
    write_three(made)
    made.build()
    return root


@pytest.fixture
def built(once: Path, tmp_path: Path) -> Corpus:
    """A copy, which a test may break."""
    return copy_of(once, tmp_path)


def change(lake: Lake, table: str, **values):
    """Overwrite columns of a table's first row, by URI and ordinal."""
    rows = sorted(lake.read(table).to_pylist(), key=lambda r: (r["uri"], r.get("ordinal", 0)))
    rows[0].update(values)
    lake.overwrite(table, rows_to_table(table, rows))
    return rows[0]["uri"]


def failed(result):
    return {
        (entry["expectation"], entry["column"])
        for entry in result.expectations
        if not entry["success"]
    }


def test_what_the_stages_write_passes(three: Corpus):
    three.build()
    documents, chunks = validate_documents(three.lake), validate_chunks(three.lake, 64)
    assert documents.success, documents.failing_rows
    assert chunks.success, chunks.failing_rows
    assert documents.failing_rows == chunks.failing_rows == []
    assert documents.statistics["rows"] == 3
    # A duplicate has no chunks, and none are missed.
    three.write("archive/notes.md", (three.folder / "notes.md").read_text())
    three.raw()
    three.clean()
    assert three.duplicates().exact == 1
    three.chunk()
    assert validate_chunks(three.lake, 64).success


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"uri": None}, "uri"),
        ({"uri": "docs:///notes.md"}, "uri"),
        ({"uri": "/etc/passwd"}, "uri"),
        ({"shard": "../x"}, "shard"),
        ({"title": ""}, "title"),
        ({"text": ""}, "characters"),
        ({"language": "English"}, "language"),
        ({"digest": "abc"}, "digest"),
        ({"input_digest": ""}, "input_digest"),
    ],
)
def test_a_bad_document_fails_and_is_named(built: Corpus, values, column):
    change(built.lake, "clean_documents", **values)
    result = validate_documents(built.lake)
    assert not result.success
    assert {name for _, name in failed(result)} == {column}
    assert {row["column"] for row in result.failing_rows} == {column}
    assert all(set(row) == {"uri", "column", "value"} for row in result.failing_rows)


def test_repaired_text_is_a_warning_that_blocks_nothing(built: Corpus):
    uri = change(built.lake, "clean_documents", text="a\ufffd" * 20)
    result = validate_documents(built.lake)
    assert result.success
    assert result.failing_rows == [{"uri": uri, "column": "unreadable_share", "value": "0.5"}]


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"id": None}, "id"),
        ({"uri": "docs:///gone.md"}, "document_exists"),
        ({"tokens": 65}, "tokens"),
        ({"tokens": 0}, "tokens"),
        ({"text": ""}, "text"),
        ({"embed_digest": "xyz"}, "embed_digest"),
        ({"digest": "xyz"}, "digest"),
        ({"start": 1}, "gap_before"),
        ({"end": 0}, "end"),
    ],
)
def test_a_bad_chunk_fails_and_is_named(built: Corpus, values, column):
    change(built.lake, "document_shards", **values)
    result = validate_chunks(built.lake, 64)
    assert not result.success
    assert column in {name for _, name in failed(result)}
    assert column in {row["column"] for row in result.failing_rows}


def test_a_missing_chunk_leaves_a_gap(built: Corpus):
    rows = sorted(built.rows("document_shards"), key=lambda row: (row["uri"], row["ordinal"]))
    last = len([row for row in rows if row["uri"] == rows[0]["uri"]]) - 1
    for first, end in ((1, 2), (last, last + 1), (0, last + 1)):
        kept = rows_to_table("document_shards", rows[:first] + rows[end:])
        built.lake.overwrite("document_shards", kept)
        result = validate_chunks(built.lake, 64)
        assert not result.success
        uncovered = [row for row in result.failing_rows if row["column"] == "uncovered_bytes"]
        assert [row["uri"] for row in uncovered] == [rows[0]["uri"]]


def test_doubled_ids_fail(built: Corpus):
    rows = built.rows("document_shards")
    change(built.lake, "document_shards", id=rows[0]["id"])
    change(built.lake, "document_shards", id=rows[-1]["id"])
    assert ("expect_column_values_to_be_unique", "id") in failed(validate_chunks(built.lake, 64))


def test_an_empty_lake_fails(tmp_path):
    lake = Lake(tmp_path)
    lake.ensure()
    assert not validate_documents(lake).success
    assert not validate_chunks(lake).success


def test_failing_rows_are_bounded(corpus: Corpus):
    for number in range(30):
        corpus.write(f"{number}.txt", f"Document number {number} about the harbour and its boats.")
    corpus.build()
    result = validate_chunks(corpus.lake, 2)
    assert len(result.failing_rows) == 20
    assert next(e for e in result.expectations if e["column"] == "tokens")["unexpected"] == 30
