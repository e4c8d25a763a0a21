"""Drift is seen where it is made, and only there."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.lake import Lake
from headwater.monitoring.drift import TOPICS, DriftPolicy, drift_report
from headwater.settings import Settings
from tests.monitoring.conftest import WordEncoder, ask, log_requests, release_with

POLICY = DriftPolicy(reference_requests=80, current_requests=80, minimum_requests=40)


@pytest.fixture
def encode() -> WordEncoder:
    return WordEncoder()


def test_reference_is_the_first_window(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    lake.ensure()
    empty = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (empty.status, empty.current_requests) == ("no_reference", 0)
    log_requests(lake, ask(release, 79))
    assert drift_report(lake, settings, encode=encode, policy=POLICY).status == "no_reference"
    log_requests(lake, ask(release, 100))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.reference_requests, report.current_requests) == (
        "not_enough",
        80,
        20,
    )
    assert report.html_path is None
    assert encode.calls == 0


def test_more_of_the_same_is_no_drift(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 160))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.share) == ("ok", 0.0)
    assert set(report.panels) == {
        "question_characters", "answer_characters", "top_score", "documents_cited", "refused",
        TOPICS,
    }  # fmt: skip


def test_other_topics_are_drift(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 80))
    log_requests(lake, ask(release, 80, topic="garden", day="2026-01-03"))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert report.status == "drift"
    assert report.panels[TOPICS].score > 0.95
    assert report.rows()[0]["drifted"]
    assert len(report.examples) == 5
    assert all("2026-01-03" in example["trace"] for example in report.examples)


def test_other_answers_are_a_panel_not_yet_a_drift(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 80))
    log_requests(lake, ask(release, 80, day="2026-01-03", answer_words=30))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    drifted = [name for name, panel in report.panels.items() if panel.drifted]
    assert (report.status, drifted) == ("ok", ["answer_characters"])
    strict = drift_report(lake, settings, encode=encode, policy=replace(POLICY, panels=1))
    assert strict.status == "drift"


def test_same_windows_give_the_same_report_without_work(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 160))
    first = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert drift_report(lake, settings, encode=encode, policy=POLICY) == first
    assert encode.calls == 1
    assert first.html_path is not None
    assert (first.html_path.parent / "evidently.html").stat().st_size > 10_000


def test_new_adapter_starts_a_new_reference(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    """After the retraining that drift asked for, the same questions are what is expected."""
    old, new = release_with(settings, "adapter-1"), release_with(settings, "adapter-2")
    log_requests(lake, ask(old, 80))
    log_requests(lake, ask(old, 80, topic="garden", day="2026-01-03"))
    before = drift_report(lake, settings, encode=encode, policy=POLICY)
    log_requests(lake, ask(new, 130, topic="garden", day="2026-01-04"))
    after = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (before.status, after.status) == ("drift", "ok")
    assert after.current_requests == 50
    assert before.reference != after.reference


def test_new_release_of_the_same_adapter_keeps_the_reference(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    first = release_with(settings, "adapter-1", prompt="one")
    second = release_with(settings, "adapter-1", prompt="two")
    log_requests(lake, ask(first, 80))
    log_requests(lake, ask(second, 60, day="2026-01-03"))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.current_requests) == ("ok", 60)


def test_failed_requests_and_unknown_releases_do_not_count(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    rows = ask(release, 80) + ask(release, 80, first=80, status="error")
    log_requests(lake, rows + ask("gone", 80, first=200))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.current_requests) == ("not_enough", 0)


def test_one_question_over_and_over_is_not_told_apart_by_heart(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    """Equal questions share a fold; with too few different ones there is no topics panel."""
    release = release_with(settings, "adapter-1")
    rows = ask(release, 160)
    for row in rows[80:]:
        row["question"] = rows[0]["question"]
    log_requests(lake, rows)
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert TOPICS not in report.panels


def test_page_shows_questions_as_text(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    rows = ask(release, 80) + ask(release, 80, first=80, topic="garden")
    for row in rows[80:]:
        row["question"] += " <script>alert(1)</script>"
    log_requests(lake, rows)
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert report.html_path is not None
    page = report.html_path.read_text("utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_import_brings_no_heavy_library(tmp_path: Path) -> None:
    code = """
import sys
import headwater.monitoring.drift, headwater.monitoring.alerts, headwater.monitoring.requests
heavy = {"evidently", "sklearn", "torch", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
