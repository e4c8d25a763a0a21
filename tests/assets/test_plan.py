"""What `headwater build --plan` says of a source that lost its documents."""

from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

import plans
from headwater.build_view import BuildView
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource
from headwater.lake import Lake
from headwater.settings import Settings
from sensors.arrivals import look


def test_a_plan_tells_of_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    settings, folder = Settings(), tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# A")
    source = FolderSource(name="my-docs", path=folder)
    update_raw(Lake(settings.lake), [source], ["00"], 1, 2**20)
    monkeypatch.setattr(plans, "source_entries", [source])
    assert plans._refused(settings, look([source], settings)) == {}
    (folder / "a.md").unlink()
    refused = plans._refused(settings, look([source], settings))
    assert "lists no document where it had 1" in refused["my-docs"]
    foreseen = plans._foreseen(settings, look([source], settings))
    plan = {
        "stale": ["raw_documents"], "reasons": {}, "deferred": [], "refused": refused,
        "documents": {name: asdict(each) for name, each in foreseen.items()},
        "seconds_to_index": 7.0,
    }  # fmt: skip
    BuildView(Console(width=200)).plan(plan)
    said = capsys.readouterr().out
    assert "The build will stop: The source 'my-docs'" in said
    assert "my-docs: 0 new, 0 changed (0 bytes to read), 1 removed, 0 unchanged" in said
    assert "About 7 s from there to the index." in said
