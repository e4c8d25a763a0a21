"""A document tagged `restricted` never teaches: not as a source, not as context, not by a rating."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from headwater.datasets.preferences import build_preference_pairs, read_pairs
from headwater.datasets.restricted import restricted_documents, restricted_rows
from headwater.datasets.sft import read_rows
from headwater.lake import Lake, rows_to_table
from tests.datasets.test_feedback import BETTER, log, request, said
from tests.datasets.test_sft import build, fill, manual

SECRET = "manual:///boiler.html"


def tagged(lake: Lake, uris: Iterable[str], access: list[str]) -> None:
    rows = [row | {"access": access} if row["uri"] in uris else row for row in manual()]
    fill(lake, rows)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_chunks_of_a_restricted_document_are_neither_asked_about_nor_shown(lake: Lake) -> None:
    tagged(lake, {SECRET}, ["internal", "restricted"])
    secret = {row["id"] for row in manual() if row["uri"] == SECRET}
    asked: list[str] = []
    build(lake, written=99, ask=lambda heading, text: asked.append(text))
    rows = read_rows(lake)
    assert len(rows) > 20
    assert all(row.uri != SECRET and secret.isdisjoint(row.context) for row in rows)
    assert not any("boiler" in text for text in asked)
    assert restricted_rows(lake, "sft_dataset") == []
    # The same documents with another tag are taught and shown.
    tagged(lake, {SECRET}, ["internal"])
    build(lake)
    rows = read_rows(lake)
    assert any(row.uri == SECRET for row in rows)
    assert any(not secret.isdisjoint(row.context) and row.uri != SECRET for row in rows)


def test_a_tag_that_came_later_is_found_in_rows_and_contexts(lake: Lake) -> None:
    fill(lake, manual())
    build(lake)
    tagged(lake, {SECRET}, ["restricted"])
    found = restricted_rows(lake, "sft_dataset")
    assert {row.place for row in found} == {"uri", "context"}
    assert {row.uri for row in found} == {SECRET}
    build(lake)
    assert restricted_rows(lake, "sft_dataset") == []


def test_the_same_text_in_a_public_document_is_taught_from_there(lake: Lake) -> None:
    copy = [row | {"uri": "manual:///public.html", "id": f"p{row['id']}"} for row in manual()[:2]]
    secret = [row | {"access": ["restricted"]} for row in manual()[:2]]
    fill(lake, [*secret, *copy, *manual()[2:]])
    build(lake)
    rows = read_rows(lake)
    assert any(row.uri == "manual:///public.html" for row in rows)
    assert restricted_rows(lake, "sft_dataset") == []


def test_what_people_said_of_restricted_passages_does_not_teach(lake: Lake) -> None:
    """The correction may repeat the passage, even where it has been edited since."""
    tagged(lake, {SECRET}, ["restricted"])
    chunks = [str(row["id"]) for row in manual()]
    mixed = request("t", ["edited since", chunks[4]], uris=[SECRET, "manual:///pump.html"])
    words = [said("t", correction=BETTER), said("t", 1, rival="Worse.", preferred="answer")]
    log(lake, [mixed], words)
    build(lake)
    build_preference_pairs(lake)
    assert "correction" not in {row.kind for row in read_rows(lake)}
    assert read_pairs(lake) == []
    log(lake, [mixed | {"uris": ["manual:///pump.html"] * 2}], words)
    build(lake)
    build_preference_pairs(lake)
    assert "correction" in {row.kind for row in read_rows(lake)}
    assert len(read_pairs(lake)) == 2


@pytest.mark.parametrize("table", ["raw_documents", "clean_documents", "document_shards"])
def test_any_table_of_documents_may_say_so(lake: Lake, table: str) -> None:
    row = {"uri": "docs:///a", "source": "docs", "shard": "00", "access": ["restricted"]}
    rows = [row, row | {"uri": "docs:///b", "access": None}, row | {"uri": "c", "access": ["hr"]}]
    lake.replace(table, rows_to_table(table, rows), keys=["00"])
    assert restricted_documents(lake) == {"docs:///a"}
