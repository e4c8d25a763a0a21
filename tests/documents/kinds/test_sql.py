"""Databases by URL: SQLite through SQLAlchemy, and PostgreSQL where its programs and a driver are."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from headwater.documents.kinds import sql
from headwater.documents.kinds.base import ReadError
from headwater.documents.kinds.rows import Columns
from headwater.documents.kinds.sql import SqlSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import (
    add_source,
    list_items,
    load_sources,
    location_of,
    read_items,
)
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from tests.documents.kinds.databases import PASSWORD, Database, postgres, sqlite

COLUMNS = Columns(id="slug", text="body", title="head")
ROWS = [
    "('opening/hours', 'The harbour opens at six.', 'Hours', 1)",
    "('fees', 'A berth costs twelve crowns.', NULL, 1)",
    "('7', 'Tides.', 'Tides', 1)",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Database | None]:
    with postgres() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with a table of three rows."""
    if request.param == "sqlite":
        found = sqlite(tmp_path / "help.sqlite")
    else:
        found = request.getfixturevalue("server")
        if found is None:
            pytest.skip("no PostgreSQL server, or no driver (psycopg)")
        monkeypatch.setenv("HELP_PASSWORD", found.password)
        found.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    found.run("CREATE TABLE articles (slug TEXT, body TEXT, head TEXT, edited INTEGER)")
    found.run(f"INSERT INTO articles VALUES {', '.join(ROWS)}")
    return found


def source(database: Database, **fields: Any) -> SqlSource:
    given = {"name": "help", "url": database.url, "columns": COLUMNS, "every_minutes": 0, **fields}
    if "query" not in given:
        given.setdefault("table", "articles")
    if database.password is not None:
        given["password_env"] = "HELP_PASSWORD"
    return SqlSource(**given)


def contents(entry: SqlSource, max_bytes: int = 2**20) -> dict[str, Any]:
    return {
        item.uri.removeprefix("help:///"): each if isinstance(each, bytes) else each.reason
        for item, each in read_items(entry, list_items(entry), max_bytes)
    }


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], int | None]]:
    """The columns that were read, and by how many ids."""
    seen: list[tuple[list[str], int | None]] = []
    real = sql._rows

    def rows(source: Any, connection: Any, names: Any, ids: Any) -> Any:
        seen.append((list(names), None if ids is None else len(ids)))
        return real(source, connection, names, ids)

    monkeypatch.setattr(sql, "_rows", rows)
    return seen


def test_a_row_is_a_document(database):
    expected = {
        "opening/hours": b"Hours\n=====\n\nThe harbour opens at six.",
        "fees": b"A berth costs twelve crowns.",
        "7": b"Tides\n=====\n\nTides.",
    }
    assert contents(source(database)) == expected
    assert contents(source(database, version="edited")) == expected
    assert contents(source(database), 20) == dict.fromkeys(expected, "too_large") | {
        "7": b"Tides\n=====\n\nTides."
    }
    database.run("CREATE VIEW seen AS SELECT * FROM articles WHERE slug <> 'fees'")
    assert contents(source(database, table="seen")).keys() == {"opening/hours", "7"}


def test_a_query_is_read_as_it_stands(database):
    query = """
        SELECT slug, body || ' at :six 100%' AS body, head FROM articles
        WHERE body LIKE '%o%' -- (not; a parenthesis, nor an end)
        ORDER BY slug;
    """
    assert contents(source(database, query=query)) == {
        "fees": b"A berth costs twelve crowns. at :six 100%",
        "opening/hours": b"Hours\n=====\n\nThe harbour opens at six. at :six 100%",
    }
    whole = "WITH kept AS (SELECT * FROM articles) SELECT * FROM kept"
    assert len(contents(source(database, query=whole))) == 3


def test_what_changed_is_asked_for_by_its_id_and_what_went_goes(database, tmp_path, monkeypatch):
    entry, lake = source(database), Lake(tmp_path / "lake")
    assert update_raw(lake, [entry], ["00", "01"], 2, 2**20).processed == 3
    assert update_raw(lake, [entry], ["00", "01"], 2, 2**20).reused == 3
    database.run("UPDATE articles SET body = 'Ebb.' WHERE slug = '7'")
    database.run("DELETE FROM articles WHERE slug = 'fees'")
    seen = spied(monkeypatch)
    stats = update_raw(lake, [entry], ["00", "01"], 2, 2**20)
    assert (stats.processed, stats.reused, stats.removed) == (1, 1, 1)
    assert [ids for _, ids in seen] == [None, 1]
    rows = lake.read("raw_documents", columns=["uri", "content"]).to_pylist()
    assert {row["uri"]: row["content"] for row in rows}["help:///7"].endswith(b"Ebb.")


def test_with_a_version_a_listing_reads_no_texts(database, monkeypatch):
    entry = source(database, version="edited")
    before = {item.uri: item.etag for item in list_items(entry)}
    seen = spied(monkeypatch)
    database.run("UPDATE articles SET body = 'Ebb.', edited = 2 WHERE slug = '7'")
    after = {item.uri: item.etag for item in list_items(entry)}
    assert [uri for uri in after if after[uri] != before[uri]] == ["help:///7"]
    assert seen == [(["slug", "edited"], None)]
    # A row that has none would never be read again.
    database.run("UPDATE articles SET edited = NULL WHERE slug = 'fees'")
    assert contents(entry)["fees"] == "bad_row"


