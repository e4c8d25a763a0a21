"""A plugin of dbt-duckdb: where incremental models are kept between runs, and what the lake holds.

Knows one DuckDB file and which data files make up each day of the lake's tables; not what a model
computes. dbt loads it by its name in `dbt_project/profiles.yml`; what SQL reads of it is in
`dbt_project/macros/incremental.sql`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.events.logging import AdapterLogger
from dbt_common.exceptions import DbtRuntimeError

from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import digest_of
from headwater.tables import PARTITIONED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The file below $HEADWATER_HOME/warehouse, and the name that models know it by.
FILE, DATABASE = "kept.duckdb", "kept"
#: What has been kept: of which model, made by which SQL, of which state of each day.
_TABLES = (
    "create table if not exists kept.main.kept_models (model varchar, code varchar)",
    "create table if not exists kept.main.kept_days (model varchar, day varchar, made_of varchar)",
)
log = AdapterLogger("Headwater")


class Plugin(BasePlugin):  # type: ignore[misc]
    """Before anything is read: attach the file, and note of which files each day is made."""

    def configure_connection(self, conn: "DuckDBPyConnection") -> None:
        """Called once a run, before its first query.

        The days are noted before any row is read, so a day that grows meanwhile is one that differs
        next time: rows may be read twice, and are never taken for read.

        Raises:
            DbtRuntimeError: another run of dbt has the file.
        """
        home = Path(os.environ.get("HEADWATER_HOME", ".headwater")).absolute()
        try:
            attach(conn, home / "warehouse" / FILE)
        except HeadwaterError as error:
            raise DbtRuntimeError(str(error)) from error
        for statement in _TABLES:
            conn.execute(statement)
        days = days_of(Lake(home / "lake"))
        conn.register("_lake_days", days)
        conn.execute("create or replace table memory.main.lake_days as select * from _lake_days")
        conn.unregister("_lake_days")


def attach(connection: "DuckDBPyConnection", path: Path) -> None:
    """Attach the file; one that cannot be read is set aside, for it can be made again.

    Raises:
        HeadwaterError: another process has it, or it may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = str(path).replace("'", "''")
    statement = f"attach '{quoted}' as {DATABASE}"
    try:
        connection.execute(statement)
        _refuse_if_cut(connection, path)
        return
    except duckdb.Error as error:
        why = " ".join(str(error).split())
        # The second is of another connection of this very process.
        if "Could not set lock" in why or "Unique file handle conflict" in why:
            raise HeadwaterError(
                f"Another run of dbt is at work on {path} ({why}).",
                mend="Wait until it has ended, or end it, and run this again; nothing was changed.",
            ) from error
        if not os.access(path if path.exists() else path.parent, os.R_OK | os.W_OK):
            raise HeadwaterError(
                f"{path} may not be read and written ({why}).", mend="Give it to this user."
            ) from error
        broken = path.with_name(f"{path.name}.broken")
        log.warning(
            f"{path} cannot be read ({why}): it is now {broken.name}, and the incremental models"
            " read every day again"
        )
    if path.exists():
        path.replace(broken)
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    connection.execute(statement)


def _refuse_if_cut(connection: "DuckDBPyConnection", path: Path) -> None:
    """DuckDB finds out when it comes to the block that is missing; that would be amid a run."""
    found = connection.execute(
        "select block_size * total_blocks from pragma_database_size() where database_name = ?",
        [DATABASE],
    ).fetchone()
    promised, there = found[0] if found else 0, path.stat().st_size
    if promised > there:
        connection.execute(f"detach {DATABASE}")
        raise duckdb.IOException(f"of {promised} bytes there are {there}")


def days_of(lake: Lake) -> pa.Table:
    """For each day of the tables by day a digest of the names of its files: equal ones, equal rows."""
    rows = [
        {"name": name, "day": day, "files": digest_of(files)}
        for name, column in PARTITIONED.items()
        if column == "day"
        for day, files in lake.snapshot(name).files.items()
    ]
    fields = [("name", pa.string()), ("day", pa.string()), ("files", pa.string())]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))
