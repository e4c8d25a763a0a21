import json
import sqlite3
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.documents.kinds import jsonl as jsonl_kind
from headwater.documents.kinds import listings, table
from headwater.documents.kinds.base import ReadError, Remembered
from headwater.documents.kinds.rows import Row, etag_of
from headwater.documents.kinds.table import Columns, TableSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import (
    add_source,
    forget_items,
    list_items,
    listing_digest,
    read_items,
)
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import digest_of

ROWS = [
    {"slug": "opening/hours", "body": "The harbour opens at six.", "head": "Hours"},
    {"slug": "fees", "body": "A berth costs twelve crowns.", "head": None},
    {"slug": 7, "body": "Tides.", "head": "Tides"},
]
COLUMNS = Columns(id="slug", text="body", title="head")


def source(path, **fields) -> TableSource:
    return TableSource(**{"name": "faq", "path": path, "columns": COLUMNS, **fields})


def jsonl(path, rows=ROWS):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return source(path)


def csv(path):
    lines = ["slug,body,head", *(f'{r["slug"]},"{r["body"]}",{r["head"] or ""}' for r in ROWS)]
    path.write_text("\n".join(lines))
    return source(path)


def parquet(path):
    rows = [{**row, "slug": str(row["slug"])} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return source(path)


def sqlite(path):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute('CREATE TABLE "a ""b" (slug, body, head, other)')
        values = [(row["slug"], row["body"], row["head"]) for row in ROWS]
        database.executemany('INSERT INTO "a ""b" VALUES (?, ?, ?, 1)', values)
    return source(path, table='a "b')


def contents(entry, max_bytes=2**20):
    found = read_items(entry, list_items(entry), max_bytes)
    return {
        item.uri.removeprefix("faq:///"): content if isinstance(content, bytes) else content.reason
        for item, content in found
    }


@pytest.mark.parametrize(
    ("make", "suffix"), [(jsonl, "jsonl"), (csv, "csv"), (parquet, "parquet"), (sqlite, "sqlite")]
)
def test_a_row_is_a_document(tmp_path, make, suffix):
    entry = make(tmp_path / f"faq.{suffix}")
    assert contents(entry) == {
        "opening/hours": b"Hours\n=====\n\nThe harbour opens at six.",
        "fees": b"A berth costs twelve crowns.",
        "7": b"Tides\n=====\n\nTides.",
    }
    items = list_items(entry)
    assert {item.media_type for item in items} == {"text/plain"}
    assert [item.size for item in items] == [len(c) for _, c in sorted(contents(entry).items())]


def test_etags_are_of_the_mapped_columns_alone(tmp_path):
    entry = jsonl(tmp_path / "faq.jsonl")
    before = {item.uri: item.etag for item in list_items(entry)}
    jsonl(tmp_path / "faq.jsonl", [{**row, "views": 9} for row in reversed(ROWS)])
    assert {item.uri: item.etag for item in list_items(entry)} == before
    digest = listing_digest(list_items(entry))
    jsonl(tmp_path / "faq.jsonl", [{**ROWS[0], "body": "Seven."}, *ROWS[1:]])
    after = {item.uri: item.etag for item in list_items(entry)}
    assert [uri for uri in after if after[uri] != before[uri]] == ["faq:///opening/hours"]
    assert listing_digest(list_items(entry)) != digest


def test_a_listing_is_made_again_only_when_a_file_has_changed(tmp_path, monkeypatch):
    entry = jsonl(tmp_path / "faq.jsonl")
    first = list_items(entry)
    monkeypatch.setattr(table, "_list", lambda *_: pytest.fail("the file was read again"))
    assert list_items(entry) == first


def test_bad_rows_are_quarantined_and_their_neighbours_read(tmp_path):
    path = tmp_path / "faq.jsonl"
    good, bad = ROWS[:2], [{"body": "no id"}, {"slug": "a"}, {"slug": "b", "body": 5}, ["list"]]
    text = "\n".join(json.dumps(row) for row in [*good, *bad])
    path.write_bytes(
        f"{text}\n\n{{not json\n".encode() + b'{"slug": "\xff", "body": "x"}\n' + b"[" * 99999
    )
    lake = Lake(tmp_path / "lake")
    stats = update_raw(lake, [source(path)], ["00"], 1, 2**20)
    assert (stats.processed, stats.quarantined) == (9, 7)
    rows = lake.read("quarantine").to_pylist()
    assert sorted(row["reason"] for row in rows) == ["bad_row"] * 5 + ["no_id", "no_text"]
    assert all("faq.jsonl line" in row["detail"] for row in rows)
    again = update_raw(lake, [source(path)], ["00"], 1, 2**20)
    assert (again.processed, again.quarantined, again.digest) == (0, 7, stats.digest)


def test_ragged_rows_of_csv(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_text('slug,body,head\na,"two\nlines",\nb,x,y,z\n\nc,,d\n')
    assert contents(source(path)) == {
        "a": b"two\nlines",
        "?row=faq.csv%20line%204": "bad_row",
        "c": "no_text",
    }


def test_an_id_that_is_there_twice_is_named(tmp_path):
    entry = jsonl(tmp_path / "faq.jsonl", [*ROWS, ROWS[1], {"slug": "7", "body": "x"}])
    with pytest.raises(
        HeadwaterError, match=r"'fees' \(faq\.jsonl line 2, faq\.jsonl line 4\); '7'"
    ):
        list_items(entry)


def test_a_pattern_reads_every_file(tmp_path):
    for number, row in enumerate(ROWS):
        jsonl(tmp_path / f"part-{number}.jsonl", [row])
    entry = source(tmp_path / "part-*.jsonl")
    assert len(contents(entry)) == 3
    (tmp_path / "part-1.jsonl").unlink()
    assert len(contents(entry)) == 2


def test_licence_and_tags_of_a_row_reach_the_table(tmp_path):
    rows = [
        {"id": "a", "text": "x", "licence": "MIT", "tags": "internal, restricted"},
        {"id": "b", "text": "y", "licence": None, "tags": []},
        {"id": "c", "text": "z", "tags": "For Us"},
    ]
    columns = Columns(licence="licence", access="tags")
    jsonl(tmp_path / "faq.jsonl", rows)
    entry = source(tmp_path / "faq.jsonl", columns=columns, licence="CC0", access="hr")
    lake = Lake(tmp_path / "lake")
    update_raw(lake, [entry], ["00"], 1, 2**20)
    found = {row["uri"][-1]: row for row in lake.read("raw_documents").to_pylist()}
    assert (found["a"]["licence"], found["a"]["access"]) == (
        "MIT",
        ["hr", "internal", "restricted"],
    )
    assert (found["b"]["licence"], found["b"]["access"]) == ("CC0", ["hr"])
    # A tag that cannot be read might have been `restricted`.
    assert [row["reason"] for row in lake.read("quarantine").to_pylist()] == ["bad_access"]


@pytest.mark.parametrize(("text_format", "content"), [
    ("markdown", b"# Hours\n\nThe harbour opens at six."),
    ("html", b"<title>Hours</title>\nThe harbour opens at six."),
])  # fmt: skip
def test_text_may_be_of_a_format(tmp_path, text_format, content):
    jsonl(tmp_path / "faq.jsonl")
    entry = source(tmp_path / "faq.jsonl", text_format=text_format)
    assert contents(entry)["opening/hours"] == content
    assert list_items(entry)[0].media_type == f"text/{text_format}"


def test_a_row_that_changed_or_went_after_it_was_listed(tmp_path):
    entry = jsonl(tmp_path / "faq.jsonl")
    items = list_items(entry)
    jsonl(tmp_path / "faq.jsonl", [{**ROWS[1], "body": "Other."}, ROWS[2]])
    found = {item.uri[7:]: content for item, content in read_items(entry, items, 99)}
    assert {name for name, content in found.items() if isinstance(content, ReadError)} == {
        "opening/hours", "fees",
    }  # fmt: skip
    assert {each.reason for each in found.values() if isinstance(each, ReadError)} == {"missing"}


def test_too_large_rows_and_lines(tmp_path, monkeypatch):
    entry = jsonl(tmp_path / "faq.jsonl")
    assert contents(entry, 20)["fees"] == "too_large"
    monkeypatch.setattr(table, "MAX_LINE_BYTES", 70)
    jsonl(tmp_path / "faq.jsonl", [{**ROWS[1], "body": "x" * 500}, ROWS[2]])
    assert contents(entry) == {
        "?row=faq.jsonl%20line%201": "too_large",
        "7": b"Tides\n=====\n\nTides.",
    }


@pytest.mark.parametrize("make", [jsonl, csv, parquet, sqlite])
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, make):
    entry = make(tmp_path / f"faq.{'jsonl' if make is jsonl else make.__name__}")
    wrong = entry.model_copy(update={"columns": Columns(id="slug", text="content")})
    with pytest.raises(HeadwaterError) as error:
        list_items(wrong)
    assert "no column 'content'" in error.value.what
    assert "body" in error.value.mend


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 nothing"),
        ("a.sqlite", b"no database" * 99),
        ("a.csv", b'a,"' + b"x" * 200_000),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_not_an_empty_listing(
    tmp_path, name, content, monkeypatch
):
    monkeypatch.setattr(table, "MAX_LINE_BYTES", 100_000)
    (tmp_path / name).write_bytes(content)
    entry = source(tmp_path / name, table="x" if name.endswith("sqlite") else None)
    with pytest.raises(HeadwaterError, match=r"cannot read|no column"):
        list_items(entry)
    with pytest.raises(HeadwaterError, match="is not there"):
        list_items(source(tmp_path / "gone.jsonl"))


def test_sql_is_read_only_and_names_are_no_code(tmp_path):
    entry = sqlite(tmp_path / "faq.sqlite")
    before = (tmp_path / "faq.sqlite").read_bytes()
    for name in ('x"; DROP TABLE a; --', "sqlite_schema WHERE 1=1"):
        with pytest.raises(HeadwaterError, match="has no table"):
            list_items(entry.model_copy(update={"table": name}))
    hostile = Columns(id='slug" FROM x; --', text="body")
    with pytest.raises(HeadwaterError, match="no column"):
        list_items(entry.model_copy(update={"columns": hostile}))
    assert (tmp_path / "faq.sqlite").read_bytes() == before


def test_a_table_is_added_with_its_columns_and_not_when_it_cannot_be_listed(tmp_path):
    jsonl(tmp_path / "FAQ 2.jsonl")
    file = tmp_path / "sources.yaml"
    with pytest.raises(HeadwaterError, match="no column 'id'"):
        add_source(file, str(tmp_path / "FAQ 2.jsonl"))
    assert not file.exists()
    fields = {"columns": {"id": "slug", "text": "body"}, "access": ["internal"]}
    added = add_source(file, str(tmp_path / "FAQ 2.jsonl"), fields=fields)
    assert (added.kind, added.name, added.access) == ("table", "faq-2", ("internal",))
    with pytest.raises(HeadwaterError, match="Extra inputs"):
        add_source(file, str(tmp_path / "FAQ 2.jsonl"), "b", fields={"ref": "main"})


def test_a_large_listing_is_kept_for_the_next_process(tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "FEWEST", 3)
    rows = [{**row, "tags": "staff, board" if row["head"] else None} for row in ROWS]
    path = tmp_path / "kept.jsonl"
    jsonl(path, [*rows, {"slug": "none"}])
    columns = COLUMNS.model_copy(update={"access": "tags"})
    entry = source(path, name="kept-listing", columns=columns, access=("all",))
    first = list_items(entry)
    assert {item.access for item in first} == {("all",), ("all", "board", "staff")}
    assert [item.fault is None for item in first] == [True, True, False, True]

    real = table._list
    reads = []
    monkeypatch.setattr(table, "_list", lambda *rest: reads.append(rest) or real(*rest))
    for changed, again in ((False, 0), (True, 1), (False, 1)):
        monkeypatch.setattr(table, "_remembered", Remembered())  # another process
        if changed:
            jsonl(path, rows)
        assert list_items(entry) == (first if not again else list_items(entry))
        assert len(reads) == again
    kept = listings._path("kept-listing")
    kept.write_bytes(kept.read_bytes()[:-9])
    monkeypatch.setattr(table, "_remembered", Remembered())
    assert len(list_items(entry)) == 3 and len(reads) == 2


def test_a_large_listing_is_held_until_it_is_done_with(tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "FEWEST", 3)
    path = tmp_path / "held.jsonl"
    jsonl(path, ROWS)
    entry = source(path, name="held-listing")
    held = Remembered()
    monkeypatch.setattr(table, "_remembered", held)
    first = list_items(entry)
    monkeypatch.setattr(table, "_list", lambda *_: pytest.fail("the file was read again"))
    forget_items(entry)
    assert not held._listings and not held._parts
    assert list_items(entry) == first
    monkeypatch.setattr(listings, "FEWEST", 4)
    forget_items(entry)  # a small one is nowhere else
    assert list_items(entry) == first and held._listings


def test_of_a_pattern_only_the_file_that_changed_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "FEWEST", 3)
    for number, row in enumerate(ROWS):
        jsonl(tmp_path / f"part-{number}.jsonl", [row])
    entry = source(tmp_path / "part-*.jsonl", name="pattern-listing")
    first = {item.uri: item.etag for item in list_items(entry)}
    reads = []
    real = table._list

    def listed(source, file, was):
        reads.append(file.name)
        return real(source, file, was)

    monkeypatch.setattr(table, "_list", listed)
    for other_process in (False, True):
        if other_process:
            monkeypatch.setattr(table, "_remembered", Remembered())
        jsonl(tmp_path / "part-1.jsonl", [{**ROWS[1], "body": f"Other {other_process}."}])
        found = {item.uri: item.etag for item in list_items(entry)}
        assert [uri for uri in first if first[uri] != found[uri]] == ["pattern-listing:///fees"]
        assert reads == ["part-1.jsonl"]
        reads.clear()
    (tmp_path / "part-0.jsonl").unlink()
    assert len(list_items(entry)) == 2 and reads == []
    jsonl(tmp_path / "part-2.jsonl", [ROWS[1]])
    with pytest.raises(HeadwaterError, match=r"'fees' \(part-1\.jsonl, part-2\.jsonl\)"):
        list_items(entry)


