"""What must hold of the project as it is written, before any data is read."""

import importlib.util
from typing import Any

import pyarrow as pa
import pytest

from headwater.tables import SCHEMAS
from tests.warehouse.conftest import PROJECT


@pytest.fixture(scope="module")
def manifest(invoke: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result = invoke(tmp_path_factory.mktemp("nowhere"), "parse")
    assert result.success, result.exception
    return dict(result.result.to_dict(omit_none=False))


def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    nodes = manifest["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "model"}


def duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        fields = [f'"{field.name}" {duckdb_type(field.type)}' for field in kind]
        return f"struct({', '.join(fields)})"
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    names = {
        pa.string(): "varchar", pa.large_string(): "varchar", pa.int64(): "bigint",
        pa.large_binary(): "blob", pa.float64(): "double", pa.bool_(): "boolean",
        pa.timestamp("us", tz="UTC"): "timestamp with time zone",
    }  # fmt: skip
    return names[kind]


def test_sources_are_declared_as_the_lake_has_them(manifest: dict[str, Any]) -> None:
    sources = {source["name"]: source for source in manifest["sources"].values()}
    assert set(sources) == {
        "raw_documents", "clean_documents", "duplicates", "document_shards", "quarantine",
        "requests", "feedback",
    }  # fmt: skip
    for name, source in sources.items():
        declared = {column["name"]: column["data_type"] for column in source["columns"].values()}
        assert declared == {field.name: duckdb_type(field.type) for field in SCHEMAS[name]}, name


def test_sources_are_the_assets_of_the_lake(manifest: dict[str, Any]) -> None:
    for source in manifest["sources"].values():
        assert source["meta"]["dagster"]["asset_key"] == [source["name"]]
        assert source["meta"]["delta_table_path"].endswith(f"/lake/{source['name']}")


def test_every_model_and_column_is_described_and_under_contract(manifest: dict[str, Any]) -> None:
    for name, model in models(manifest).items():
        assert model["description"], name
        assert model["config"]["contract"]["enforced"], name
        assert model["config"]["materialized"] in ("parquet", "incremental"), name
        assert all(column["description"] for column in model["columns"].values()), name


def test_incremental_models_are_kept_by_day_and_tested_in_both_branches(
    manifest: dict[str, Any],
) -> None:
    found = {
        name: model
        for name, model in models(manifest).items()
        if model["config"]["materialized"] == "incremental"
    }
    assert set(found) == {"stg_requests", "int_requests_seen", "requests_by_release_day"}
    for name, model in found.items():
        config = model["config"]
        assert config["database"] == "kept", name
        assert (config["unique_key"], config["on_schema_change"]) == ("day", "fail"), name
        assert len(model["depends_on"]["nodes"]) == 1, name  # whose days are compared
        branches = {
            test["overrides"]["macros"]["is_incremental"]
            for test in manifest["unit_tests"].values()
            if test["model"] == name
        }
        assert branches == {True, False}, name


def test_every_model_has_a_data_test(manifest: dict[str, Any]) -> None:
    tested = {
        node["attached_node"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
    }
    assert {model["unique_id"] for model in models(manifest).values()} <= tested


def test_marts_read_no_source(manifest: dict[str, Any]) -> None:
    for name, model in models(manifest).items():
        reads_lake = any(parent.startswith("source.") for parent in model["depends_on"]["nodes"])
        assert reads_lake == name.startswith("stg_"), name


def test_project_holds_no_python() -> None:
    """dbt imports every top-level module called dbt_* as a plugin."""
    assert list(PROJECT.rglob("*.py")) == []


def test_everything_that_computes_has_a_unit_test(manifest: dict[str, Any]) -> None:
    tested = {test["model"] for test in manifest["unit_tests"].values()}
    computing = {name for name in models(manifest) if not name.startswith("stg_")} - {"days"}
    assert computing <= tested


def test_exposures_name_assets_and_commands_that_exist(manifest: dict[str, Any]) -> None:
    exposures = {each["name"]: each for each in manifest["exposures"].values()}
    assert {"endpoint", "drift_report", "ab_report", "headwater_metrics"} <= set(exposures)
    assert all(each["owner"]["name"].startswith("team:") for each in exposures.values())


def test_the_metrics_exposure_reads_what_the_metrics_read(manifest: dict[str, Any]) -> None:
    [exposure] = [e for e in manifest["exposures"].values() if e["name"] == "headwater_metrics"]
    read = {each["depends_on"]["nodes"][0] for each in manifest["semantic_models"].values()}
    assert set(exposure["depends_on"]["nodes"]) == read


def test_the_lineage_pictures_show_the_project_as_it_is(manifest: dict[str, Any]) -> None:
    spec = importlib.util.spec_from_file_location("lineage", PROJECT.parent / "scripts/lineage.py")
    assert spec and spec.loader
    lineage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lineage)
    for path, content in lineage.pictures(manifest).items():
        assert path.read_text("utf-8") == content, f"{path.name} is old: run `make lineage`"
