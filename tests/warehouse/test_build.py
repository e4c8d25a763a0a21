"""`dbt build` over a lake: what the marts hold, and what stops them."""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from headwater.lake import rows_to_table
from tests.warehouse.conftest import (
    PROJECT,
    Warehouse,
    chunk,
    document,
    duplicate,
    empty,
    feedback,
    raw,
    request,
)


def fill(warehouse: Warehouse) -> None:
    warehouse.write("raw_documents", raw("a"), raw("b"), raw("d", b"12"))
    warehouse.write("clean_documents", document("a", "héllo"), document("b"))
    refusal = {"source": "docs", "shard": "00", "stage": "clean", "input_digest": "i"}
    warehouse.write(
        "quarantine", {"uri": "d", "reason": "encrypted_pdf", "detail": "needs one", **refusal}
    )
    chunks = [chunk("a", 0, "x"), chunk("a", 1, "y", tokens=9), chunk("b", 0, "x")]
    warehouse.write("document_shards", *chunks)
    warehouse.write(
        "requests",
        request("t1", ms=10.0),
        request("t2", ms=30.0),
        request("t3", status="aborted", ms=20.0),
        {**request("t4", refused=True, ms=20.0), "energy_wh": None, "cost": None, "spans": None},
        key="2026-01-02",
    )
    warehouse.write(
        "feedback",
        feedback("f1", "t1", thumb="down"),
        feedback("f2", "t2", correction="Better."),
        key="2026-01-02",
    )


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, invoke: Callable[..., Any]
) -> tuple[Warehouse, Any]:
    """A filled lake with all that is made of it, and what dbt said; to be read, or copied."""
    made = empty(tmp_path_factory.mktemp("whole"), invoke)
    fill(made)
    return made, made.dbt("build", unit_tests=True)


@pytest.fixture
def built(whole: tuple[Warehouse, Any], tmp_path: Path) -> Warehouse:
    """One of a test's own: what an earlier run has left."""
    shutil.copytree(whole[0].home, tmp_path, dirs_exist_ok=True)
    return Warehouse(tmp_path, whole[0].invoke)


def test_the_same_said_on_two_days_is_one_row(warehouse: Warehouse) -> None:
    fill(warehouse)
    again = feedback("f1", "t1", day="2026-01-03", thumb="down")
    warehouse.write("feedback", again, key="2026-01-03")
    assert warehouse.dbt("build", "--select", "stg_requests", "stg_feedback").success
    staged = warehouse.mart("stg_feedback")
    assert staged.column("feedback_id").to_pylist() == ["f2", "f1"]
    assert staged.column("day").to_pylist()[1] == date(2026, 1, 3)


def outcome(result) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return {entry.node.name: str(entry.status) for entry in result.result.results}


def test_lake_without_rows_gives_marts_without_rows(warehouse: Warehouse) -> None:
    result = warehouse.dbt("build")
    assert result.success, outcome(result)
    files = sorted(path.name for path in (warehouse.home / "warehouse").glob("*.parquet"))
    assert len(files) == 19
    rows = {name: warehouse.mart(Path(name).stem).num_rows for name in files}
    assert rows.pop("days.parquet") > 0  # the calendar is full whatever happens
    assert set(rows.values()) == {0}


