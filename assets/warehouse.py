"""Group `warehouse`: the dbt models over the lake, their tests as asset checks."""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, dbt_assets

from assets.policies import DBT_POOL, on_change, version
from headwater.settings import Settings
from resources.warehouse import PROJECT, build, manifest


class _Translator(DagsterDbtTranslator):
    """Models follow their inputs like every other asset.

    Args:
        parsed: the project's manifest.
    """

    def __init__(self, parsed: Mapping[str, Any]) -> None:
        super().__init__()
        own = f"macro.{parsed['metadata']['project_name']}."
        self._macros = {
            name: macro for name, macro in parsed["macros"].items() if name.startswith(own)
        }

    def get_automation_condition(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.AutomationCondition | None:
        return on_change

    def get_code_version(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """A model's SQL and our macros in it, the types it promises, and how it is kept; prose and
        tests change nothing.
        """
        if dbt_resource_props["resource_type"] != "model":
            return None  # a source's version is its asset's own
        columns = dbt_resource_props["columns"].values()
        return version(
            "dbt",
            dbt_resource_props["raw_code"],
            [[column["name"], column["data_type"]] for column in columns],
            dbt_resource_props["config"]["materialized"],
            self._macros_of(dbt_resource_props),
        )

    def _macros_of(self, model: Mapping[str, Any]) -> list[str]:
        """SQL of our own macros that a model is made with, and of those that they call."""
        made_by = f"materialization_{model['config']['materialized']}_"
        waiting = [name for name in self._macros if name.rpartition(".")[2].startswith(made_by)]
        waiting += model["depends_on"]["macros"]
        found: dict[str, str] = {}
        while waiting:
            name = waiting.pop()
            if name in self._macros and name not in found:
                found[name] = self._macros[name]["macro_sql"]
                waiting += self._macros[name]["depends_on"]["macros"]
        return [found[name] for name in sorted(found)]


_parsed = json.loads(manifest().read_bytes())


@dbt_assets(
    manifest=_parsed,
    project=PROJECT,
    pool=DBT_POOL,
    name="warehouse",
    dagster_dbt_translator=_Translator(_parsed),
    # Nothing that serves waits for the marts, so in one run they come last.
    op_tags={"dagster/priority": "-1"},
)
def warehouse(context: dg.AssetExecutionContext) -> Any:
    """Staging and marts for documents, chunks and requests, as Parquet that everyone reads."""
    yield from build(context, Settings())