def test_a_row_that_changed_or_went_after_it_was_listed(database):
    for version in (None, "edited"):
        entry = source(database, version=version)
        items = list_items(entry)
        database.run("UPDATE articles SET body = 'Other.', edited = edited + 1 WHERE slug = 'fees'")
        found = {item.uri[8:]: each for item, each in read_items(entry, items, 99)}
        assert {name for name, each in found.items() if isinstance(each, ReadError)} == {"fees"}
    database.run("DELETE FROM articles WHERE slug = 'fees'")
    gone = {item.uri[8:]: each for item, each in read_items(entry, items, 99)}
    assert gone["fees"].reason == "missing"


@pytest.mark.parametrize(("by_id", "ids", "parts"), [(3, 2, [2, 1]), (2, 2, [None])])
def test_few_are_asked_for_by_id_and_many_in_one_pass(database, monkeypatch, by_id, ids, parts):
    monkeypatch.setattr(sql, "_BY_ID", by_id)
    monkeypatch.setattr(sql, "_IDS", ids)
    monkeypatch.setattr(sql, "_BATCH", 2)
    entry = source(database)
    items = list_items(entry)
    seen = spied(monkeypatch)
    assert len([each for _, each in read_items(entry, items, 99) if isinstance(each, bytes)]) == 3
    assert [ids for _, ids in seen] == parts


def test_ids_that_are_numbers_and_rows_that_make_no_document(database):
    database.run(
        "CREATE TABLE other (id INTEGER, text TEXT, tags TEXT, of TEXT)",
        "INSERT INTO other VALUES (1, 'x', 'internal, restricted', 'MIT'), (NULL, 'y', NULL, NULL),"
        " (3, NULL, NULL, NULL), (4, 'z', 'For Us', NULL)",
    )
    for version in (None, "of"):
        columns = Columns(access="tags", licence="of")
        entry = source(database, table="other", columns=columns, access=("hr",), version=version)
        first = next(item for item in list_items(entry) if item.uri == "help:///1")
        assert (first.access, first.licence) == (("hr", "internal", "restricted"), "MIT")
        found = contents(entry)
        assert found.pop("1") == b"x"
        if version is None:
            assert sorted(map(str, found.values())) == ["bad_access", "no_id", "no_text"]
    database.run("INSERT INTO other VALUES (1, 'x', NULL, NULL)")
    with pytest.raises(HeadwaterError, match="ids more than once: 1 "):
        list_items(entry)


def test_values_of_a_database_that_files_do_not_have(server, monkeypatch):
    if server is None:
        pytest.skip("no PostgreSQL server, or no driver (psycopg)")
    monkeypatch.setenv("HELP_PASSWORD", server.password)
    one, two = "00000000-0000-0000-0000-000000000001", "7.00"
    server.run(
        "CREATE TABLE typed (key UUID, amount NUMERIC, body TEXT, at TIMESTAMPTZ, tags TEXT[])",
        f"INSERT INTO typed VALUES ('{one}', {two}, 'x', '2026-01-02 03:04+00', '{{staff}}')",
    )
    for column, uri in (("key", one), ("amount", "7")):
        columns = Columns(id=column, text="body", access="tags")
        entry = source(server, table="public.typed", columns=columns, version="at")
        assert contents(entry) == {uri: b"x"}
        assert list_items(entry)[0].access == ("staff",)


def test_what_is_not_there_is_named_with_what_is(database):
    with pytest.raises(HeadwaterError, match="no column 'content'") as told:
        list_items(source(database, columns=Columns(id="slug", text="content")))
    assert "body" in told.value.mend
    with pytest.raises(HeadwaterError, match="no column 'changed'"):
        list_items(source(database, version="changed"))
    with pytest.raises(HeadwaterError, match="no column 'id'"):
        list_items(source(database, query="SELECT slug FROM articles", columns=Columns()))
    for name in ("article", 'articles"; DROP TABLE articles; --'):
        with pytest.raises(HeadwaterError, match="has no table") as told:
            list_items(source(database, table=name))
        assert "articles" in told.value.mend
    with pytest.raises(HeadwaterError, match="'help' cannot read"):
        list_items(source(database, query="SELECT slug, body, head FROM nowhere"))
    hostile = Columns(id='slug" FROM articles; --', text="body")
    with pytest.raises(HeadwaterError, match="no column"):
        list_items(source(database, columns=hostile))


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM articles",
        "SELECT 1; DROP TABLE articles",
        "WITH x AS (DELETE FROM articles RETURNING *) SELECT * FROM x",
        "SELECT slug FROM articles) x; (SELECT 1",
        "(SELECT slug FROM articles",
        "PRAGMA journal_mode = wal",
        "EXPLAIN SELECT 1",
        "SELECT * INTO other FROM articles",
        "-- nothing",
        "",
    ],
)
def test_a_query_that_does_not_read_alone_is_refused(query):
    with pytest.raises(ValueError, match="query"):
        source(Database("sqlite:////x"), query=query)


