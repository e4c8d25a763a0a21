"""dbt in process: the project's manifest, and builds whose events become Dagster's.

dagster-dbt's own resource starts a `dbt` process for each run (six seconds and more) and cannot
read the columns of an in-memory DuckDB; here dbt runs warm in this process, and column lineage
comes from the contracts in the manifest.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject
from dagster_dbt.asset_utils import get_updated_cli_invocation_params_for_context
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from headwater.errors import HeadwaterError
from headwater.files import write_atomic
from headwater.lake import Lake
from headwater.records import digest_file, digest_of
from headwater.settings import Settings, quiet_libraries

PROJECT = DbtProject(Path(__file__).parents[1] / "dbt_project")
#: What dbt keeps of a parsed project; a run that finds it, and no changed file, parses nothing.
_PARSED = "partial_parse.msgpack"


def run_dbt(
    args: Sequence[str], home: Path, target: Path, listen: Callable[[Any], None] | None = None
) -> Any:
    """One dbt command in process; returns dbt's result. One at a time: dbt's state is global."""
    quiet_libraries()
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    os.environ["HEADWATER_HOME"] = str(home)  # absolute; dbt reads it by env_var()
    folder = str(PROJECT.project_dir)
    try:
        return dbtRunner(callbacks=[listen] if listen else []).invoke(
            [*args, "--project-dir", folder, "--profiles-dir", folder, "--target-path", str(target),
             "--log-path", str(target), "--log-level", "none"]  # nothing on standard output
        )  # fmt: skip
    finally:
        # dbt keeps its database, and with it the file of the incremental models, for a next command.
        if DuckDBConnectionManager._ENV is not None:
            DuckDBConnectionManager.env().close()
        DuckDBConnectionManager.close_all_connections()


@cache
def manifest() -> Path:
    """manifest.json of the project as it is now: parsed again only when a file has changed.

    What dbt keeps of the parse is laid where `build` finds it: one parse serves both.
    """
    settings = Settings()
    files = sorted(
        p
        for s in ("*.yml", "*.sql")
        for p in PROJECT.project_dir.rglob(s)
        if "target" not in p.relative_to(PROJECT.project_dir).parts
    )
    name = digest_of([[str(p.relative_to(PROJECT.project_dir)), digest_file(p)] for p in files])
    path = settings.cache / "dbt" / f"manifest-{name[:12]}.json"
    if not path.exists():
        # Processes of several containers may share the folder, and each is the first of its own.
        target = settings.cache / "dbt" / f"parse-{uuid4().hex}"
        result = run_dbt(["parse"], settings.root, target)
        if not result.success:
            raise HeadwaterError(
                f"dbt cannot parse the project: {result.exception}",
                mend="Run `dbt parse --project-dir dbt_project`.",
            )
        write_atomic(_target(settings) / _PARSED, (target / _PARSED).read_bytes())
        write_atomic(path, (target / "manifest.json").read_bytes())
        shutil.rmtree(target)
    return path


def _target(settings: Settings) -> Path:
    return settings.cache / "dbt" / "target"


def build(context: Any, settings: Settings) -> Iterator[Any]:
    """`dbt build` of what is selected, as Dagster's events, with columns and their lineage.

    Without unit tests: they judge the project's code, not today's rows, and run with `dbt build` by
    hand and in the test suite.
    """
    from google.protobuf.json_format import MessageToDict

    params = get_updated_cli_invocation_params_for_context(
        context=context,
        manifest={},
        dagster_dbt_translator=DagsterDbtTranslator(),
        runtime_selects=[],
        runtime_excludes=[],
    )  # takes manifest and translator from @dbt_assets, and the subset's --select
    target = _target(settings)
    settings.warehouse.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []

    def listen(event: Any) -> None:
        name = event.info.name
        if name in ("LogModelResult", "LogTestResult"):
            results.append(MessageToDict(event, preserving_proto_field_name=True))
        elif event.info.level == "error":
            context.log.error(event.info.msg)
        elif name == "JinjaLogInfo":  # what an incremental model reads again
            context.log.info(event.info.msg)
        elif name == "AdapterEventWarning":
            context.log.warning(event.info.msg)

    args = ["build", *params.selection_args, "--exclude-resource-type", "unit_test"]
    if params.indirect_selection:
        args += ["--indirect-selection", params.indirect_selection]
    read = _lake_versions(settings, params.manifest)
    outcome = run_dbt(args, settings.root, target, listen)
    for table, version in _lake_versions(settings, params.manifest).items():
        if version != read.get(table):
            context.log.warning(
                f"{table} went from version {read.get(table)} to {version} while dbt read it: models"
                " may hold rows of both until the next build."
            )
    for event, node in _events(context, params, results, target):
        yield _with_versions(event, settings, params.manifest, node, read)
    broken = [str(outcome.exception)] if outcome.exception else []
    broken += [
        " ".join(result.message.split())  # dbt breaks and indents its lines
        for result in getattr(outcome.result, "results", [])
        if result.status == "error"
    ]
    if broken:
        raise HeadwaterError(
            f"dbt build failed: {'; '.join(broken)}", mend=f"{target}/dbt.log has it all."
        )


def _events(
    context: Any, params: Any, results: list[dict[str, Any]], target: Path
) -> Iterator[tuple[Any, str]]:
    """Dagster's events for what dbt did, each with the unique id of its node."""
    for raw in results:
        node = raw["data"]["node_info"]["unique_id"]
        for event in DbtCoreCliEventMessage(
            raw_event=raw, event_history_metadata=_columns(params.manifest, node)
        ).to_default_asset_events(
            manifest=params.manifest,
            dagster_dbt_translator=params.dagster_dbt_translator,
            context=context,
            target_path=target,
            project=PROJECT,
        ):
            yield event, node


