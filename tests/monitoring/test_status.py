"""`headwater drift` says what was seen and decided, to people and to scripts."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headwater.cli import app
from headwater.lake import Lake
from headwater.monitoring.drift import drift_report
from headwater.monitoring.retraining import decide
from headwater.settings import Settings
from tests.monitoring.conftest import WordEncoder, ask, log_requests, release_with

pytestmark = pytest.mark.usefixtures("unpictured")


@pytest.mark.parametrize("command", [["drift"], ["drift", "status"]])
def test_drift_is_told_before_and_after_the_first_look(
    command: list[str], lake: Lake, settings: Settings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    runner = CliRunner()
    never = json.loads(runner.invoke(app, [*command, "--json"]).stdout.splitlines()[-1])
    assert never["status"] == "never_looked" and never["decision"] is None

    log_requests(lake, ask(release_with(settings, "adapter-1"), 260))
    drift_report(lake, settings, encode=WordEncoder())
    decide(lake, settings, costs=[], now=datetime(2026, 1, 5, tzinfo=UTC))
    told = runner.invoke(app, [*command, "--json"])
    found = json.loads(told.stdout.splitlines()[-1])
    assert found["status"] == "ok" and found["windows"] == 1
    assert set(found["panels"]["question_topics"]) >= {"evidence", "p_value"}
    assert found["decision"]["verdict"] == "no_drift" and found["decision"]["reasons"]
