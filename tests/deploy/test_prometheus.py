"""Rules and dashboard: what promtool says of them, and that every metric in them exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from headwater.monitoring.exporter import metrics_text
from headwater.serving.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "headwater.rules.yml"
TESTS = DEPLOY / "prometheus" / "headwater.rules.test.yml"
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed; on Debian: apt-get install prometheus",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


@promtool
def test_the_rules_are_sound() -> None:
    for command in (("check", "rules", str(RULES)),
                    ("check", "config", str(RULES.with_name("prometheus.yml")))):  # fmt: skip
        done = run(*command)
        assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_an_incident_pages_and_ordinary_days_do_not() -> None:
    done = run("test", "rules", str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
@pytest.mark.parametrize(
    ("sound", "broken"),
    [("14.4 * (1 - 0.99)", "0.04 * (1 - 0.99)"), ("14.4 * (1 - 0.99)", "80 * (1 - 0.99)")],
    ids=["cries wolf", "never pages"],
)
def test_the_tests_of_the_rules_notice_broken_rules(
    tmp_path: Path, sound: str, broken: str
) -> None:
    (tmp_path / RULES.name).write_text(RULES.read_text().replace(sound, broken))
    tests = yaml.safe_load(TESTS.read_text())
    tests["tests"] = [t for t in tests["tests"] if "incident" in t["name"] or "days" in t["name"]]
    (tmp_path / TESTS.name).write_text(yaml.safe_dump(tests))
    assert run("test", "rules", str(tmp_path / TESTS.name)).returncode == 1


def exposed() -> set[str]:
    """Every series that the endpoint and the pipeline have, and those that the rules record."""
    pipeline = metrics_text(alerts=(), last_success={}, burn={}, undelivered={}, now=0.0)
    names = {"up"}
    for text in (Metrics().text().decode(), pipeline.decode()):
        for family in text_string_to_metric_families(text):
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            names |= {family.name + end for end in suffixes.get(family.type, [""])}
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return names | {
        rule["record"] for group in groups for rule in group["rules"] if "record" in rule
    }


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bheadwater[_:][a-z0-9_:]+|\bup\b", expression))


def test_every_metric_of_rules_and_dashboard_exists() -> None:
    board = json.loads((DEPLOY / "grafana" / "headwater.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    groups = yaml.safe_load(RULES.read_text())["groups"]
    expressions += [rule["expr"] for group in groups for rule in group["rules"]]
    asked = set().union(*(named(expression) for expression in expressions))
    assert len(asked) > 15
    assert asked <= exposed(), asked - exposed()


def test_every_panel_shows_something_and_none_lies_on_another() -> None:
    board = json.loads((DEPLOY / "grafana" / "headwater.json").read_text())
    places = set()
    for panel in board["panels"]:
        assert panel["targets"] and panel["title"]
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & places, panel["title"]
        places |= cells


def test_every_alert_has_an_owner_a_severity_and_a_runbook_that_exists() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(alerts) == 6
    for alert in alerts:
        assert alert["labels"].keys() >= {"severity", "owner"}
        assert (DEPLOY.parent / alert["annotations"]["runbook"]).is_file(), alert["alert"]
