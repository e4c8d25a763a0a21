"""`headwater sources`: every kind is added from the command line, and nothing that is broken."""

import json
import mailbox
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from headwater.cli import app
from headwater.documents.fetching import Fetcher
from headwater.documents.raw import update_raw
from headwater.documents.removals import refusals
from headwater.documents.sources import load_sources
from headwater.lake import Lake
from headwater.settings import Settings
from tests.documents.site import serving


def run(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["sources", *map(str, arguments), "--json"])
    assert done.exit_code == code, done.output
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADWATER_SOURCES", str(tmp_path / "sources.yaml"))
    return tmp_path


def test_every_kind_is_added_listed_and_removed(home: Path) -> None:
    (home / "docs").mkdir()
    (home / "docs" / "a.md").write_text("# A")
    (home / "docs" / "b.png").write_text("x")
    (home / "faq.jsonl").write_text('{"slug": "a", "body": "x"}\n{"body": "y"}\n')
    with closing(sqlite3.connect(home / "help.sqlite")) as database, database:
        database.execute("CREATE TABLE articles AS SELECT 1 AS id, 'x' AS text")
    box = mailbox.mbox(home / "list.mbox")
    box.add("Message-ID: <a@b>\n\ntext")
    box.close()
    subprocess.run(["git", "init", "-q", home / "book"], check=True)

    added = run("add", home / "docs", "--include", "*.md", "--licence", "MIT")
    assert added == {"name": "docs", "kind": "folder", "documents": 1, "faults": 0}
    columns = ("--text-column", "body", "--id-column", "slug")
    added = run("add", home / "faq.jsonl", *columns, "--access", "restricted", "--access", "hr")
    assert added == {"name": "faq", "kind": "table", "documents": 2, "faults": 1}
    assert run("add", home / "help.sqlite", "--table", "articles")["documents"] == 1
    assert run("add", home / "list.mbox")["kind"] == "mail"
    assert "cannot read HEAD" in run("add", f"git+{home / 'book'}", code=1)["error"]

    url = f"sqlite:///{home / 'help.sqlite'}"
    added = run("add", url, "--name", "rows", "--query", "SELECT * FROM articles")
    assert (added["kind"], added["documents"]) == ("sql", 1)

    listed = {row["name"]: row for row in run("list")["sources"]}
    assert list(listed) == ["docs", "faq", "help", "list", "rows"]
    assert listed["faq"]["access"] == ["hr", "restricted"]
    entries = yaml.safe_load((home / "sources.yaml").read_text())["sources"]
    assert entries[1] == {
        "kind": "table",
        "name": "faq",
        "access": ["hr", "restricted"],
        "path": str(home / "faq.jsonl"),
        "columns": {"id": "slug", "text": "body"},
    }
    run("remove", "faq")
    assert len(run("list")["sources"]) == 4


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["faq.jsonl"], "no column 'id'"),
        (["faq.jsonl", "--access", "For Us"], "access"),
        (["faq.jsonl", "--ref", "main"], "ref: Extra inputs"),
        (["faq.jsonl", "--name", "../a"], "name"),
        (["faq.jsonl", "--kind", "web"], "makes no source|no folder"),
        (["gone.jsonl"], "is not there"),
    ],
)
def test_what_cannot_be_added_is_said_and_not_kept(
    home: Path, arguments: list[str], problem: str
) -> None:
    (home / "faq.jsonl").write_text('{"slug": "a", "body": "x"}\n')
    answer = run("add", home / arguments[0], *arguments[1:], code=1)
    assert any(part in answer["error"] for part in problem.split("|")), answer
    assert answer["mend"]
    assert not (home / "sources.yaml").exists()


def test_a_site_and_a_store_by_their_urls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "docs").mkdir()
    (home / "docs" / "a.md").write_text("# A")
    # Requests keep a second's distance; this test does not.
    monkeypatch.setitem(Fetcher.__init__.__kwdefaults__, "sleep", lambda seconds: None)
    with serving() as site:
        site.put("/a", "<p>a")
        site.put("/b", "<p>b")
        options = ("--allow-private", site.netloc, "--exclude", "/b", "--contact", "me@example.org")
        refused = run("add", site.url, *options, code=1)
        assert "HEADWATER_FETCHING" in refused["mend"]
        monkeypatch.setenv("HEADWATER_FETCHING", "true")
        added = run("add", site.url, "--name", "guide", *options)
        assert added == {"name": "guide", "kind": "web", "documents": 1, "faults": 0}
        assert site.asked.count("/a") == 1
        assert run("list")["sources"][0]["location"] == site.url
    added = run("add", (home / "docs").as_uri(), "--option", "auto_mkdir=false")
    assert added == {"name": "docs", "kind": "objects", "documents": 1, "faults": 0}
    entries = yaml.safe_load((home / "sources.yaml").read_text())["sources"]
    assert entries[1]["options"] == {"auto_mkdir": False}
    wrong = run("add", (home / "docs").as_uri(), "--name", "x", "--option", "anon", code=1)
    assert "NAME=VALUE" in wrong["mend"]


def test_a_loss_is_refused_and_allowed(home: Path) -> None:
    settings, document = Settings(), home / "my-docs" / "a.md"
    document.parent.mkdir()
    document.write_text("# A")
    run("add", document.parent)
    lake, sources = Lake(settings.lake), load_sources(settings.sources_file)
    update_raw(lake, sources, ["00"], 1, 2**20)
    assert run("allow", "my_docs") == {"name": "my-docs", "documents": 1, "removed": 0}
    document.unlink()
    assert (
        "lists no document where it had 1"
        in refusals(lake, sources, {"my-docs": 0})["my-docs"].what
    )
    assert run("allow", "my-docs") == {"name": "my-docs", "documents": 0, "removed": 1}
    assert refusals(lake, sources, {"my-docs": 0}) == {}
    assert update_raw(lake, sources, ["00"], 1, 2**20).removed == 1
    assert "There is no source" in run("allow", "other", code=1)["error"]


def test_the_help_teaches() -> None:
    said = CliRunner().invoke(app, ["sources", "add", "--help"]).output
    for word in (
        "faq.jsonl",
        "list.mbox",
        "git+",
        "postgresql://",
        "s3://",
        "https://",
        "--text-column",
        "restricted",
        "package:NAME",
    ):
        assert word in said, said
