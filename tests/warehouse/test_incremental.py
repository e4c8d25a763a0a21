"""Incremental models: what a later run reads, and that it ends where a full refresh would."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headwater.errors import HeadwaterError
from headwater.warehouse.kept import FILE, attach
from tests.warehouse.conftest import PROJECT, Warehouse, feedback, request

RUN = (
    "run", "--select", "stg_requests", "int_requests_seen", "requests_by_release_day",
    "stg_feedback", "feedback_by_release_day",
)  # fmt: skip
ONE, TWO, THREE, FOUR = (f"2026-01-0{day}" for day in range(1, 5))


def asked(trace: str, day: str, **more: Any) -> dict[str, Any]:
    time = datetime.fromisoformat(f"{day}T03:00:00+00:00")
    return {**request(trace, **more), "day": day, "time": time}


@contextmanager
def unreadable(warehouse: Warehouse, *days: str) -> Iterator[None]:
    """The data files of these days are away: a query that opens one of them fails."""
    folder = warehouse.lake.path("requests")
    files = [file for day in days for file in (folder / f"day={day}").glob("*.parquet")]
    assert len(files) >= len(days)
    for file in files:
        file.rename(file.with_suffix(".away"))
    yield
    for file in files:
        file.with_suffix(".away").rename(file)


def marts(warehouse: Warehouse) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in (warehouse.home / "warehouse").glob("*.parquet")}


def full_refresh(warehouse: Warehouse) -> dict[str, bytes]:
    """What a home makes of the same lake that knows nothing of earlier runs."""
    fresh = Warehouse(warehouse.home / "fresh", warehouse.invoke)
    (fresh.home / "warehouse").mkdir(parents=True)
    shutil.copytree(warehouse.home / "lake", fresh.home / "lake")
    assert fresh.dbt(*RUN).success
    return marts(fresh)


@pytest.fixture(scope="module")
def three_days(tmp_path_factory: pytest.TempPathFactory, invoke: Callable[..., Any]) -> Path:
    made = Warehouse(tmp_path_factory.mktemp("three_days"), invoke)
    made.lake.ensure()
    made.write("requests", asked("a1", ONE), asked("a2", ONE, refused=True), key=ONE)
    made.write("requests", asked("b1", TWO, ms=30.0), asked("b2", TWO), key=TWO)
    made.write("requests", asked("c1", THREE), key=THREE)
    made.write("feedback", feedback("f1", "a1", day=ONE, thumb="up"), key=ONE)
    assert made.dbt(*RUN).success
    return made.home


@pytest.fixture
def built(three_days: Path, tmp_path: Path, invoke: Callable[..., Any]) -> Warehouse:
    """A warehouse that has been built over three days of requests."""
    shutil.copytree(three_days, tmp_path, dirs_exist_ok=True)
    return Warehouse(tmp_path, invoke)


def test_a_later_run_reads_the_changed_days_alone_and_ends_as_a_full_refresh(
    built: Warehouse,
) -> None:
    # Of the second day one row was deleted and one came late; of the third, all were deleted. A day
    # is new, and somebody says a word on an answer of the first.
    built.write("requests", asked("b2", TWO), asked("b3", TWO, ms=90.0), key=TWO)
    built.write("requests", key=THREE)
    built.write("requests", asked("d1", FOUR), key=FOUR)
    built.write("feedback", feedback("f2", "a1", day=FOUR, thumb="down"), key=FOUR)
    with unreadable(built, ONE):
        # What reads that day fails, and a run that failed has changed nothing.
        assert not built.dbt(*RUN, "--full-refresh").success
        assert built.dbt(*RUN).success
    traces = built.mart("int_requests_seen")["trace"].to_pylist()
    assert traces == ["a1", "a2", "b2", "b3", "d1"]
    said = built.mart("feedback_by_release_day").to_pylist()[0]
    assert (said["thumbs_up"], said["thumbs_down"]) == (0, 1)
    assert marts(built) == full_refresh(built)


def test_without_change_no_day_is_read_and_a_lost_mart_is_written_again(built: Warehouse) -> None:
    before = marts(built)
    (built.home / "warehouse" / "int_requests_seen.parquet").unlink()
    with unreadable(built, ONE, TWO, THREE):
        assert built.dbt(*RUN).success
    assert marts(built) == before


def test_when_what_was_kept_is_corrupt_everything_is_read_again(built: Warehouse) -> None:
    before = marts(built)
    kept = built.home / "warehouse" / FILE
    with kept.open("r+b") as file:
        file.truncate(kept.stat().st_size // 2)
    said: list[str] = []
    # What is run alone first reads the files of earlier runs.
    for run in (("run", "--select", "int_requests_seen", "feedback_by_release_day"), RUN):
        result = built.dbt(*run, listen=lambda event: said.append(event.info.msg))
        assert result.success, result.exception
        assert marts(built) == before
    assert any("read every day again" in each for each in said)
    assert said.count("stg_requests: full refresh") == 1
    assert said.count("int_requests_seen: full refresh") == 2  # the first was not of the lake
    assert kept.with_name(f"{FILE}.broken").exists()


def test_an_edited_model_is_made_again_whole_and_so_is_what_reads_it(
    built: Warehouse, tmp_path: Path
) -> None:
    """New columns too, which a later run would refuse (`on_schema_change: fail`)."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    staging = project / "models" / "staging"
    for file, old, new in [
        ("stg_requests.sql", "list_max(scores)", "list_min(scores)"),
        ("stg_requests.sql", "    status,", "    status,\n    key as key_id,"),
        (
            "_staging.yml",
            "      - {name: asked_at,",
            "      - {name: key_id, data_type: varchar, description: Its key.}\n"
            "      - {name: asked_at,",
        ),
    ]:
        path = staging / file
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))
    assert built.dbt(*RUN, project=project).success
    assert "key_id" in built.mart("stg_requests").column_names
    assert set(built.mart("int_requests_seen")["top_score"].to_pylist()) == {0.25}
    assert set(built.mart("requests_by_release_day")["top_score_mean"].to_pylist()) == {0.25}


HOLD = """
import sys
import duckdb
held = duckdb.connect()
held.execute(f"attach '{sys.argv[1]}' as kept")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_run_at_once_is_told_what_to_do(built: Warehouse) -> None:
    file = built.home / "warehouse" / FILE
    before = file.read_bytes()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        result = built.dbt(*RUN)
    finally:
        other.communicate()
    said = str(result.exception)
    assert not result.success
    assert "Another run of dbt is at work" in said
    assert str(other.pid) in said
    assert "Wait until it has ended" in said
    assert file.read_bytes() == before


def test_a_file_in_use_is_not_set_aside(tmp_path: Path) -> None:
    file = tmp_path / FILE
    with duckdb.connect() as one, duckdb.connect() as two:
        attach(one, file)
        with pytest.raises(HeadwaterError, match="Another run of dbt"):
            attach(two, file)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
