"""A small lake, and dbt in process over it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.lake import Lake, rows_to_table

PROJECT = Path(__file__).parents[2] / "dbt_project"


def document(uri: str, text: str = "Some text.") -> dict[str, Any]:
    heading = {"start": 0, "level": 1, "text": "Title"}
    return {
        "uri": uri, "source": "docs", "shard": "00", "title": f"Title of {uri}", "language": "en",
        "text": text, "headings": [heading], "licence": "MIT", "input_digest": "i", "digest": uri,
    }  # fmt: skip


def duplicate(uri: str, survivor: str) -> dict[str, Any]:
    return {
        "uri": uri, "source": "docs", "shard": "00", "cluster": survivor, "survivor": survivor,
        "similarity": 0.9, "kind": "near",
    }  # fmt: skip


def raw(uri: str, content: bytes = b"12345") -> dict[str, Any]:
    return {
        "uri": uri, "source": "docs", "shard": "00", "etag": "e", "media_type": "text/html",
        "size": len(content), "licence": "MIT", "content": content, "digest": uri,
    }  # fmt: skip


def chunk(uri: str, ordinal: int, embed_digest: str, tokens: int = 5) -> dict[str, Any]:
    return {
        "id": f"{uri}-{ordinal}", "uri": uri, "source": "docs", "shard": "00", "ordinal": ordinal,
        "start": ordinal * 5, "end": ordinal * 5 + 5, "title": "Title", "heading": "Title",
        "text": "Some ", "tokens": tokens, "embed_digest": embed_digest, "digest": "d",
        "input_digest": "i",
    }  # fmt: skip


def request(
    trace: str, *, status: str = "ok", refused: bool = False, ms: float = 10.0
) -> dict[str, Any]:
    return {
        "day": "2026-01-02", "trace": trace, "time": datetime(2026, 1, 2, 3, tzinfo=UTC),
        "release": "r1", "arm": "champion", "session": "s", "key": "", "ungrounded": 0.5, "guard": [], "question": "Why?", "answer": "Because.", "status": status,
        "streamed": False, "refused": refused, "uris": ["a", "b"], "scores": [0.25, 0.75],
        "chunk_ids": ["a-0", "b-0"], "prompt_tokens": 7, "completion_tokens": 3,
        "retrieve_ms": 1.0, "generate_ms": ms - 1.0, "total_ms": ms, "energy_wh": ms / 100,
        "cost": ms / 1000, "spans": [],
    }  # fmt: skip


def feedback(id: str, trace: str, *, day: str = "2026-01-02", **said: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("thumb", "correction", "rival", "rival_release", "preferred"))
    return {
        "day": day, "id": id, "time": datetime.fromisoformat(f"{day}T04:00:00+00:00"),
        "trace": trace, "release": "r1", "user": "", "tags": [], **nothing, **said,
    }  # fmt: skip


@dataclass
class Warehouse:
    """One HEADWATER_HOME with a lake, and the marts that dbt makes of it."""

    home: Path
    invoke: Callable[..., Any]

    @property
    def lake(self) -> Lake:
        return Lake(self.home / "lake")

    def write(self, name: str, *rows: dict[str, Any], key: str = "00") -> None:
        self.lake.replace(name, rows_to_table(name, rows), keys=[key])

    def dbt(
        self,
        *args: str,
        project: Path = PROJECT,
        unit_tests: bool = False,
        listen: Callable[[Any], None] | None = None,
    ) -> Any:
        """One command; unit tests, which no lake can change, are left out of a build."""
        left_out = ["--exclude-resource-type", "unit_test"]
        more = left_out if args[0] == "build" and not unit_tests else []
        return self.invoke(self.home, *args, *more, project=project, listen=listen)

    def mart(self, name: str) -> pa.Table:
        return pq.read_table(self.home / "warehouse" / f"{name}.parquet")


@pytest.fixture(scope="session")
def invoke(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run dbt in process; one target folder for all, so that the project is parsed once.

    A copy of the project has one of its own: what dbt keeps of a parse is not for another's files.
    Every home is reached by one link, as dbt parses again what names another HEADWATER_HOME.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    shared = tmp_path_factory.mktemp("dbt")
    link = shared / "home"

    def run(
        home: Path,
        *args: str,
        project: Path = PROJECT,
        listen: Callable[[Any], None] | None = None,
    ) -> Any:
        target = shared if project == PROJECT else project / "target"
        link.unlink(missing_ok=True)
        link.symlink_to(home, target_is_directory=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEADWATER_HOME", str(link))
            result = dbtRunner(callbacks=[listen] if listen else []).invoke(
                [*args, "--project-dir", str(project), "--profiles-dir", str(project),
                 "--target-path", str(target), "--log-path", str(target), "--log-level", "none"]
            )  # fmt: skip
        DuckDBConnectionManager.close_all_connections()
        return result

    return run


def empty(home: Path, invoke: Callable[..., Any]) -> Warehouse:
    """A home whose lake has no rows."""
    made = Warehouse(home, invoke)
    made.lake.ensure()
    (home / "warehouse").mkdir()
    return made


@pytest.fixture
def warehouse(tmp_path: Path, invoke: Callable[..., Any]) -> Warehouse:
    return empty(tmp_path, invoke)