def parsed(monkeypatch) -> list[bytes]:
    """The lines that are parsed from here on."""
    lines, real = [], jsonl_kind._object
    monkeypatch.setattr(
        jsonl_kind, "_object", lambda line, names: lines.append(line) or real(line, names)
    )
    return lines


def facts(entry) -> list[tuple]:
    """What an entry lists but for the places."""
    return [tuple(item._replace(locator="")) for item in list_items(entry)]


@pytest.mark.parametrize("other_process", [False, True])
def test_only_the_lines_that_changed_are_parsed_and_read_at_their_places(
    tmp_path, monkeypatch, other_process
):
    monkeypatch.setattr(listings, "FEWEST", 3)
    path = tmp_path / "kept.jsonl"
    rows = [{"slug": f"a{at}", "body": f"Body {at}.", "head": None} for at in range(40)]
    bad = [{"body": "no id"}, {"slug": "b", "body": 5}]
    jsonl(path, [*rows, *bad])
    entry = source(path, name=f"lines-{other_process}")
    first = list_items(entry)

    def again():
        if other_process:
            monkeypatch.setattr(table, "_remembered", Remembered())
        return list_items(entry)

    rows[7]["body"] = "Edited, and longer than it was."
    jsonl(path, [{"slug": "new", "body": "y", "head": None}, *rows[:20], *rows[21:], *bad[::-1]])
    lines = parsed(monkeypatch)
    found = again()
    # A fault names its line: such rows are made again.
    assert [json.loads(line).get("slug") for line in lines] == ["new", "a7", "b", None]
    lines.clear()
    wanted = [item for item in found if item.uri.endswith(("/new", "/a7"))]
    contents = {item.uri[-3:]: content for item, content in read_items(entry, wanted, 99)}
    assert contents == {"/a7": rows[7]["body"].encode(), "new": b"y"} and len(lines) == 2
    # A row that moved since it was parsed is found all the same.
    moved = [item for item in found if item.uri.endswith(("/a9",))]
    assert [each for _, each in read_items(entry, moved, 99)] == [b"Body 9."]
    monkeypatch.setattr(table, "_remembered", Remembered())
    monkeypatch.setattr(listings, "kept", lambda *_: ({}, {}))
    assert [tuple(item._replace(locator="")) for item in found] == facts(entry)
    assert len(first) == 42 and len(found) == 42


