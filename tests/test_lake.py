"""Tables of an earlier version of Headwater can be read, and are widened when they are written."""

import os
import time
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from headwater.files import ABANDONED_S
from headwater.lake import Lake, rows_to_table
from headwater.tables import SCHEMAS

ROW = {
    "id": "1", "kind": "heading", "question": "q", "answer": "a", "chunk_id": "c", "uri": "u",
    "context": ["c"], "split": "train",
}  # fmt: skip
#: Columns that the row lacks.
NOTHING = dict.fromkeys(("trace", "licence", "access"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake whose `sft_dataset` has no column `trace`."""
    old = pa.schema([field for field in SCHEMAS["sft_dataset"] if field.name != "trace"])
    table = pa.Table.from_pylist([ROW], schema=old)
    deltalake.write_deltalake(str(tmp_path / "sft_dataset"), table)
    return Lake(tmp_path)


def columns(lake: Lake, name: str) -> set[str]:
    table = deltalake.DeltaTable(str(lake.path(name)))
    return {field.name for field in table.schema().fields}


def test_a_column_that_is_new_reads_as_null(lake: Lake) -> None:
    assert lake.read("sft_dataset").to_pylist() == [{**ROW, **NOTHING}]
    assert lake.read("sft_dataset", columns=["trace", "id"]).to_pydict() == {
        "trace": [None],
        "id": ["1"],
    }


def test_writing_adds_the_column(lake: Lake) -> None:
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", [{**ROW, "trace": "t"}]))
    assert lake.read("sft_dataset").column("trace").to_pylist() == ["t"]


def test_ensuring_adds_the_column_once_and_keeps_the_rows(lake: Lake) -> None:
    lake.ensure(["sft_dataset"])
    version = lake.version("sft_dataset")
    lake.ensure(["sft_dataset"])
    assert lake.version("sft_dataset") == version
    assert "trace" in columns(lake, "sft_dataset")
    assert lake.read("sft_dataset").to_pylist() == [{**ROW, **NOTHING}]


def test_what_the_engine_has_not_finished_goes_a_day_later(lake: Lake) -> None:
    folder, before = lake.path("sft_dataset"), lake.read("sft_dataset")
    old = [folder / "part-0.parquet#1", folder / "_delta_log" / "_commit_old.json.tmp"]
    young = folder / "_delta_log" / "_commit_young.json.tmp"
    for path in (*old, young):
        path.write_text("half")
    ago = time.time() - ABANDONED_S - 60
    for path in old:
        os.utime(path, (ago, ago))
    lake.vacuum("sft_dataset", [0], dry_run=True)
    assert all(path.exists() for path in (*old, young))
    lake.vacuum("sft_dataset", [0], dry_run=False)
    assert not any(path.exists() for path in old) and young.exists()
    assert lake.read("sft_dataset") == before
