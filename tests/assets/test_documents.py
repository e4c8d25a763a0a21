"""Verdicts reach the corpus through the assets, whatever the number of shards."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.documents import clean_documents
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource
from headwater.lake import Lake
from headwater.serving.verdict_log import Verdict, VerdictEntry, VerdictLog, log_folder
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource


def test_a_document_that_was_left_out_is_filtered_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    settings = Settings()
    lake = Lake(settings.lake)
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "tea.txt").write_text("Tea is a drink that is made of leaves and of hot water.\n")
    source = FolderSource(name="drinks", path=folder)
    update_raw(lake, [source], settings.shard_keys(), settings.shards, 2**20)
    (shard,) = lake.read("raw_documents", columns=["shard"])["shard"].to_pylist()
    log = VerdictLog(log_folder(settings))

    def run(*said: Verdict) -> Any:
        for verdict in said:
            about = {"id": "1", "uri": uri, "digest": digest, "title": "Tea"}
            log.append(VerdictEntry(time=datetime.now(UTC), verdict=verdict, user="ann", **about))
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [clean_documents],
                instance=instance,
                partition_key=shard,
                resources={
                    "settings": SettingsResource(home=str(settings.root)),
                    "lake": LakeResource(path=str(settings.lake)),
                },
            )
            (event,) = result.get_asset_materialization_events()
        return event.materialization.metadata

    uri = digest = ""
    assert run()["quarantined"].value == 0
    [document] = lake.read("clean_documents").to_pylist()
    uri, digest = document["uri"], document["digest"]
    out = run("leave_out")
    assert (out["processed"].value, out["quarantined"].value, out["removed"].value) == (0, 1, 1)
    (row,) = lake.read("quarantine").to_pylist()
    assert (row["stage"], row["reason"]) == ("filter", "rated_out")
    assert "ann" in row["detail"]
    assert lake.read("clean_documents").num_rows == 0
    assert run("withdraw")["quarantined"].value == 0
    assert lake.read("clean_documents").num_rows == 1
    log.close()