def test_a_row_at_its_place_is_what_was_listed_or_all_rows_are_read(tmp_path, monkeypatch):
    path = tmp_path / "faq.jsonl"
    rows = [{"slug": f"a{at}", "body": f"Body {at}.", "head": None} for at in range(40)]
    entry = jsonl(path, rows)
    items = {item.uri[-2:]: item for item in list_items(entry)}
    rows[3]["body"], rows[5]["slug"] = "Body X.", "b5"  # as long as they were
    jsonl(path, [*rows[:20], *rows[21:]])
    wanted = [items["a3"], items["a5"], items["a6"]._replace(locator="nowhere:1:9")]
    found = {item.uri[-2:]: each for item, each in read_items(entry, wanted, 99)}
    assert found["a6"] == b"Body 6."
    assert {name: str(found[name]) for name in ("a3", "a5")} == {
        "a3": "faq.jsonl line 4 changed after it was listed",
        "a5": "the row vanished after it was listed",
    }
    few = [items["a1"]]
    assert [each.reason for _, each in read_items(entry, few, 3)] == ["too_large"]
    path.unlink()
    with pytest.raises(HeadwaterError, match="is not there"):
        list(read_items(entry, few, 99))


def test_a_line_that_is_there_twice_and_a_column_that_is_gone_are_errors_as_before(tmp_path):
    path = tmp_path / "faq.jsonl"
    rows = [{**ROWS[0]}, *({"slug": f"a{at}", "body": "x"} for at in range(9))]
    entry = jsonl(path, rows)
    list_items(entry)
    jsonl(path, [*rows, {"slug": "without a head", "body": "x"}])
    assert len(list_items(entry)) == 11
    jsonl(path, [*rows, rows[4]])
    with pytest.raises(HeadwaterError, match=r"'a3' \(faq\.jsonl line 5, faq\.jsonl line 11\)"):
        list_items(entry)
    jsonl(path, rows[1:])
    with pytest.raises(HeadwaterError, match="no column 'head'") as error:
        list_items(entry)
    assert error.value.mend == "Name one of these: slug, body."


