"""Data files of the lake."""

import os
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.data_files import read_around, read_partition_file, write_partition_file

LETTERS = random.Random(3)


def codecs(path) -> dict[str, str]:
    columns = pq.ParquetFile(path).metadata.row_group(0)
    each = (columns.column(at) for at in range(columns.num_columns))
    return {column.path_in_schema: column.compression for column in each}


def test_what_gets_half_as_large_is_compressed(tmp_path):
    pages = ["<tr><td class='cell'>the same markup</td></tr>" * 40] * 100
    prose = ["".join(LETTERS.choices("abcdefghijklmnopqrstuvwxyz ", k=2000)) for _ in pages]
    rows = pa.table(
        {
            "shard": ["00"] * 100,
            "page": pages,
            "prose": pa.array(prose, pa.large_string()),
            "name": prose[:1] * 99 + [None],
            "few": [text[:3] for text in prose],
            "vector": [[0.5, 0.25]] * 100,
            "tags": [["a"]] * 100,
        }
    )
    action = write_partition_file(tmp_path, "shard", "00", rows)
    assert codecs(tmp_path / action.path) == {
        "page": "LZ4",
        "prose": "UNCOMPRESSED",
        "name": "LZ4",
        "few": "LZ4",
        "vector.list.element": "UNCOMPRESSED",
        "tags.list.element": "LZ4",
    }
    found = read_partition_file(tmp_path / action.path, rows.schema, "shard", "00")
    assert found.equals(rows)


@pytest.mark.parametrize("wanted", [[0], [127, 128], [999], [3, 500, 501, 130]])
def test_some_rows_are_read_with_those_around_them(tmp_path, wanted):
    rows = pa.table(
        {
            "shard": ["00"] * 1000,
            "number": list(range(1000)),
            "vector": pa.array([[float(at)] for at in range(1000)], pa.list_(pa.float32())),
        }
    )
    action = write_partition_file(tmp_path, "shard", "00", rows)
    schema = pa.schema([("number", pa.int64()), ("shard", pa.string()), ("late", pa.string())])
    numbers, found = read_around(tmp_path / action.path, schema, "shard", "00", np.array(wanted))
    assert set(wanted) <= set(numbers.tolist()) and len(numbers) <= 128 * len(wanted)
    assert found["number"].to_pylist() == numbers.tolist()
    assert set(found["shard"].to_pylist()) == {"00"} and found["late"].null_count == len(found)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_the_system_lets_go_of_some_columns_of_a_file_and_of_no_others(tmp_path, monkeypatch):
    names, texts = (
        [f"{word} {at} " + "".join(LETTERS.choices("abcdef", k=size)) for at in range(1000)]
        for word, size in (("name", 20), ("text", 300))
    )
    rows = pa.table({"shard": ["00"] * 1000, "name": names, "text": texts})
    path = tmp_path / write_partition_file(tmp_path, "shard", "00", rows).path
    advised = []

    def advise(file: int, start: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        advised.append(os.pread(file, size, start))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    assert read_partition_file(path, rows.schema, "shard", "00").equals(rows)
    assert not advised
    found = read_partition_file(path, rows.schema, "shard", "00", let_go=["text"])
    assert found.equals(rows)
    (bytes_of_column,) = advised
    assert all(text.encode() in bytes_of_column for text in texts)
    assert not any(name.encode() in bytes_of_column for name in names)
