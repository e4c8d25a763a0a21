"""Materializations name versions; a restore from outside of Dagster is stale downstream in its eyes."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from typer.testing import CliRunner

from assets.documents import clean_documents, quarantine, raw_documents
from assets.partitions import shard_range_tags
from headwater.cli import app
from headwater.documents.sources import add_source
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource

PROSE = "The harbour opens at six in the morning and closes when the last ferry has gone."


@pytest.fixture
def settings(
    furnished: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("HEADWATER_HOME", str(furnished(tmp_path / "home")))
    (tmp_path / "documents").mkdir()
    settings = Settings()
    add_source(settings.sources_file, str(tmp_path / "documents"), name="docs")
    return settings


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """In memory, which is quicker; tests/integration restores on the one on disk."""
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr("builds.open_instance", lambda _: nullcontext(instance))
        yield instance


def made(settings: Settings, instance: dg.DagsterInstance) -> dict[str, dict[str, Any]]:
    """Metadata of each asset of a run of the first ones."""
    result = dg.materialize(
        [raw_documents, clean_documents, quarantine],
        instance=instance,
        tags=shard_range_tags(),
        resources={
            "settings": SettingsResource(home=str(settings.root)),
            "lake": LakeResource(path=str(settings.lake)),
        },
    )
    return {
        event.asset_key.to_user_string(): {
            "run": result.run_id,
            **{name: value.value for name, value in event.materialization.metadata.items()},
        }
        for event in result.get_asset_materialization_events()
    }


def reasons(instance: dg.DagsterInstance, settings: Settings) -> dict[str, str]:
    """Why each of the assets is stale, in Dagster's eyes."""
    import plans
    from definitions import defs

    resolver = CachingStaleStatusResolver(
        instance, defs.resolve_asset_graph(), LoadingContextForTest(instance)
    )
    found = {}
    for asset in (raw_documents, clean_documents):
        causes = plans.causes_of(resolver, asset.key, settings.shard_keys())
        if causes:
            found[asset.key.to_user_string()] = plans.reason_of(instance, asset.key, causes[0])
    return found


def run(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["data", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_from_log_to_restore_to_following_again(
    settings: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    document = tmp_path / "documents" / "guide.md"
    document.write_text(f"# Guide\n\n{PROSE}\n")
    first = made(settings, instance)
    document.write_text(f"# Guide\n\n{PROSE} It costs nothing.\n")
    second = made(settings, instance)
    versions = [run_["raw_documents"]["table_version"] for run_ in (first, second)]
    assert second["clean_documents"]["tables_read"]["raw_documents"] == versions[1]
    assert second["clean_documents"]["table_version"] == versions[1]
    assert second["quarantine"]["tables_read"] == {} and "table_version" in second["quarantine"]
    log = run("log")
    assert [row["version"] for row in log["raw_documents"][:2]] == versions[::-1]
    assert log["raw_documents"][0]["run"] == second["raw_documents"]["run"]
    assert {"version", "time", "operation", "run"} <= log["raw_documents"][0].keys()
    assert run("log", "raw_documents", "--limit", "1")["raw_documents"] == [log["raw_documents"][0]]
    changed = run("diff", "raw_documents", "--from", str(versions[0]))
    assert [row["key"] for row in changed["changed"]] == ["docs:///guide.md"]
    shown = run("show", "raw_documents", "--as-of", str(versions[0]), "--where", "source=docs")
    assert "nothing" not in shown["rows"][0]["content"]

    stale = reasons(instance, settings)
    restored = run("restore", "raw_documents", str(versions[0]))["restored"]
    assert restored[0]["held"] and restored[0]["version"] == versions[1] + 1
    after = reasons(instance, settings)
    assert after.keys() - stale.keys() == {"clean_documents"}, (stale, after)
    rebuilt = made(settings, instance)
    assert rebuilt["raw_documents"]["table_version"] == restored[0]["version"]
    text = Lake(settings.lake).read("clean_documents").to_pylist()[0]["text"]
    assert "nothing" not in text
    assert reasons(instance, settings) == stale

    run("follow", "raw_documents")
    assert reasons(instance, settings)["raw_documents"].startswith("was held")
    run("restore", "raw_documents", str(versions[0]))
    assert reasons(instance, settings) == stale, "held again, before any build"
    run("follow", "raw_documents")
    made(settings, instance)
    text = Lake(settings.lake).read("clean_documents").to_pylist()[0]["text"]
    assert "nothing" in text
    assert reasons(instance, settings) == stale

    # While a build runs, nothing is put back.
    import builds
    from definitions import defs

    instance.create_run_for_job(
        defs.resolve_job_def("build"), status=dg.DagsterRunStatus.STARTED,
        tags={"headwater/machine": "all"},
    )  # fmt: skip
    with pytest.raises(HeadwaterError, match="is at work"):
        builds.restore(settings, {"raw_documents": 1}, why="test")
    assert "at work" in run("restore", "raw_documents", "1", code=1)["error"]
    assert "mend" in run("restore", "requests", "0", code=1)
    assert "mend" in run("restore", code=1)
    assert run("vacuum", "--retain", "0", "--dry-run")["freed_bytes"] > 0