LINES = [
    b'{"id": 1e400, "text": NaN}', b'{"id": 18446744073709551616, "text": "a"}',
    b'{"id": 1, "id": 2, "text": "\\ud800"}', b'{"id": "\\ud83d\\ude00", "text": "\x7f"}',
    b'\xef\xbb\xbf{"id": -0, "text": 1.0}', b'{"id": "\xff", "text": "x"}',
    b'{"id": "a", "text": ["x", 1e16, 123456789012345678901]}', b'{"id": "a", "text": {"b": 1E2}}',
    b'{"id": "a", "text": "x", "other": ' + b"[" * 980 + b"]" * 980 + b"}", b"[1]", b"{", b'"a"',
    '{"id": "ä", "text": "u"}'.encode("utf-16-be"), b'{"id": "\xed\xa0\x80", "text": "x"}',
    b'{"id": 01, "text": "x"}', b'{"id": "a\tb", "text": "x"}', b'{"id": true, "text": null} ',
    b'{"id": ' + b"9" * 5000 + b', "text": "x"}', b'{"id": 7, "text": "a", "text": 0.1}',
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_the_quick_reader_finds_what_json_finds(line, monkeypatch):
    names = ["id", "text"]

    def found():
        value, fault = jsonl_kind._object(line, names)
        row = Row("p", {name: value.get(name) for name in names}, fault and ("bad_row", fault))
        return repr([row.values, list(value), fault]), etag_of(source("a.jsonl"), row)

    quick = found()
    monkeypatch.setattr(jsonl_kind, "_plain", lambda *_: None)
    assert found() == quick


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=())), min_size=3, max_size=3))
def test_an_etag_is_the_digest_of_the_mapped_columns(values):
    entry = source("a.jsonl")
    row = Row("p", dict(zip(entry.columns.named(), values, strict=True)))
    assert etag_of(entry, row) == digest_of("plain", values, None)


def test_a_small_listing_is_not_kept(tmp_path):
    jsonl(tmp_path / "few.jsonl")
    assert len(list_items(source(tmp_path / "few.jsonl", name="few-rows"))) == 3
    assert not listings._path("few-rows").exists()
