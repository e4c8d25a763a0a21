"""Metrics: dbt's definitions, compiled and counted over marts that dbt has built."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from headwater.cli import app
from headwater.errors import HeadwaterError
from headwater.settings import Settings
from headwater.warehouse.metrics import ask, metrics
from tests.warehouse.conftest import Warehouse, chunk, document, feedback, raw, request

TODAY = datetime.now(UTC)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, invoke: Callable[..., Any]) -> Settings:
    """A home whose marts hold two days of requests: four hundred days ago, and today."""
    home = tmp_path_factory.mktemp("metrics")
    made = Warehouse(home, invoke)
    made.lake.ensure()
    (home / "warehouse").mkdir()
    made.write("raw_documents", raw("a"), raw("b"), raw("d"), raw("e"))
    made.write("clean_documents", document("a"), document("b"))
    turned_away = {"source": "docs", "shard": "00", "stage": "clean", "input_digest": "i"}
    made.write("quarantine", {"uri": "d", "reason": "empty", "detail": "no text", **turned_away})
    made.write("document_shards", chunk("a", 0, "x"), chunk("a", 1, "y"), chunk("b", 0, "x"))
    for at, rows in {
        TODAY - timedelta(days=400): [request("t1", ms=10), request("t2", refused=True, ms=30)],
        TODAY: [request("t3", ms=100), request("t4", ms=200), request("t5", status="error")],
    }.items():
        day = at.date().isoformat()
        made.write("requests", *[{**row, "day": day, "time": at} for row in rows], key=day)
    made.write(
        "feedback", feedback("f1", "t1", thumb="up"), feedback("f2", "t3", thumb="down"),
        feedback("f3", "t4", thumb="up"), key="2026-01-02",
    )  # fmt: skip
    assert made.dbt("run").success
    return Settings(home=home)


def value(settings: Settings, name: str, **asked: Any) -> Any:
    [row] = ask(settings, name, **asked)
    return row["value"]


def by(settings: Settings, name: str, dimension: str, **asked: Any) -> dict[Any, Any]:
    return {row["key"]: row["value"] for row in ask(settings, name, by=dimension, **asked)}


def test_each_metric_that_is_defined_can_be_asked(settings: Settings) -> None:
    of_a_model = {metric.model: name for name, metric in metrics().items()}
    for name, metric in metrics().items():
        assert value(settings, name) is not None, name
        if name in of_a_model.values():
            for dimension in [*metric.dimensions, "month"]:
                assert ask(settings, name, by=dimension)


def test_they_count_what_the_marts_hold(settings: Settings) -> None:
    assert value(settings, "documents") == 4
    assert value(settings, "quarantined_share") == 0.25
    assert by(settings, "documents", "status") == {"indexed": 2, "quarantined": 1, "waiting": 1}
    assert value(settings, "distinct_text_share") == pytest.approx(2 / 3)
    assert value(settings, "requests") == 5
    assert value(settings, "refused_share") == 0.2
    assert value(settings, "unfinished_share") == 0.2
    assert value(settings, "thumb_up_share") == pytest.approx(2 / 3)
    assert value(settings, "cost_per_request") == pytest.approx(0.35 / 5)
    assert by(settings, "citations", "source") == {"docs": 10}
    assert value(settings, "request_tokens") == 5 * (7 + 3)
    assert value(settings, "tokens_per_request") == 10
    assert value(settings, "seconds_per_request") == pytest.approx(0.35 / 5)
    assert by(settings, "completion_tokens", "outcome")["answered"] == 9


def test_a_percentile_is_of_the_requests_not_of_the_days(settings: Settings) -> None:
    assert value(settings, "total_ms_p50") == 30
    assert by(settings, "total_ms_p50", "outcome") == {
        "answered": 100, "refused": 30, "unfinished": 10
    }  # fmt: skip


def test_since_and_grain_go_by_the_day_of_the_request(settings: Settings) -> None:
    assert value(settings, "requests", since=1) == 3
    assert value(settings, "thumb_up_share", since=30) == 0.5
    old = TODAY.date() - timedelta(days=400)
    assert by(settings, "requests", "day") == {old: 2, TODAY.date(): 3}
    assert by(settings, "requests", "year", since=800) == {
        date(day.year, 1, 1): count for day, count in {old: 2, TODAY.date(): 3}.items()
    }
    assert value(settings, "documents", since=1) == 4  # the corpus is as it is today


def test_a_share_of_nothing_is_nothing(settings: Settings) -> None:
    file = settings.warehouse / "int_requests_seen.parquet"
    never = metrics()["refused_share"].sql(file, by=None, since="2999-01-01")
    assert duckdb.sql(never).fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("nonsense", {}, "no metric 'nonsense'"),
        ("requests", {"by": "language"}, "broken down by 'language'"),
    ],
)
def test_what_is_not_defined_is_said(
    settings: Settings, name: str, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(HeadwaterError, match=said):
        ask(settings, name, **asked)


def test_without_its_mart_the_mend_is_a_build(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="headwater build"):
        ask(Settings(home=tmp_path), "documents")


MODEL = """
semantic_models:
  - name: one
    model: ref('documents')
    defaults: {agg_time_dimension: as_of}
    dimensions: [{name: as_of, type: time, expr: current_date}]
    measures: [{name: m, agg: %s, expr: uri}]
metrics:
  - {name: m, label: M, description: M., type: simple, type_params: {measure: m}}
  - {name: x, label: X, description: X., %s}
"""


@pytest.mark.parametrize(
    ("aggregation", "metric", "said"),
    [
        ("count", "type: derived, type_params: {expr: m}", "type is derived"),
        ("count", "type: simple, filter: a, type_params: {measure: m}", "it has filter"),
        ("count", "type: simple, type_params: {measure: {name: m}}", "it has measure"),
        ("count", "type: simple, type_params: {measure: n}", "names the measure 'n'"),
        ("sum_boolean", "type: simple, type_params: {measure: m}", "is a sum_boolean"),
    ],
)
def test_kinds_that_are_not_compiled_are_refused(
    tmp_path: Path, aggregation: str, metric: str, said: str
) -> None:
    (tmp_path / "m.yml").write_text(MODEL % (aggregation, metric))
    with pytest.raises(HeadwaterError, match=said):
        metrics(tmp_path)


def test_the_command_prints_one_object(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(settings.home))
    one = CliRunner().invoke(app, ["metrics", "requests", "--by", "outcome", "--json"])
    assert json.loads(one.stdout.splitlines()[-1])["rows"] == [
        {"key": "answered", "value": 3},
        {"key": "refused", "value": 1},
        {"key": "unfinished", "value": 1},
    ]
    every = CliRunner().invoke(app, ["metrics", "--json"])
    found = json.loads(every.stdout.splitlines()[-1])["metrics"]
    assert {each["metric"] for each in found} == set(metrics())
    assert CliRunner().invoke(app, ["metrics", "--by", "day"]).exit_code == 1