def _with_versions(
    event: Any,
    settings: Settings,
    manifest: Mapping[str, Any],
    node: str,
    read: Mapping[str, int | None],
) -> Any:
    """A model's data version is the digest of its file: equal rows are written as equal bytes.

    With it go the versions of the lake's tables that its rows come from, through whatever models.
    """
    if not isinstance(event, dg.Output):
        return event
    version = digest_file(settings.warehouse / f"{manifest['nodes'][node]['alias']}.parquet")
    tables = {table: read[table] for table in _tables_below(manifest, node)}
    return dg.Output(
        None,
        output_name=event.output_name,
        metadata={**event.metadata, "tables_read": dg.MetadataValue.json(tables)},
        data_version=dg.DataVersion(version),
    )


def _lake_versions(settings: Settings, manifest: Mapping[str, Any]) -> dict[str, int | None]:
    """The version of each table of the lake that the project reads."""
    lake = Lake(settings.lake)
    return {source["name"]: lake.version(source["name"]) for source in manifest["sources"].values()}


def _tables_below(manifest: Mapping[str, Any], unique_id: str) -> list[str]:
    """Tables of the lake that a model reads, itself or by the models it is made of."""
    if unique_id in manifest["sources"]:
        return [manifest["sources"][unique_id]["name"]]
    parents = manifest["nodes"][unique_id]["depends_on"]["nodes"]
    return sorted({table for parent in parents for table in _tables_below(manifest, parent)})


def _columns(manifest: Mapping[str, Any], unique_id: str) -> dict[str, Any]:
    """Declared columns of a model and its parents: what dagster-dbt makes column lineage of.

    The contracts hold them; dagster-dbt's own `fetch_column_metadata` would open `:memory:` anew.
    """
    if not unique_id.startswith("model."):
        return {}
    nodes = manifest["nodes"] | manifest["sources"]
    node = nodes[unique_id]
    parents = [nodes[parent] for parent in node["depends_on"]["nodes"]]
    return {
        "columns": node["columns"],
        "parents": {p["relation_name"]: {"columns": p["columns"]} for p in parents},
    }