def test_marts_tell_what_the_lake_holds(whole: tuple[Warehouse, Any]) -> None:
    warehouse, result = whole
    assert result.success, outcome(result)
    assert "pass" in outcome(result)["documents_are_counted_once_with_their_fate"]

    documents = {row["uri"]: row for row in warehouse.mart("documents").to_pylist()}
    assert {uri: row["status"] for uri, row in documents.items()} == {
        "a": "indexed", "b": "indexed", "d": "quarantined"
    }  # fmt: skip
    assert documents["a"]["characters"] == 5
    assert (documents["a"]["chunks"], documents["a"]["tokens"]) == (2, 14)
    assert documents["d"]["quarantine_reason"] == "encrypted_pdf"

    [source] = warehouse.mart("corpus_by_source").to_pylist()
    assert (source["documents"], source["indexed"], source["quarantined"]) == (3, 2, 1)
    assert (source["bytes"], source["chunks"]) == (12, 3)

    [statistics] = warehouse.mart("chunk_statistics").to_pylist()
    assert statistics["distinct_texts"] == 2
    assert statistics["repeated_share"] == pytest.approx(1 / 3)
    occurrences = warehouse.mart("chunks").column("occurrences").to_pylist()
    assert occurrences == [2, 1, 2]

    [day] = warehouse.mart("requests_by_release_day").to_pylist()
    assert (day["day"], day["release_id"], day["requests"]) == (date(2026, 1, 2), "r1", 4)
    assert (day["answered"], day["refused"], day["unfinished"]) == (2, 1, 1)
    assert (day["total_ms_median"], day["top_score_mean"]) == (20.0, 0.75)
    # t4 was logged before there were estimates.
    assert (day["energy_wh"], day["cost"]) == (pytest.approx(0.6), pytest.approx(0.06))
    assert "pass" in outcome(result)["a_days_cost_is_shared_out_among_sources"]
    [source] = warehouse.mart("requests_by_source_day").to_pylist()
    assert (source["source"], source["requests"], source["citations"]) == ("docs", 4, 8)
    assert (source["cost"], source["cost_share"]) == (pytest.approx(0.06), 1.0)

    assert "pass" in outcome(result)["last_word_of_each_person_counts"]
    [said] = warehouse.mart("feedback_by_release_day").to_pylist()
    assert (said["answers"], said["with_feedback"]) == (2, 2)
    assert (said["thumbs_up"], said["thumbs_down"], said["corrections"]) == (0, 1, 1)


def test_every_document_is_accounted_for(warehouse: Warehouse) -> None:
    fill(warehouse)
    warehouse.write("raw_documents", raw("a"), raw("b"), raw("c"), raw("d"), raw("e"))
    flagged = {**document("c"), "quality_flags": ["gopher_words", "c4_sentences"]}
    warehouse.write("clean_documents", document("a"), document("b"), flagged)
    warehouse.lake.overwrite("duplicates", rows_to_table("duplicates", [duplicate("c", "a")]))
    refusals = [
        {"uri": uri, "source": "docs", "shard": "00", "stage": stage, "reason": reason,
         "detail": "why", "input_digest": "i"}
        for uri, stage, reason in (("d", "clean", "empty"), ("e", "filter", "c4_sentences"),
                                   ("f", "raw", "unreadable"))
    ]  # fmt: skip
    warehouse.write("quarantine", *refusals)
    models = ["stg_clean_documents", "+corpus_accounting", "+corpus_reasons"]
    select = ("build", "--indirect-selection", "cautious", "--select", *models)
    result = warehouse.dbt(*select)
    assert result.success, outcome(result)
    [account] = warehouse.mart("corpus_accounting").to_pylist()
    assert account == {
        "source": "docs", "documents": 6, "indexed": 2, "duplicates": 1, "quarantined": 2,
        "filtered": 1,
    }  # fmt: skip
    reasons = warehouse.mart("corpus_reasons").to_pylist()
    assert [(row["fate"], row["reason"], row["documents"]) for row in reasons] == [
        ("duplicate", "near", 1), ("filtered", "c4_sentences", 1), ("flagged", "c4_sentences", 1),
        ("flagged", "gopher_words", 1), ("quarantined", "empty", 1), ("quarantined", "unreadable", 1),
    ]  # fmt: skip

    # A document that is nowhere, and one that is in two places.
    for missing in (raw("g"),), ():
        warehouse.write("raw_documents", *map(raw, "abcde"), *missing)
        if not missing:
            warehouse.write(
                "document_shards", chunk("a", 0, "x"), chunk("b", 0, "x"), chunk("d", 0, "z")
            )
        result = warehouse.dbt(*select)
        failed = [name for name, status in outcome(result).items() if status == "fail"]
        assert any(name.startswith("adds_up_corpus_accounting") for name in failed), failed


def test_rows_of_replaced_shards_are_not_read(warehouse: Warehouse) -> None:
    fill(warehouse)
    warehouse.write("document_shards", chunk("a", 0, "x"))
    assert len(list(warehouse.lake.path("document_shards").rglob("*.parquet"))) >= 2
    # Tests that need more than these models, of which no earlier run left files, are not asked.
    select = ("--indirect-selection", "cautious", "--select", "+chunks")
    result = warehouse.dbt("build", *select)
    assert result.success, outcome(result)
    assert warehouse.mart("chunks").column("chunk_id").to_pylist() == ["a-0"]


