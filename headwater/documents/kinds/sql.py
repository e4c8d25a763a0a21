"""SQL databases as sources, by SQLAlchemy URL: a document for each row of a table or a query.

Only reads, and says so to the database. Users and passwords are the installation's: what the entry
names of them is the name of an environment variable. Knows no database but what its dialect tells.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl
from uuid import UUID

from pydantic import ConfigDict, Field, field_validator, model_validator

from headwater.documents.kinds.base import (
    HOLDS_PASSWORD,
    NAMES_SECRET,
    VARIABLE,
    Entry,
    ReadError,
    Remembered,
)
from headwater.documents.kinds.rows import (
    Columns,
    Row,
    TextFormat,
    check_columns,
    contents,
    etag_of,
    fault_of,
    item_of,
    item_with,
    listed,
    vanished,
)
from headwater.errors import HeadwaterError
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: What a URL of this kind begins with, before a `+driver`; `kind: sql` takes others, too.
DATABASES = frozenset({"postgresql", "mysql", "mariadb", "mssql", "oracle", "sqlite"})
#: What to install where a driver's module is missing, if it is called otherwise.
_DRIVERS = {
    "psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient",
    "pymysql": "PyMySQL", "mysql": "mysql-connector-python",
}  # fmt: skip
#: Statements by which a session, of whatever driver, may only read from then on.
_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = 1",
}
#: Of these the statement holds from the next transaction on.
_FROM_THE_NEXT = frozenset({"mysql", "mariadb"})
#: Rows that are in memory at a time.
_BATCH = 256
#: Rows that are asked for by their ids, so many in a statement; more are found by reading all.
_BY_ID, _IDS = 1_000, 500
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9_]*(\+[A-Za-z0-9_]+)?://", re.S)
#: What a query says to people or names, and is no word of SQL.
_ASIDE = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]\n]*\]|--[^\n]*|/\*.*?\*/", re.S
)
_READS = re.compile(r"[\s(]*(select|with|values|table)\b", re.I)
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|drop|alter|create|truncate|grant|revoke|into)\b", re.I
)
#: A colon and a name, which would be a parameter.
_PARAMETER = re.compile(r"(?<![:\w\\])(:\w+)(?![:\w])")
_ID_TYPES = {"int": int, "str": str, "uuid": UUID, "decimal": Decimal}
#: The key of a row's id as the database has it, beside its columns.
_LOCATOR = "\0id"
_remembered = Remembered()


class SqlSource(Entry):
    """Rows of a table, a view or a query of a database."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["sql"] = "sql"
    url: str | None = Field(
        default=None, description="SQLAlchemy's URL of the database, without a password."
    )
    url_env: str | None = Field(
        default=None, pattern=VARIABLE, description="The variable that holds the URL instead."
    )
    password_env: str | None = Field(
        default=None, pattern=VARIABLE, description="The variable that holds the password."
    )
    table: str | None = Field(
        default=None, min_length=1, description="A table or view, or `schema.table`."
    )
    query: str | None = Field(default=None, description="A SELECT, instead of a table.")
    columns: Columns = Columns()
    version: str | None = Field(
        default=None,
        min_length=1,
        description="A column that changes whenever the row does; then listing reads no texts.",
    )
    text_format: TextFormat = "plain"
    every_minutes: float = Field(
        default=5, ge=0, description="Between two listings by one process."
    )

    @field_validator("url")
    @classmethod
    def _has_no_secret(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _URL.match(value):
            raise ValueError("a URL of SQLAlchemy is needed, as postgresql://user@host/database")
        options = parse_qsl(value.partition("?")[2], keep_blank_values=True)
        if HOLDS_PASSWORD.match(value) or any(NAMES_SECRET.search(name) for name, _ in options):
            raise ValueError(
                "the password belongs into the environment: name its variable in password_env"
            )
        return value

    @field_validator("query")
    @classmethod
    def _reads_alone(cls, value: str | None) -> str | None:
        if value is None:
            return None
        bare = _ASIDE.sub(" ", value).strip().removesuffix(";")
        word = _WRITES.search(bare)
        if word is not None:
            raise ValueError(f"a query that only reads is needed; this one says {word[0].upper()}")
        if not _READS.match(bare) or ";" in bare or _closes_too_much(bare):
            raise ValueError("a query is one whole SELECT")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "SqlSource":
        if (self.url is None) == (self.url_env is None):
            raise ValueError("either `url` or `url_env` names the database")
        if (self.table is None) == (self.query is None):
            raise ValueError("either `table` or `query` says what is read")
        return self

    @property
    def place(self) -> str:
        """Where it is, as a person names it."""
        return self.url or f"${self.url_env}"


def list_rows(source: SqlSource) -> list[SourceItem]:
    """An item for each row. The etag is made of its version, or is the digest of its mapped columns.

    Raises:
        HeadwaterError: the database cannot be reached or read, or is on the network while fetching is
            off; a column or the driver is missing; an id is there twice.
    """
    every = 60 * source.every_minutes
    made_of = (source.model_dump_json(), int(time.monotonic() // every)) if every else object()
    return _remembered.listing(source.name, made_of, lambda: _list(source))


def read_rows(
    source: SqlSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items: few are asked for by their ids, many found in one pass."""
    wanted = {item.uri: item for item in items}
    if not wanted:
        return
    ids = [_id_in(item.locator) for item in wanted.values()]
    parts: list[list[Any] | None] = [None]
    if len(ids) <= _BY_ID:
        parts = [ids[at : at + _IDS] for at in range(0, len(ids), _IDS)]
    with _connected(source) as connection:
        names = _checked(source, connection)
        for part in parts:
            if wanted:
                rows = _rows(source, connection, names, part)
                yield from contents(source, rows, wanted, max_bytes, _etag)
    yield from vanished(wanted)


def _list(source: SqlSource) -> list[SourceItem]:
    with _connected(source) as connection:
        names = _checked(source, connection)
        if source.version is not None:
            texts = {source.columns.text, source.columns.title}
            kept = {
                source.columns.id,
                source.columns.licence,
                source.columns.access,
                source.version,
            }
            names = [name for name in names if name in kept or name not in texts]
        rows = _rows(source, connection, names, None)
        return listed(source, ((row, _item(source, row)) for row in rows))


def _item(source: SqlSource, row: Row) -> SourceItem:
    if source.version is None:
        item = item_of(source, row)
    else:
        fault = fault_of(source, row)
        if fault is None and row.values[source.version] is None:
            fault = ReadError("bad_row", f"{row.place} has no {source.version!r}")
        item = item_with(source, row, 0, _etag(source, row), fault)
    return item if item.fault else item._replace(locator=row.values[_LOCATOR])


def _etag(source: SqlSource, row: Row) -> str:
    if source.version is None:
        return etag_of(source, row)
    seen = (source.version, source.columns.licence, source.columns.access)
    values = [str(row.values.get(name)) for name in seen if name]
    return digest_of("version", source.columns.model_dump(), source.text_format, values)


def _rows(
    source: SqlSource, connection: Any, names: Sequence[str], ids: Sequence[Any] | None
) -> Iterator[Row]:
    """Rows with these columns, a batch at a time; those of some ids, where some are named."""
    import sqlalchemy as sa

    statement: Any = sa.select(*(sa.column(name) for name in names))
    statement = statement.select_from(_origin(source))
    if ids is not None:
        statement = statement.where(sa.column(source.columns.id).in_(ids))
    result = connection.execute(statement, execution_options={"yield_per": _BATCH})
    try:
        for number, found in enumerate(result, 1):
            values = dict(zip(names, found, strict=True))
            id = values[source.columns.id]
            plain = {name: _plain(value) for name, value in values.items()}
            yield Row(
                f"row {number} of {source.table or 'the query'}", {**plain, _LOCATOR: _shown(id)}
            )
    finally:
        result.close()


def _origin(source: SqlSource) -> Any:
    import sqlalchemy as sa

    if source.table is not None:
        schema, _, name = source.table.rpartition(".")
        return sa.table(name, schema=schema or None)
    # Below a SELECT of ours no statement but a SELECT can stand. It may end with a comment.
    query = (source.query or "").strip().removesuffix(";")
    return sa.text("(" + _PARAMETER.sub(r"\\\1", query) + "\n) headwater_rows")


def _checked(source: SqlSource, connection: Any) -> list[str]:
    """The columns to read; an error that names what there is where one of them, or the table, is not."""
    import sqlalchemy as sa

    if source.table is not None:
        inspector = sa.inspect(connection)
        schema, _, name = source.table.rpartition(".")
        if not inspector.has_table(name, schema=schema or None):
            try:
                found = inspector.get_table_names(schema or None)
                found = sorted([*found, *inspector.get_view_names(schema or None)])
            except sa.exc.NoSuchTableError:
                found = []
            raise HeadwaterError(
                f"{source.place} has no table {source.table!r} (source {source.name!r}).",
                mend=f"Name one of these with --table: {', '.join(found)[:500] or 'it has none'}.",
            )
    nothing = sa.select(sa.text("*")).select_from(_origin(source)).where(sa.false())
    names = source.columns.named()
    if source.version is not None and source.version not in names:
        names.append(source.version)
    what = source.table or "The query"
    check_columns(source, what, connection.execute(nothing).keys(), names)
    return names


@contextmanager
def _connected(source: SqlSource) -> Iterator[Any]:
    """A connection that may only read, of which nothing is left. Errors get a name and a mend."""
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool

    url = _url(source)
    engine = _engine(source, url, {"poolclass": NullPool, "hide_parameters": True})
    try:
        with engine.connect() as connection:
            dialect = url.get_backend_name()
            if dialect in _READ_ONLY:
                connection.exec_driver_sql(_READ_ONLY[dialect])
            if dialect in _FROM_THE_NEXT:
                connection.rollback()
            yield connection
    except sa.exc.SQLAlchemyError as error:
        # Not what it was raised from: that may quote what a driver was given.
        raise HeadwaterError(
            f"The source {source.name!r} cannot read {source.place}: {_said(error, url)}.",
            mend="Look whether the database can be reached, and at the user, the password and what the"
            " user may read.",
        ) from None
    finally:
        engine.dispose()


def _engine(source: SqlSource, url: Any, options: dict[str, Any]) -> Any:
    import sqlalchemy as sa

    try:
        return sa.create_engine(url, **options)
    except ModuleNotFoundError as error:
        needed = _DRIVERS.get(error.name or "", error.name or "a driver")
        raise HeadwaterError(
            f"The source {source.name!r} needs the driver {error.name}, which is not installed.",
            mend=f'Install it in this environment: pip install "{needed}". Or name another one that is'
            " there in the URL (postgresql+DRIVER://).",
        ) from error
    except sa.exc.NoSuchModuleError as error:
        raise HeadwaterError(
            f"The source {source.name!r} is of a database that SQLAlchemy does not know:"
            f" {url.drivername}.",
            mend="Correct what the URL begins with, or install the package that carries the dialect.",
        ) from error


def _url(source: SqlSource) -> Any:
    """The URL with its password, which is never shown."""
    import sqlalchemy as sa

    text = source.url or _variable(source, source.url_env or "", "the database's URL")
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise HeadwaterError(
            f"The source {source.name!r} has no URL of SQLAlchemy in {source.place}.",
            mend="Write it as postgresql://user@host/database.",
        ) from None
    if source.password_env is not None:
        url = url.set(password=_variable(source, source.password_env, "the password"))
    if url.get_backend_name() == "sqlite" and not (
        url.database and Path(url.database).expanduser().is_file()
    ):
        # SQLite would make an empty one.
        raise HeadwaterError(
            f"The source {source.name!r} is not there: {url.database or 'no file is named'}.",
            mend=f"Restore the file, or run `headwater sources remove {source.name}`.",
        )
    if not _is_local(url) and not Settings().fetching:
        raise HeadwaterError(
            f"The source {source.name!r} is on the network: {source.place}.",
            mend="Set HEADWATER_FETCHING=true to let sources be fetched.",
        )
    return url


def _variable(source: SqlSource, name: str, what: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise HeadwaterError(
            f"The source {source.name!r} takes {what} from the variable {name}, which is not set.",
            mend=f"Set {name} where Headwater runs, its Dagster processes too.",
        )
    return value


def _is_local(url: Any) -> bool:
    """Whether it is reached without a network: a file, or a socket of PostgreSQL's own."""
    if url.get_backend_name() == "sqlite":
        return True
    hosts = url.query.get("host", ())
    named = [url.host or "", *([hosts] if isinstance(hosts, str) else hosts)]
    return (
        url.get_backend_name() == "postgresql"
        and set(url.query) <= {"host"}
        and all(host == "" or host.startswith("/") for host in named)
    )


def _said(error: Exception, url: Any) -> str:
    """The first line of what a database said, without the password."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    line = said.splitlines()[0][:300].rstrip(".")
    return line.replace(str(url.password), "***") if url.password else line


def _plain(value: Any) -> Any:
    """A value as files have it too: text, numbers, lists."""
    match value:
        case UUID():
            return str(value)
        case Decimal():
            return int(value) if value == value.to_integral_value() else str(value)
        case datetime() | date() | time_of_day():
            return value.isoformat()
        case memoryview():
            return bytes(value)
        case _:
            return value


def _shown(id: Any) -> str:
    """An id with its type, so that it can be asked for again."""
    return f"{type(id).__name__.lower()}:{id}"


def _id_in(locator: str) -> Any:
    kind, _, id = locator.partition(":")
    return _ID_TYPES[kind](id)


def _closes_too_much(query: str) -> bool:
    depth = 0
    for letter in query:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return True
    return depth != 0
