"""`headwater alerts`: what scripts read."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headwater.cli import app
from headwater.monitoring.alerts import AlertInbox, Finding
from headwater.settings import Settings


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertInbox:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    return AlertInbox(Settings(home=tmp_path).alerts)


def run(*arguments: str, code: int = 0) -> dict[str, object]:
    done = CliRunner().invoke(app, ["alerts", *arguments, "--json"])
    assert done.exit_code == code, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_list_show_acknowledge_resolve_and_deliver(inbox: AlertInbox) -> None:
    assert run() == {"alerts": []}
    alert = inbox.failed(
        Finding(
            kind="check_failure", subject="document_shards", cause="no_empty [x]", event="1",
            detail="[bold]three rows[/bold]", owner="team:data", examples=[{"uri": "[/a]"}],
        )
    )  # fmt: skip
    assert alert is not None
    assert [a["id"] for a in run()["alerts"]] == [alert.id]  # type: ignore[attr-defined]
    assert run("list", "--open") == run()
    assert "three rows" in (Settings().alerts / "index.html").read_text()
    shown = run("show", alert.id[:4])
    assert (shown["detail"], shown["count"]) == ("[bold]three rows[/bold]", 1)
    assert run("ack", alert.id)["acknowledged"]
    assert run("deliver") == {"sent": 0, "waiting": {}, "busy": False}
    assert run("resolve", alert.id)["state"] == "resolved"
    assert run("list", "--open") == {"alerts": []}
    assert "error" in run("show", "zzzz", code=1)
