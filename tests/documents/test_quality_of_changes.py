"""Of a shard that held the documents are asked that changed since, and what comes out is the same."""

import shutil
from collections.abc import Callable
from random import Random

import pyarrow as pa
import pytest

from headwater.documents import asked as asking_of
from headwater.documents.asked import QualityResult
from headwater.documents.quality import validate_chunks, validate_documents
from headwater.fresh import FRESH, Step
from headwater.lake import Lake, rows_to_table
from headwater.snapshot import file_name
from headwater.tables import SCHEMAS
from tests.documents.examples import PROSE, Corpus
from tests.documents.test_quality_by_shard import at_once, plant, told

Asked = list[set[str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The documents of each table that was asked of, but for where rows were counted."""
    noted: Asked = []
    real = asking_of.ask

    def ask(entries, table: pa.Table):
        if "uri" in table.column_names:
            noted.append(set(table["uri"].to_pylist()))
        return real(entries, table)

    monkeypatch.setattr(asking_of, "ask", ask)
    return noted


@pytest.fixture
def held(twelve: Corpus, asked: Asked) -> Corpus:
    """Twelve documents in four shards that have been asked, and held."""
    assert validate_documents(twelve.lake).success
    assert validate_chunks(twelve.lake, 64).success
    asked.clear()
    return twelve


def of(uri: str, **values) -> Callable[[int, dict], None]:
    """Overwrite columns of a document's rows."""
    return lambda _, row: row.update(values) if row["uri"] == uri else None


def in_shard(corpus: Corpus, uri: str) -> set[str]:
    """The documents of a document's shard."""
    rows = corpus.rows("clean_documents")
    (shard,) = {row["shard"] for row in rows if row["uri"] == uri}
    return {row["uri"] for row in rows if row["shard"] == shard}


def failing(result: QualityResult) -> set[tuple[str, str]]:
    return {(row["uri"], row["column"]) for row in result.failing_rows}


def test_of_new_files_with_the_rows_of_before_nothing_is_asked(held: Corpus, asked: Asked):
    for name in ("clean_documents", "document_shards"):
        plant(held.lake, name, lambda number, row: None)
    results = [validate_documents(held.lake), validate_chunks(held.lake, 64)]
    assert asked == []
    assert {shard["status"] for result in results for shard in result.shards} == {"holds"}
    for result, validate in zip(results, (validate_documents, _chunks), strict=True):
        whole = at_once(held.lake, lambda check=validate: check(held.lake))
        assert told(result) == told(whole) and result.shards == whole.shards


def test_documents_that_come_and_go_are_asked(held: Corpus, asked: Asked):
    held.write("new.txt", f"A new one. {PROSE}")
    held.write("4.txt", "Fees are paid in advance, and a berth of eight metres costs the most.")
    (held.folder / "7.txt").unlink()
    for stage in (held.raw, held.clean, held.duplicates, held.chunk):
        stage()
    documents, chunks = validate_documents(held.lake), validate_chunks(held.lake, 64)
    assert documents.success and chunks.success
    assert documents.statistics["rows"] == 12 and chunks.statistics["documents"] == 11
    assert asked == [{"docs:///new.txt", "docs:///4.txt"}] * 3


@pytest.mark.parametrize("how", ["lost", "spoilt"])
def test_what_a_writer_has_done_to_rows_that_were_to_stay_is_found(
    held: Corpus, asked: Asked, how: str
):
    before = held.lake.snapshot("document_shards").files
    rows = held.rows("document_shards")
    (mine,) = (row for row in rows if (row["uri"], row["ordinal"]) == ("docs:///2.txt", 1))
    if how == "lost":
        rows.remove(mine)
    else:
        mine["tokens"] = 1000
    held.lake.overwrite("document_shards", rows_to_table("document_shards", rows))
    for shard, files in held.lake.snapshot("document_shards").files.items():
        # As if it had written all rows that there were, as they were.
        nothing = SCHEMAS["document_shards"].empty_table()
        step = Step(base=before[shard], gone=frozenset(), new=nothing)
        FRESH.hold(file_name(files[0]), step, len(rows))
    found = failing(validate_chunks(held.lake, 64))
    assert {uri for uri, _ in found} == {"docs:///2.txt"}
    assert asked == [{"docs:///2.txt"}] * 2


def test_a_row_that_was_edited_by_hand_is_found(held: Corpus, asked: Asked):
    plant(held.lake, "clean_documents", of("docs:///6.txt", title=""))
    assert failing(validate_documents(held.lake)) == {("docs:///6.txt", "title")}
    plant(held.lake, "document_shards", of("docs:///8.txt", tokens=1000))
    assert failing(validate_chunks(held.lake, 64)) == {("docs:///8.txt", "tokens")}
    # Chunks are asked of documents whose rows are others, too; of them title is not compared.
    assert asked == [{"docs:///6.txt"}, {"docs:///8.txt"}, {"docs:///8.txt"}]


def test_without_the_files_of_before_the_shard_is_asked(held: Corpus, asked: Asked):
    for name in ("clean_documents", "document_shards"):
        plant(held.lake, name, of("docs:///6.txt", title="Another title"))
        newest = held.lake.version(name)
        assert held.lake.vacuum(name, [newest], dry_run=False)
    validate_documents(held.lake)
    validate_chunks(held.lake, 64)
    every = {row["uri"] for row in held.rows("clean_documents")}
    out = {row["uri"] for row in held.rows("duplicates")}
    assert asked == [every, every - out, every - out]


def test_a_chunk_that_vanishes_is_found_by_its_neighbour(held: Corpus, asked: Asked):
    rows = held.rows("document_shards")
    kept = [row for row in rows if (row["uri"], row["ordinal"]) != ("docs:///2.txt", 1)]
    assert len(kept) == len(rows) - 1
    held.lake.overwrite("document_shards", rows_to_table("document_shards", kept))
    found = failing(validate_chunks(held.lake, 64))
    assert {uri for uri, _ in found} == {"docs:///2.txt"}
    assert {"uncovered_bytes"} <= {column for _, column in found}
    assert asked == [{"docs:///2.txt"}] * 2


def test_a_document_that_goes_from_the_other_table_is_found(held: Corpus, asked: Asked):
    rows = [row for row in held.rows("clean_documents") if row["uri"] != "docs:///2.txt"]
    held.lake.overwrite("clean_documents", rows_to_table("clean_documents", rows))
    found = failing(validate_chunks(held.lake, 64))
    assert found == {("docs:///2.txt", "document_exists")}
    assert asked == [{"docs:///2.txt"}]


def test_a_document_that_is_no_duplicate_any_more_is_asked(held: Corpus, asked: Asked):
    (out,) = {row["uri"] for row in held.rows("duplicates")}
    held.lake.overwrite("duplicates", rows_to_table("duplicates", []))
    found = failing(validate_chunks(held.lake, 64))
    assert found == {(out, "uncovered_bytes")}
    assert asked == [{out}]
    # And one that comes to be: its chunks are of no document that is to have any.
    asked.clear()
    row = {"uri": "docs:///1.txt", "source": "docs", "similarity": 1.0, "kind": "exact"}
    shard = next(r["shard"] for r in held.rows("clean_documents") if r["uri"] == row["uri"])
    rows = [row | {"shard": shard, "cluster": out, "survivor": out}]
    held.lake.overwrite("duplicates", rows_to_table("duplicates", rows))
    assert ("docs:///1.txt", "document_exists") in failing(validate_chunks(held.lake, 64))


def test_after_a_failure_the_whole_shard_is_asked(held: Corpus, asked: Asked):
    mine = in_shard(held, "docs:///6.txt")
    assert len(mine) > 1
    plant(held.lake, "clean_documents", of("docs:///6.txt", title=""))
    assert not validate_documents(held.lake).success
    plant(held.lake, "clean_documents", of("docs:///6.txt", title="Sound"))
    asked.clear()
    assert validate_documents(held.lake).success
    assert asked == [mine]


def test_answers_are_those_of_a_lake_that_remembers_nothing(held: Corpus, asked: Asked, tmp_path):
    random = Random(7)
    lake, memory = held.lake, held.lake.root / ".rest"
    shutil.copytree(memory, tmp_path / "held")
    sound = {name: lake.read(name) for name in ("clean_documents", "document_shards")}
    failed = 0
    for _ in range(4):
        for name, rows in sound.items():
            lake.overwrite(name, _spoilt(name, rows, random))
        for validate in (validate_documents, _chunks):
            shutil.copytree(tmp_path / "held", memory, dirs_exist_ok=True)
            asked.clear()
            part = validate(lake)
            assert all(len(uris) < 12 for uris in asked) or "uri" in _unique(part)
            whole = at_once(lake, lambda check=validate: check(lake))
            assert told(part) == told(whole) and part.shards == whole.shards
            failed += not whole.success
    assert failed >= 4


def _unique(result: QualityResult) -> set[str]:
    """The columns whose values are there twice, for which all of the table is asked."""
    kind = "expect_column_values_to_be_unique"
    return {
        each["column"]
        for each in result.expectations
        if each["expectation"] == kind and not each["success"]
    }


def _chunks(lake: Lake) -> QualityResult:
    return validate_chunks(lake, 64)


def _spoilt(name: str, sound: pa.Table, random: Random) -> pa.Table:
    """Rows of which some are changed, for better or for worse, and some are gone."""
    faults: dict[str, list] = {
        "clean_documents": [("title", ""), ("language", "xx"), ("language", "English"), ("uri", "docs:///0.txt")],
        "document_shards": [("tokens", 1000), ("tokens", 3), ("start", 1), ("uri", "docs:///x")],
    }  # fmt: skip
    rows = sound.to_pylist()
    for row in random.sample(rows, 2):
        row.update([random.choice(faults[name])])
    gone = random.sample(range(len(rows)), random.choice([0, 1]))
    kept = [row for number, row in enumerate(rows) if number not in gone]
    random.shuffle(kept)
    return rows_to_table(name, kept)
