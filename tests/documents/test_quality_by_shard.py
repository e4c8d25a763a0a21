"""Asked by shard a suite answers as it does for the whole table, and of what changed alone."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from headwater.documents import asked as asking_of
from headwater.documents import quality
from headwater.documents.asked import QualityResult
from headwater.documents.quality import validate_chunks, validate_documents
from headwater.documents.suites import OF_ONE_ROW
from headwater.lake import Lake, rows_to_table
from headwater.snapshot import Snapshot
from tests.documents.examples import PROSE, Corpus
from tests.documents.test_suites import suite

OF_DOCUMENTS = (
    "expect: ExpectColumnValuesToBeBetween, column: characters, min_value: 200, on_failure: warn",
    "expect: ExpectColumnMeanToBeBetween, column: words, max_value: 20, on_failure: warn",
    "expect: ExpectColumnValuesToNotMatchRegex, column: title, regex: '7', mostly: 0.95",
    "expect: ExpectColumnValuesToBeUnique, column: title",
    "expect: ExpectColumnValuesToBeInSet, column: language, value_set: [de], sources: [wiki]",
    "expect: ExpectColumnValuesToBeInSet, column: language, value_set: [de], sources: [docs]",
)
OF_CHUNKS = (
    "expect: ExpectColumnValueLengthsToBeBetween, column: text, max_value: 70",
    "expect: ExpectMulticolumnSumToEqual, column_list: [start, end], sum_total: 1, on_failure: warn",
)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often texts were read, by shard."""
    read: Counter[str] = Counter()
    real = Snapshot.partition

    def noted(self: Snapshot, key, columns=None) -> pa.Table:
        if columns is None or "text" in columns:
            read[key] += 1
        return real(self, key, columns)

    monkeypatch.setattr(Snapshot, "partition", noted)
    return read


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[set[str] | None]:
    """The documents of each table that was asked of; None where rows were but counted."""
    noted: list[set[str] | None] = []
    real = asking_of.ask

    def ask(entries, table: pa.Table):
        known = "uri" in table.column_names
        noted.append(set(table["uri"].to_pylist()) if known else None)
        return real(entries, table)

    monkeypatch.setattr(asking_of, "ask", ask)
    return noted


def plant(lake: Lake, name: str, change: Callable[[int, dict], None]) -> None:
    """Change rows of a table, each by its number in the order of shards."""
    rows = sorted(
        lake.read(name).to_pylist(), key=lambda r: (r["shard"], r["uri"], r.get("ordinal", 0))
    )
    for number, row in enumerate(rows):
        change(number, row)
    lake.overwrite(name, rows_to_table(name, rows))


def faults_of_documents(number: int, row: dict) -> None:
    if number in (0, 6, 11):
        row["title"] = ""
    if number in (2, 8):
        row["language"] = "English"
    if number in (1, 9):
        row["digest"] = "no digest"
    if number in (3, 10):
        row["uri"] = "docs:///twice.txt"  # in two shards
    if number == 5:
        row["text"] = "a\ufffd" * 20
    if number == 7:
        row["input_digest"] = None


def faults_of_chunks(number: int, row: dict) -> None:
    if number in (0, 9):
        row["tokens"] = 1000
    if number in (2, 12):
        row["start"] += 1
    if number in (3, 14):
        row["id"] = "twice"  # in two shards
    if number in (5, 11):
        row["embed_digest"] = ""
    if number == 7:
        row["uri"] = "docs:///gone.txt"
    if number == 8:
        row["text"] = ""


def told(result: QualityResult) -> tuple:
    return result.success, result.expectations, result.failing_rows, result.statistics


def failing(result: QualityResult) -> set[str]:
    return {each["shard"] for each in result.shards if each["status"] != "holds"}


def at_once(lake: Lake, validate: Callable[[], QualityResult]) -> QualityResult:
    """The answer where nothing is remembered and everything is one batch."""
    for name in ("documents", "chunks"):
        for what in ("asked", "checked"):
            (lake.root / ".rest" / f"{name}_{what}.json").unlink(missing_ok=True)
    return validate()


def test_shards_answer_as_the_whole_does(twelve: Corpus, tmp_path: Path):
    """What is shipped and what is added to it; some shards together, others by themselves."""
    plant(twelve.lake, "clean_documents", faults_of_documents)
    plant(twelve.lake, "document_shards", faults_of_chunks)
    lake = twelve.lake
    documents = suite(tmp_path / "e", *OF_DOCUMENTS)
    chunks = suite(tmp_path / "e", *OF_CHUNKS, name="chunks")
    whole = at_once(lake, lambda: validate_documents(lake, documents))
    parts = at_once(lake, lambda: validate_documents(lake, documents, most=7))
    assert told(parts) == told(whole) and not whole.success
    assert [s["status"] for s in parts.shards] == [s["status"] for s in whole.shards]
    assert [s["unexpected"] for s in parts.shards] == [s["unexpected"] for s in whole.shards]
    assert {r["column"] for r in whole.failing_rows} >= {"uri", "title", "language", "digest"}

    whole = at_once(lake, lambda: validate_chunks(lake, 64, chunks))
    parts = at_once(lake, lambda: validate_chunks(lake, 64, chunks, most=20))
    assert told(parts) == told(whole) and not whole.success
    assert parts.shards == whole.shards
    failed = {e["column"] for e in whole.expectations if not e["success"]}
    assert failed >= {"id", "tokens", "gap_before", "embed_digest", "document_exists", "text"}
    assert "uncovered_bytes" in failed
    # And again: what failed is not taken for what held.
    assert told(validate_chunks(lake, 64, chunks, most=20)) == told(whole)