def test_what_a_query_quotes_is_no_code():
    source(
        Database("sqlite:////x"), query="SELECT 'it''s; delete (', \"drop\" FROM a /* update ; */"
    )


def test_the_session_may_only_read(database):
    """Whatever a query, a view or a function of the database tries."""
    import sqlalchemy as sa

    with (
        pytest.raises(HeadwaterError, match=r"read-?only"),
        sql._connected(source(database)) as connection,
    ):
        connection.execute(sa.text("UPDATE articles SET body = 'x'"))
    assert b"x" not in contents(source(database)).values()


def test_listings_are_remembered_for_a_while(database):
    entry = source(database, name="remembered-help", every_minutes=10**6)
    before = list_items(entry)
    database.run("DELETE FROM articles")
    assert list_items(entry) == before
    assert list_items(entry.model_copy(update={"every_minutes": 0})) == []


def test_the_url_may_be_in_the_environment(database, monkeypatch, tmp_path):
    monkeypatch.setenv("HELP_URL", database.url)
    entry = source(database, url=None, url_env="HELP_URL")
    assert len(contents(entry)) == 3
    assert location_of(entry) == "$HELP_URL articles"
    monkeypatch.setenv("HELP_URL", "no url:secret")
    with pytest.raises(HeadwaterError, match="no URL") as told:
        list_items(entry)
    assert "secret" not in str(told.value)
    monkeypatch.delenv("HELP_URL")
    with pytest.raises(HeadwaterError, match="variable HELP_URL"):
        list_items(entry)


def test_a_password_is_of_the_environment_and_never_shown(server, monkeypatch, capsys):
    for url in (
        "postgresql://u:secret@h/d",
        "postgresql+psycopg://u:se/cret@h/d",
        "postgresql://u@h/d?password=secret",
    ):
        with pytest.raises(ValueError, match="environment") as told:
            source(Database(url))
        assert "cret" not in str(told.value)
    if server is None:
        pytest.skip("no PostgreSQL server, or no driver (psycopg)")
    entry = source(server, table="typed")
    with pytest.raises(HeadwaterError, match="variable HELP_PASSWORD"):
        list_items(entry)
    monkeypatch.setenv("HELP_PASSWORD", "wrong-password")
    with pytest.raises(HeadwaterError, match="cannot read") as refused:
        list_items(entry)
    shown = f"{refused.value} {refused.value.__cause__} {location_of(entry)} {entry!r}"
    assert "wrong-password" not in shown and PASSWORD not in shown


def test_databases_on_the_network_are_refused_while_fetching_is_off():
    for url in (
        "postgresql://u@db.example.org/help",
        "postgresql://u@/help?host=db.example.org",
        "postgresql://u@/help?host=/tmp&host=db.example.org",
        "postgresql://u@/help?service=far",
        "mysql+pymysql://u@127.0.0.1/help",
        "mssql+pyodbc:///?odbc_connect=Server%3Dfar",
    ):
        with pytest.raises(HeadwaterError) as told:
            list_items(source(Database(url)))
        assert "HEADWATER_FETCHING" in told.value.mend, url


def test_a_driver_or_dialect_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(HeadwaterError, match="needs the driver psycopg2") as told:
        list_items(source(Database("postgresql+psycopg2://u@h/d")))
    assert "psycopg2-binary" in told.value.mend
    with pytest.raises(HeadwaterError, match="SQLAlchemy does not know: nodb"):
        list_items(source(Database("nodb://h/d")))


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    path = tmp_path / "gone.sqlite"
    for url in (f"sqlite:///{path}", "sqlite://"):
        with pytest.raises(HeadwaterError, match="is not there"):
            list_items(source(Database(url)))
    assert not path.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"url": None},
        {"url_env": "HELP_URL"},
        {"table": None},
        {"query": "SELECT 1"},
        {"url": "help.sqlite"},
        {"password_env": "not a name"},
    ],
)
def test_what_is_no_entry(fields):
    given = {"name": "help", "url": "sqlite:////x", "table": "articles", **fields}
    with pytest.raises(ValueError, match=r"url|table|password_env"):
        SqlSource(**given)


def test_it_is_added_by_its_url(tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "help.sqlite") as database:
        database.execute("CREATE TABLE articles AS SELECT 1 AS id, 'x' AS text, 2 AS edited")
    file, url = tmp_path / "sources.yaml", f"sqlite:///{tmp_path / 'help.sqlite'}"
    added = add_source(file, url, fields={"table": "articles", "version": "edited"})
    assert (added.kind, added.name) == ("sql", "help")
    assert load_sources(file) == [added]
    monkeypatch.setenv("HELP_DB", url)
    assert add_source(file, "env:HELP_DB", fields={"table": "articles"}).name == "help-db"
    with pytest.raises(HeadwaterError, match="password_env"):
        add_source(file, "postgresql://u:p@h/d", fields={"table": "articles"})
