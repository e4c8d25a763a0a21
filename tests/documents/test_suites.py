"""Suites in files: their mistakes, thresholds by source, and shards that are quarantined."""

from pathlib import Path

import pytest

from headwater.documents.quality import validate_chunks, validate_documents
from headwater.documents.suites import COLUMNS, Suite, load_suite
from headwater.errors import HeadwaterError
from tests.documents.examples import PROSE, Corpus

SHORT = "The harbour opens at six in the morning."


def suite(folder: Path, *entries: str, name: str = "documents") -> Suite:
    """The shipped suite and these entries, as a data engineer would add them."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"  - {{{entry}}}\n" for entry in entries)
    (folder / f"{name}.yaml").write_text(f"expectations:\n{lines}")
    return load_suite(name, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "expectations"


def test_what_is_shipped_is_asked_of_columns_that_are_there(three: Corpus, folder: Path):
    three.build()
    for name in ("documents", "chunks"):
        shipped = load_suite(name)
        assert len(shipped.entries) >= 10
        assert shipped.quarantining is None
        assert load_suite(name, folder).digest == shipped.digest, "no file is no change"
    every = [f"expect: ExpectColumnToExist, column: {column}" for column in COLUMNS["documents"]]
    assert validate_documents(three.lake, suite(folder, *every)).success
    every = [f"expect: ExpectColumnToExist, column: {column}" for column in COLUMNS["chunks"]]
    assert validate_chunks(three.lake, 64, suite(folder, *every, name="chunks")).success


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("expectations: [", "not a valid suite"),
        ("- a list", "not a valid suite"),
        ("expectation: []", "expectation: Extra inputs are not permitted"),
        ("expectations: [{column: uri}]", "expectation 1: expect: Field required"),
        ("expectations: [{expect: is_unique}]", "expectation 1: expect: String should match"),
        (
            "expectations: [{expect: ExpectColumnToExist, column: uri, on_failure: stop}]",
            "expectation 1: on_failure: Input should be 'block', 'warn' or 'quarantine'",
        ),
        (
            "expectations: [{expect: ExpectColumnToExist, column: uri, severity: warning}]",
            "there is on_failure",
        ),
        (
            "expectations: [{expect: ExpectColumnToExist, column: author}]",
            "expectation 1 (ExpectColumnToExist) names the column 'author'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(folder: Path, content: str, told: str):
    folder.mkdir()
    (folder / "documents.yaml").write_text(content)
    with pytest.raises(HeadwaterError) as error:
        load_suite("documents", folder)
    assert told in str(error.value)
    assert "documents.yaml" in str(error.value)


def test_chunks_are_not_quarantined(folder: Path):
    with pytest.raises(HeadwaterError, match="quarantined, and documents are"):
        suite(
            folder, "expect: ExpectColumnToExist, column: text, on_failure: quarantine",
            name="chunks",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("expect: ExpectColumnsToBeNice, column: uri", "has no such expectation"),
        ("expect: ExpectColumnValuesToBeBetween, column: characters, least: 1", "least"),
    ],
)
def test_what_great_expectations_does_not_know_is_named(
    three: Corpus, folder: Path, entry: str, told: str
):
    three.build()
    with pytest.raises(HeadwaterError, match=told) as error:
        validate_documents(three.lake, suite(folder, entry))
    assert "documents.yaml, expectation 1" in str(error.value)


def test_thresholds_hold_for_the_sources_that_they_name(three: Corpus, folder: Path):
    three.build()
    least = "expect: ExpectColumnValuesToBeBetween, column: characters, min_value: 100000"
    assert validate_documents(three.lake, suite(folder, f"{least}, sources: [wiki]")).success
    warned = validate_documents(
        three.lake, suite(folder, f"{least}, sources: [wiki, docs], on_failure: warn")
    )
    assert warned.success
    assert len(warned.failing_rows) == 3
    blocked = validate_documents(three.lake, suite(folder, f"{least}, sources: [docs]"))
    assert not blocked.success
    # What quarantines is asked of each shard when it is written, not of the table.
    later = suite(folder, f"{least}, on_failure: quarantine")
    assert validate_documents(three.lake, later).success


def test_a_document_that_fails_is_quarantined_and_the_rest_goes_on(three: Corpus, folder: Path):
    three.write("short.txt", SHORT)
    rules = suite(
        folder,
        "expect: ExpectColumnValuesToBeBetween, column: characters, min_value: 60,"
        " on_failure: quarantine",
    )
    three.raw()
    stats = three.clean(suite=rules)
    assert (stats.processed, stats.quarantined) == (4, 1)
    (row,) = three.rows("quarantine")
    assert (row["uri"], row["stage"]) == ("docs:///short.txt", "filter")
    assert (row["reason"], row["detail"]) == (
        "failed_expectation",
        "expect_column_values_to_be_between on characters",
    )
    assert len(three.rows("clean_documents")) == 3
    again = three.clean(suite=rules)
    assert (again.processed, again.quarantined, again.digest) == (0, 1, stats.digest)

    three.write("short.txt", SHORT * 3)
    three.raw()
    assert three.clean(suite=rules).quarantined == 0
    # Without the rule nothing is left of it; with it, documents have another name.
    assert three.clean().processed == 4


def test_a_shard_that_fails_together_is_quarantined_and_comes_back(corpus: Corpus, folder: Path):
    for number in range(12):
        corpus.write(f"{number}.txt", f"Number {number}. {PROSE}")
    corpus.raw()
    plain = corpus.clean()
    shards = {row["uri"]: row["shard"] for row in corpus.rows("clean_documents")}
    failing = shards["docs:///0.txt"]
    rules = suite(
        folder,
        "expect: ExpectColumnMaxToBeBetween, column: characters, max_value: 500,"
        " on_failure: quarantine",
    )
    assert corpus.clean(suite=rules).digest == plain.digest

    corpus.write("0.txt", PROSE * 9)
    corpus.raw()
    stats = corpus.clean(suite=rules)
    turned = {uri for uri, shard in shards.items() if shard == failing}
    assert {row["uri"] for row in corpus.rows("quarantine")} == turned
    assert {row["reason"] for row in corpus.rows("quarantine")} == {"failed_shard"}
    assert f"all of shard {failing}: " in corpus.rows("quarantine")[0]["detail"]
    assert {row["uri"] for row in corpus.rows("clean_documents")} == shards.keys() - turned
    assert stats.quarantined == len(turned)
    assert corpus.clean(suite=rules).processed == 0

    # From scratch it ends the same.
    fresh = Corpus(corpus.folder, type(corpus.lake)(corpus.lake.root.parent / "fresh"))
    fresh.raw()
    assert fresh.clean(suite=rules).digest == stats.digest

    (corpus.folder / "0.txt").unlink()
    corpus.raw()
    mended = corpus.clean(suite=rules)
    assert corpus.rows("quarantine") == []
    assert mended.processed == len(turned) - 1
    assert {row["uri"] for row in corpus.rows("clean_documents")} == shards.keys() - {
        "docs:///0.txt"
    }
