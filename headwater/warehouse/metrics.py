"""Metrics of the warehouse: the definitions in dbt's YAML, compiled to SQL over the marts' files.

Knows simple and ratio metrics within one semantic model, as `dbt_project/models/metrics` uses them;
joins, filters, derived and cumulative metrics it refuses. Knows neither dbt nor what a mart means.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from headwater.errors import HeadwaterError
from headwater.settings import Settings

DEFINITIONS = Path(__file__).parents[2] / "dbt_project" / "models" / "metrics"
#: Grains that the time of a metric can be cut to; the words are reserved in dbt, so that no
#: dimension has one of these names.
GRAINS = ("day", "week", "month", "quarter", "year")
_AGGREGATIONS = {
    "count": "count({0})",
    "count_distinct": "count(distinct {0})",
    "sum": "sum({0})",
    "average": "avg({0})",
    "min": "min({0})",
    "max": "max({0})",
    "median": "quantile_cont({0}, 0.5)",
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric, ready to be asked."""

    name: str
    label: str
    description: str
    #: The dbt model that it reads, and SQL of its value within a group.
    model: str
    value: str
    #: SQL of the day that a row belongs to.
    time: str
    #: SQL of what it can be broken down by.
    dimensions: Mapping[str, str]

    def sql(self, file: Path, *, by: str | None, since: str | None) -> str:
        """The query over a mart's file; one row, or one a value of `by`."""
        where = f" where {self.time} >= date '{since}'" if since else ""
        source = f"from read_parquet({_quoted(file)}){where}"
        if by is None:
            return f"select {self.value} as value {source}"
        return (
            f"select {self._group(by)} as key, {self.value} as value {source} group by 1 order by 1"
        )

    def _group(self, by: str) -> str:
        if by in GRAINS:
            return f"cast(date_trunc('{by}', {self.time}) as date)"
        if by not in self.dimensions:
            known = ", ".join([*self.dimensions, *GRAINS])
            raise HeadwaterError(
                f"The metric {self.name} cannot be broken down by {by!r}.",
                mend=f"It can by {known}.",
            )
        return self.dimensions[by]


def metrics(folder: Path = DEFINITIONS) -> dict[str, Metric]:
    """All metrics that the YAML below `folder` defines, by name.

    Raises:
        HeadwaterError: a definition is of a kind that is not compiled here.
    """
    return dict(_metrics(folder))


def ask(
    settings: Settings,
    name: str,
    *,
    by: str | None = None,
    since: int | None = None,
    folder: Path = DEFINITIONS,
) -> list[dict[str, Any]]:
    """Rows with `value`, and with `key` where it is broken down; nulls where there is nothing.

    Args:
        by: a dimension of the metric, or a grain of its time.
        since: how many days to look at, today (UTC) being one.

    Raises:
        HeadwaterError: no such metric or dimension, or its mart has not been made.
    """
    import duckdb

    known = metrics(folder)
    if name not in known:
        raise HeadwaterError(
            f"There is no metric {name!r}.", mend="`headwater metrics` lists those there are."
        )
    metric = known[name]
    file = settings.warehouse / f"{metric.model}.parquet"
    if not file.exists():
        raise HeadwaterError(
            f"The model {metric.model}, which {name} is counted from, has not been made.",
            mend="Run `headwater build`.",
        )
    first = None
    if since is not None:
        first = (datetime.now(UTC).date() - timedelta(days=since - 1)).isoformat()
    with duckdb.connect(":memory:") as connection:
        connection.execute("set TimeZone = 'UTC'")
        found = connection.execute(metric.sql(file, by=by, since=first))
        columns = [column[0] for column in found.description or []]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


@cache
def _metrics(folder: Path) -> tuple[tuple[str, Metric], ...]:
    models: list[dict[str, Any]] = []
    declared: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.yml")):
        content = yaml.safe_load(file.read_text("utf-8"))
        models += content.get("semantic_models", [])
        declared += content.get("metrics", [])
    measured = {measure["name"]: model for model in models for measure in model["measures"]}
    by_name = {metric["name"]: metric for metric in declared}
    return tuple((name, _metric(metric, by_name, measured)) for name, metric in by_name.items())