def test_without_a_change_nothing_is_asked_and_no_text_is_read(twelve: Corpus, texts, monkeypatch):
    first = [validate_documents(twelve.lake), validate_chunks(twelve.lake, 64)]
    assert all(result.success for result in first)
    assert len(texts) == 4
    texts.clear()
    for name in ("ask", "described"):
        monkeypatch.setattr(quality, name, None)
        monkeypatch.setattr(asking_of, name, None)
    again = [validate_documents(twelve.lake), validate_chunks(twelve.lake, 64)]
    assert [told(result) for result in again] == [told(result) for result in first]
    assert {shard["status"] for result in again for shard in result.shards} == {"held before"}
    assert texts == Counter()


def test_of_an_edit_one_document_is_asked(twelve: Corpus, texts, asked):
    validate_documents(twelve.lake)
    validate_chunks(twelve.lake, 64)
    twelve.write("5.txt", f"Other words. {PROSE}")
    stages = [twelve.raw(), twelve.clean(), twelve.chunk()]
    (edited,) = stages[1].shards_written
    texts.clear()
    asked.clear()
    documents, chunks = validate_documents(twelve.lake), validate_chunks(twelve.lake, 64)
    assert set(texts) == {edited}
    # The number of rows is asked of the whole table, all else of the document.
    assert asked == [{"docs:///5.txt"}, None, {"docs:///5.txt"}, None, {"docs:///5.txt"}]
    for result in (documents, chunks):
        status = {shard["shard"]: shard["status"] for shard in result.shards}
        assert status.pop(edited) == "holds" and set(status.values()) == {"held before"}
    whole = at_once(twelve.lake, lambda: validate_documents(twelve.lake))
    assert told(whole) == told(documents)
    whole = at_once(twelve.lake, lambda: validate_chunks(twelve.lake, 64))
    assert told(whole) == told(chunks)


def test_a_shard_that_fails_is_asked_until_it_holds(twelve: Corpus):
    lake = twelve.lake
    sound = lake.read("clean_documents")
    plant(
        lake, "clean_documents", lambda number, row: row.update(title="") if number == 4 else None
    )
    first = validate_documents(lake, most=1)
    (bad,) = failing(first)
    for _ in range(2):
        result = validate_documents(lake, most=1)
        assert not result.success and told(result) == told(first)
        by_shard = {shard["shard"]: shard for shard in result.shards}
        assert by_shard.pop(bad)["status"] == "fails"
        assert {shard["status"] for shard in by_shard.values()} == {"held before"}
    lake.overwrite("clean_documents", sound)
    assert validate_documents(lake, most=1).success


def test_a_uri_that_comes_to_be_in_a_second_shard_is_found(twelve: Corpus):
    lake = twelve.lake
    assert validate_documents(lake, most=1).success
    rows = lake.read("clean_documents").to_pylist()
    one = rows[0]
    other = next(row["shard"] for row in rows if row["shard"] != one["shard"])
    more = [row for row in rows if row["shard"] == other] + [one | {"shard": other}]
    lake.replace("clean_documents", rows_to_table("clean_documents", more), keys=[other])
    result = validate_documents(lake, most=1)
    assert not result.success
    assert {row["uri"] for row in result.failing_rows} == {one["uri"]}
    assert {s["shard"] for s in result.shards if s["status"] == "fails"} == {one["shard"], other}


def test_another_suite_asks_again(twelve: Corpus, tmp_path: Path):
    assert validate_documents(twelve.lake).success
    short = suite(tmp_path / "e", "expect: ExpectColumnValuesToBeNull, column: title")
    assert not validate_documents(twelve.lake, short).success


def test_what_is_asked_of_single_rows_is_what_great_expectations_asks_of_them():
    import great_expectations as gx
    from great_expectations.expectations import expectation

    kinds = (
        expectation.ColumnMapExpectation, expectation.ColumnPairMapExpectation,
        expectation.MulticolumnMapExpectation,
    )  # fmt: skip
    of_rows = {
        name
        for name in dir(gx.expectations)
        if name.startswith("Expect") and issubclass(getattr(gx.expectations, name), kinds)
    }
    assert of_rows >= OF_ONE_ROW
    # These compare rows with one another, or look at the type of a column.
    assert of_rows - OF_ONE_ROW == {
        "ExpectColumnValueZScoresToBeLessThan", "ExpectColumnValuesToBeDecreasing",
        "ExpectColumnValuesToBeInTypeList", "ExpectColumnValuesToBeIncreasing",
        "ExpectColumnValuesToBeOfType", "ExpectColumnValuesToBeUnique",
        "ExpectColumnValuesToNotBeOutliers", "ExpectCompoundColumnsToBeUnique",
        "ExpectMulticolumnValuesToBeUnique",
    }  # fmt: skip
