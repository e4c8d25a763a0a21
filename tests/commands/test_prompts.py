"""`headwater prompts`, with a real MLflow and an editor that is a command."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headwater.cli import app
from headwater.datasets import prompt_registry
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.datasets.prompt_forms import to_yaml
from headwater.settings import Settings


@pytest.fixture(scope="module")
def home(furnished: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnished(tmp_path_factory.mktemp("home"))


@pytest.fixture
def settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEADWATER_HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("VISUAL", raising=False)
    return Settings()


def run(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["prompts", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.splitlines()[-1])


def editor(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """An editor that replaces one text by another."""
    edit = (
        "import pathlib, sys; path = pathlib.Path(sys.argv[1]);"
        f" path.write_text(path.read_text().replace({before!r}, {after!r}))"
    )
    monkeypatch.setenv("EDITOR", f'{sys.executable} -c "{edit}"')


def test_a_version_from_first_edit_to_going_back(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("list") == {"prompts": []}
    assert "mend" in run("show", code=1)

    editor(monkeypatch, "nothing like this", "")
    assert run("edit") == {"version": 1, "created": False, "changed": False}
    editor(monkeypatch, "short", "brief")
    assert run("edit", "--note", "brief") == {"version": 2, "created": True, "changed": True}
    brief = replace(DEFAULT_PROMPT, system=DEFAULT_PROMPT.system.replace("short", "brief"))
    assert prompt_registry.candidate(settings).to_prompt() == brief
    assert run("edit", "1") == {"version": 2, "created": False, "changed": True}, "the same text"

    shown = replace(brief, examples=(("Who?", "Nobody."),))
    (tmp_path / "new.yaml").write_text(to_yaml(shown))
    assert run("add", str(tmp_path / "new.yaml"))["version"] == 3
    assert run("show")["messages"][1]["content"] == "Who?"
    rows = run("list")["prompts"]
    assert [row["aliases"] for row in rows] == [[], [], ["candidate"]]
    assert [row["note"] for row in rows] == ["Headwater's default", "brief", ""]

    assert run("use", "1") == {"version": 1, "moved": True}
    assert run("use", "1") == {"version": 1, "moved": False}
    assert prompt_registry.digest_in_force(settings) == DEFAULT_PROMPT.digest
    assert "1, 2, 3" in run("use", "7", code=1)["mend"]
    assert [path.name for path in tmp_path.iterdir()] == ["new.yaml"], "no draft is left behind"


def test_what_was_written_is_kept_where_it_breaks_a_rule(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run("list")["prompts"]
    editor(monkeypatch, "{{question}}", "{{query}}")
    said = run("edit", code=1)
    assert "{{query}}" in said["error"]
    (draft,) = tmp_path.iterdir()
    assert str(draft) in said["mend"] and "{{query}}" in draft.read_text()
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    assert "EDITOR" in run("edit", code=1)["mend"]
    monkeypatch.setenv("EDITOR", "false")
    assert "nothing was registered" in run("edit", code=1)["error"]
    assert "mend" in run("add", str(tmp_path / "missing.yaml"), code=1)
    assert run("list")["prompts"] == before