def test_one_model_alone_reads_the_files_of_earlier_runs(built: Warehouse) -> None:
    (built.home / "warehouse" / "corpus_by_source.parquet").unlink()
    result = built.dbt("build", "--select", "corpus_by_source")
    assert result.success
    assert built.mart("corpus_by_source").num_rows == 1
    assert "chunks" not in outcome(result)


def test_test_alone_reads_the_files_of_earlier_runs(built: Warehouse) -> None:
    result = built.dbt("test", "--select", "unique_documents_uri")
    assert outcome(result)["unique_documents_uri"] == "pass"


def test_failed_test_leaves_the_marts_below_as_they_were(built: Warehouse) -> None:
    built.write("document_shards", chunk("a", 0, "x"), chunk("nowhere", 0, "z"))
    result = built.dbt("build")
    assert not result.success
    states = outcome(result)
    assert states["relationships_chunks_uri__uri__ref_stg_clean_documents_"] == "fail"
    assert states["chunk_statistics"] == "skipped"
    [statistics] = built.mart("chunk_statistics").to_pylist()
    assert statistics["chunks"] == 3


def test_same_lake_gives_the_same_bytes(built: Warehouse) -> None:
    folder = built.home / "warehouse"
    first = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    assert len(first) == 19
    shutil.rmtree(folder)
    folder.mkdir()
    assert built.dbt("build").success
    assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == first


def test_model_that_breaks_its_contract_is_an_error(warehouse: Warehouse) -> None:
    """The files keep the columns and types that their readers were promised."""
    rows = rows_to_table("quarantine", [])
    numbers = rows.set_column(rows.schema.get_field_index("detail"), "detail", [[]])
    schema = rows.schema.set(rows.schema.get_field_index("detail"), pa.field("detail", pa.int64()))
    deltalake.write_deltalake(
        str(warehouse.lake.path("quarantine")),
        numbers.cast(schema),
        mode="overwrite",
        schema_mode="overwrite",
    )
    result = warehouse.dbt("build", "--select", "stg_quarantine")
    assert outcome(result)["stg_quarantine"] == "error"
    assert not (warehouse.home / "warehouse" / "stg_quarantine.parquet").exists()


def test_a_renamed_column_names_the_marts_that_break(warehouse: Warehouse, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models" / "staging" / "stg_requests.sql"
    model.write_text(model.read_text().replace("    total_ms,", "    total_ms as milliseconds,"))
    result = warehouse.dbt("build", "--select", "stg_requests+", project=project)
    assert not result.success
    assert outcome(result)["requests_by_release_day"] == "skipped"
    [message] = [entry.message for entry in result.result.results if entry.status == "error"]
    assert "contract of stg_requests does not hold" in message
    assert "`total_ms` is missing (named in int_requests_seen, requests_by_release_day)" in message
    assert "`milliseconds` is not promised" in message
    assert (
        "Marts that it breaks: feedback_by_release_day, requests_by_release_day,"
        " requests_by_source_day." in message
    )
    assert "models/staging/_staging.yml" in message


def test_sources_are_as_fresh_as_their_newest_row(warehouse: Warehouse) -> None:
    def look() -> dict[str, str]:
        result = warehouse.dbt("source", "freshness")
        assert result.success, result.exception
        return {name: outcome(result)[name] for name in ("requests", "feedback")}

    # Nothing is late before the first request.
    assert look() == {"requests": "pass", "feedback": "pass"}
    now = datetime.now(UTC)
    asked = {**request("t1"), "time": now - timedelta(hours=1)}
    said = {**feedback("f1", "t1"), "time": now - timedelta(days=3)}
    warehouse.write("requests", asked, key="2026-01-02")
    warehouse.write("feedback", said, key="2026-01-02")
    assert look() == {"requests": "pass", "feedback": "warn"}


def test_docs_are_generated(warehouse: Warehouse) -> None:
    result = warehouse.dbt("docs", "generate")
    assert result.success, result.exception
