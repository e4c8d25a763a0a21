"""The models as Dagster's assets: what an edit makes stale, where columns come from, one parse."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg

from tests.warehouse.conftest import PROJECT, Warehouse
from tests.warehouse.test_build import fill

#: What each process of an installation does with the models, and what it says of it.
LOAD = """
import json, sys
from pathlib import Path
from resources import warehouse
from headwater.settings import Settings

parsed = []
run_dbt = warehouse.run_dbt

def spy(args, home, target, listen=None):
    def hear(event):
        if event.info.name in ("UnableToPartialParse", "ParsedFileLoadFailed"):
            parsed.append(f"{args[0]}: {event.info.msg}")
        if listen:
            listen(event)
    parsed.append(args[0])
    return run_dbt(args, home, target, hear)

warehouse.run_dbt = spy
path = warehouse.manifest()
at_load = list(parsed)
imported = "dbt.cli.main" in sys.modules
columns, read, result = {}, {}, None
if sys.argv[1:]:
    import dagster as dg
    from assets.warehouse import warehouse as assets

    result = dg.materialize([assets], raise_on_error=False, run_config={
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}})
    for event in result.get_asset_materialization_events():
        tables = event.materialization.metadata["tables_read"].value
        read[event.asset_key.to_user_string()] = tables
        found = event.materialization.metadata["dagster/column_lineage"].value.deps_by_column
        columns[event.asset_key.to_user_string()] = {
            name: sorted(f"{each.asset_key.to_user_string()}.{each.column_name}" for each in deps)
            for name, deps in found.items()
        }
print(json.dumps({"at_load": at_load, "imported": imported, "all": parsed, "columns": columns, "read": read,
                  "success": result.success if result else None}))
"""


def load(home: Path, *run: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *run],
        env=os.environ | {"HEADWATER_HOME": str(home)},
        cwd=PROJECT.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_project_is_parsed_once_and_columns_have_their_origin(warehouse: Warehouse) -> None:
    fill(warehouse)
    first = load(warehouse.home, "build")
    assert first["success"]
    # The parse of the first load is the last one: the build finds it.
    assert first["at_load"][0] == "parse"
    assert first["all"][len(first["at_load"]) :] == ["build"]
    again = load(warehouse.home)
    assert (again["all"], again["imported"]) == ([], False)

    columns = first["columns"]
    assert columns["stg_chunks"]["characters"] == ["document_shards.text"]
    assert columns["int_requests_seen"]["outcome"] == [
        "stg_requests.refused",
        "stg_requests.status",
    ]
    assert columns["requests_by_release_day"]["answered"] == ["int_requests_seen.outcome"]
    assert columns["chunks"]["title"] == ["stg_clean_documents.title"]

    # A model names the tables that its rows come from, through the models it is made of.
    now = {name: warehouse.lake.version(name) for name in ("clean_documents", "document_shards")}
    assert first["read"]["chunks"] == now
    assert first["read"]["stg_chunks"] == {"document_shards": now["document_shards"]}
    assert set(first["read"]["requests_by_release_day"]) == {"requests"}


def versions(manifest: dict[str, Any]) -> dict[str, str]:
    from dagster_dbt import dbt_assets

    from assets.warehouse import _Translator

    @dbt_assets(manifest=manifest, dagster_dbt_translator=_Translator(manifest))
    def models(context: dg.AssetExecutionContext) -> Any:
        yield

    return {key.to_user_string(): str(v) for key, v in models.code_versions_by_key.items()}


def test_an_edit_changes_the_version_of_its_model_alone(invoke: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    before = versions(invoke(tmp_path, "parse").result.writable_manifest().to_dict())
    for file, old, new in [
        ("marts/corpus_by_source.sql", "count(distinct language)", "count(language)"),
        ("metrics/_days.yml", "data_type: date", "data_type: timestamp"),
        (
            "intermediate/_intermediate.yml",
            "data_tests: [not_null, unique]",
            "data_tests: [unique]",
        ),
        ("staging/_staging.yml", "Documents as they came in", "What came in"),
    ]:
        path = project / "models" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    after = versions(
        invoke(tmp_path, "parse", project=project).result.writable_manifest().to_dict()
    )
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"corpus_by_source", "days"}

    macro = project / "macros" / "incremental.sql"
    macro.write_text(
        macro.read_text().replace("macro keep_days() %}", "macro keep_days() %} -- new")
    )
    edited = versions(
        invoke(tmp_path, "parse", project=project).result.writable_manifest().to_dict()
    )
    assert {name for name in after if after[name] != edited[name]} == {
        "stg_requests", "int_requests_seen", "requests_by_release_day",
    }  # fmt: skip