def _metric(
    declared: Mapping[str, Any],
    by_name: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
) -> Metric:
    name, parameters = declared["name"], declared["type_params"]
    if declared["type"] == "simple":
        measure = _only(declared, parameters, ["measure"])[0]
        model = _known(name, "measure", measure, measured)
        value = _aggregate(name, next(m for m in model["measures"] if m["name"] == measure))
    elif declared["type"] == "ratio":
        parts = [
            _metric(_known(name, "metric", part, by_name), by_name, measured)
            for part in _only(declared, parameters, ["numerator", "denominator"])
        ]
        model = _of_one_model(name, parts, by_name, measured)
        value = f"cast({parts[0].value} as double) / nullif({parts[1].value}, 0)"
    else:
        raise _refused(name, f"its type is {declared['type']}")
    times = {
        each["name"]: each.get("expr", each["name"])
        for each in model["dimensions"]
        if each["type"] == "time"
    }
    return Metric(
        name=name,
        label=declared["label"],
        description=declared["description"],
        model=_model_name(model["model"]),
        value=value,
        time=times[model["defaults"]["agg_time_dimension"]],
        dimensions={
            each["name"]: each.get("expr", each["name"])
            for each in model["dimensions"]
            if each["type"] == "categorical"
        },
    )


def _only(
    declared: Mapping[str, Any], parameters: Mapping[str, Any], wanted: Sequence[str]
) -> list[str]:
    """The named parameters of a metric, which must be plain names and all that there is."""
    more = [*(set(parameters) - set(wanted)), *({"filter", "time_granularity"} & set(declared))]
    more += [key for key in wanted if not isinstance(parameters.get(key), str)]
    if more:
        raise _refused(declared["name"], f"it has {', '.join(sorted(more))} beyond plain names")
    return [parameters[key] for key in wanted]


def _aggregate(metric: str, measure: Mapping[str, Any]) -> str:
    expression = f"({measure.get('expr', measure['name'])})"
    if "non_additive_dimension" in measure or "agg_time_dimension" in measure:
        raise _refused(metric, f"its measure {measure['name']} has a time of its own")
    if measure["agg"] == "percentile":
        parameters = measure["agg_params"]
        kind = "disc" if parameters.get("use_discrete_percentile") else "cont"
        return f"quantile_{kind}({expression}, {float(parameters['percentile'])})"
    if measure["agg"] not in _AGGREGATIONS:
        raise _refused(metric, f"its measure {measure['name']} is a {measure['agg']}")
    return _AGGREGATIONS[measure["agg"]].format(expression)


def _of_one_model(
    name: str,
    parts: Sequence[Metric],
    by_name: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
) -> Mapping[str, Any]:
    """The semantic model that both parts of a ratio are measured in."""
    types = {by_name[part.name]["type"] for part in parts}
    if types != {"simple"}:
        raise _refused(name, "its parts are not simple metrics")
    first, second = (measured[by_name[part.name]["type_params"]["measure"]] for part in parts)
    if first is not second:
        raise _refused(name, f"its parts are of two models, {first['name']} and {second['name']}")
    return first


def _known(
    metric: str, kind: str, name: str, among: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    if name not in among:
        raise HeadwaterError(
            f"The metric {metric} names the {kind} {name!r}, which is not defined.",
            mend=f"Define it below {DEFINITIONS.name}/, or mend the name.",
        )
    return among[name]


def _model_name(reference: str) -> str:
    found = re.fullmatch(r"ref\(['\"](\w+)['\"]\)", reference.strip())
    if found is None:
        raise HeadwaterError(
            f"A semantic model reads {reference!r}.", mend="Write it as ref('NAME')."
        )
    return found[1]


def _refused(metric: str, why: str) -> HeadwaterError:
    return HeadwaterError(
        f"The metric {metric} cannot be computed: {why}.",
        mend="Define it as a simple metric, or as a ratio of two of the same semantic model.",
    )


def _quoted(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"
