"""Feedback and ratings over HTTP: real engine, index and encoder, logs on disk."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.homes import passages, promote
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem
from headwater.release.manifest import Release
from headwater.serving.feedback_log import log_folder
from headwater.serving.server import serve_in_thread
from headwater.settings import Settings
from tests.serving.conftest import Endpoint, copy_home, fill_lake, log_answer

SURROUNDED = "Before \N{SNOWMAN} it.\n\n"


@pytest.fixture
def endpoint(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> Iterator[Endpoint]:
    home = copy_home(origin, tmp_path)
    fill_lake(home, passages("old"), before=SURROUNDED, after=SURROUNDED)
    release = make_release(home)
    promote(home, release)
    with serve_in_thread(home) as url:
        yield Endpoint(url, home, release)


def test_feedback_on_an_answer_is_logged_with_what_answered(endpoint: Endpoint) -> None:
    trace = endpoint.ask().headers["X-Headwater-Trace"]
    reply = endpoint.post(
        "/v1/feedback", trace=trace, thumb="down", correction="  A spring. ",
        tags=["wrong fact", "wrong fact"], user="ann",
    )  # fmt: skip
    assert reply.status_code == 201
    [row] = endpoint.said()
    assert row["id"] == reply.json()["id"]
    assert (row["trace"], row["release"]) == (trace, endpoint.release.id)
    assert (row["thumb"], row["correction"], row["user"]) == ("down", "A spring.", "ann")
    assert row["tags"] == ["wrong fact"]


def test_the_same_said_twice_has_one_id_and_something_else_another(endpoint: Endpoint) -> None:
    trace = endpoint.ask().headers["X-Headwater-Trace"]

    def say(**more: Any) -> str:
        reply = endpoint.post("/v1/feedback", trace=trace, **more)
        assert reply.status_code == 201
        return str(reply.json()["id"])

    assert say(tags=["b", "a"]) == say(tags=["a", "b"])
    ids = {say(thumb="up"), say(thumb="down"), say(thumb="up", user="ann"), say(correction="up")}
    assert len(ids) == 4


@pytest.mark.parametrize(
    "body",
    [
        {"trace": "t"},
        {"trace": "t", "correction": "   "},
        {"trace": "t", "thumb": "sideways"},
        {"trace": "t", "correction": "x" * 4_001},
        {"trace": "t", "tags": ["x" * 41]},
        {"trace": "t", "tags": [str(n) for n in range(9)]},
        {"trace": "t", "tags": [""]},
        {"trace": "t", "thumb": "up", "user": "x" * 129},
        {"trace": "t", "thumb": "up", "colour": "red"},
        {"trace": "", "thumb": "up"},
        {"trace": "x" * 65, "thumb": "up"},
        {"thumb": "up"},
    ],
)
def test_feedback_out_of_bounds_is_refused(served: tuple[str, Release], body: Any) -> None:
    reply = httpx.post(f"{served[0]}/v1/feedback", json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["message"]


def test_half_a_surrogate_pair_is_refused(served: tuple[str, Release]) -> None:
    body = b'{"trace": "t", "correction": "\\ud800"}'
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{served[0]}/v1/feedback", content=body, headers=headers).status_code == 400


def test_a_form_of_a_foreign_page_is_refused(endpoint: Endpoint) -> None:
    """A page elsewhere can send text/plain without asking; JSON it cannot."""
    trace = endpoint.ask().headers["X-Headwater-Trace"]
    body = json.dumps({"trace": trace, "thumb": "up"})
    reply = httpx.post(
        f"{endpoint.url}/v1/feedback", content=body, headers={"Content-Type": "text/plain"}
    )
    assert reply.status_code == 400
    assert endpoint.said() == []


def test_an_unknown_trace_is_not_found_and_not_logged(endpoint: Endpoint) -> None:
    reply = endpoint.post("/v1/feedback", trace="f" * 32, thumb="up")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "trace_not_found")
    assert endpoint.said() == []


def test_traces_of_yesterday_and_other_processes_are_known_and_older_ones_not(
    endpoint: Endpoint,
) -> None:
    now = datetime.now(UTC)
    log_answer(
        endpoint.settings,
        {"trace": "today"},
        {"trace": "yesterday", "time": now - timedelta(days=1)},
        {"trace": "older", "time": now - timedelta(days=2)},
    )
    codes = {
        trace: endpoint.post("/v1/feedback", trace=trace, thumb="up").status_code
        for trace in ("today", "yesterday", "older")
    }
    assert codes == {"today": 201, "yesterday": 201, "older": 404}


def test_an_old_trace_is_not_known_because_nothing_was_asked_since(endpoint: Endpoint) -> None:
    log_answer(endpoint.settings, {"time": datetime.now(UTC) - timedelta(days=2), "trace": "older"})
    assert endpoint.post("/v1/feedback", trace="older", thumb="up").status_code == 404
    assert endpoint.get("/v1/rating/next").status_code == 204


def test_feedback_that_cannot_be_kept_is_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = endpoint.ask().headers["X-Headwater-Trace"]

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("headwater.serving.durable_log.os.write", full)
        reply = endpoint.post("/v1/feedback", trace=trace, thumb="up")
    assert reply.status_code == 500
    assert "cannot be written" in reply.json()["error"]["message"]
    assert endpoint.post("/v1/feedback", trace=trace, thumb="up").status_code == 201
    assert len(endpoint.said()) == 1


def test_many_at_once_are_all_kept(endpoint: Endpoint) -> None:
    trace = endpoint.ask().headers["X-Headwater-Trace"]
    with ThreadPoolExecutor(16) as pool:
        codes = pool.map(
            lambda n: endpoint.post("/v1/feedback", trace=trace, thumb="up", user=str(n)), range(64)
        )
        assert {reply.status_code for reply in codes} == {201}
    assert {row["user"] for row in endpoint.said()} == {str(n) for n in range(64)}
    assert len(list((log_folder(endpoint.settings)).rglob("*.jsonl"))) == 1


def test_a_pair_holds_the_logged_answer_and_another(endpoint: Endpoint) -> None:
    log_answer(endpoint.settings, {"trace": "t", "answer": "A spring in the mountains."})
    pair = endpoint.get("/v1/rating/next").json()
    assert pair["question"] == "What is a headwater?"
    assert "A spring in the mountains." in (pair["a"], pair["b"])
    assert pair["a"] != pair["b"]
    assert "old:///rivers.md" in [passage["uri"] for passage in pair["passages"]]
    assert "trace" not in json.dumps(pair)


@pytest.mark.parametrize("choice", ["a", "b", "same", "skip"])
def test_a_choice_is_logged_for_the_answer_it_was_about(endpoint: Endpoint, choice: str) -> None:
    log_answer(endpoint.settings, {"trace": "t", "answer": "A spring in the mountains."})
    pair = endpoint.get("/v1/rating/next").json()
    logged, other = ("a", "b") if pair["a"] == "A spring in the mountains." else ("b", "a")
    reply = endpoint.post("/v1/rating", id=pair["id"], choice=choice, user="ann")
    assert reply.status_code == 201
    [row] = endpoint.said()
    expected = {"same": "equal", "skip": "skip", logged: "answer", other: "rival"}[choice]
    assert (row["preferred"], row["trace"], row["user"]) == (expected, "t", "ann")
    assert row["rival"] == pair[other]
    assert row["rival_release"] == endpoint.release.id
    assert endpoint.get("/v1/rating/next").status_code == 204


def test_sides_are_shuffled(endpoint: Endpoint) -> None:
    topics = ("bees", "bread", "snow", "clocks", "rivers", "glass", "music", "trains", "paper")
    sides = set()
    for topic in topics:
        log_answer(
            endpoint.settings,
            {"trace": topic, "answer": "Mine.", "question": f"Where do {topic} come from?"},
        )
        pair = endpoint.get("/v1/rating/next").json()
        sides.add("a" if pair["a"] == "Mine." else "b")
        endpoint.post("/v1/rating", id=pair["id"], choice="skip")
        if len(sides) == 2:
            return
    raise AssertionError(f"always on side {sides}")


def test_ten_equal_questions_are_asked_once(endpoint: Endpoint) -> None:
    log_answer(endpoint.settings, *[{"answer": f"Answer {n}."} for n in range(10)])
    pair = endpoint.get("/v1/rating/next").json()
    assert pair["waiting"] == 0
    assert endpoint.get("/v1/rating/next").status_code == 204
    endpoint.post("/v1/rating", id=pair["id"], choice="a")
    assert endpoint.get("/v1/rating/next").status_code == 204


def test_golden_questions_are_never_asked(endpoint: Endpoint) -> None:
    item = GoldenItem(
        id="g", question="What is a headwater?", reference="Something in other words.",
        uris=("old:///rivers.md",), category="c", provisional=False,
    )  # fmt: skip
    lake = Lake(endpoint.settings.lake)
    lake.overwrite("golden_set", rows_to_table("golden_set", [asdict(item)]))
    log_answer(endpoint.settings, {"trace": "golden"}, {"trace": "free", "question": "Why bees?"})
    assert endpoint.get("/v1/rating/next").json()["question"] == "Why bees?"
    assert endpoint.get("/v1/rating/next").status_code == 204


def test_refused_and_broken_answers_and_gone_passages_are_not_asked(endpoint: Endpoint) -> None:
    log_answer(
        endpoint.settings,
        {"trace": "a", "refused": True},
        {"trace": "b", "status": "aborted"},
        {"trace": "c", "chunk_ids": ("gone",)},
    )
    assert endpoint.get("/v1/rating/next").status_code == 204


def test_what_was_corrected_needs_no_rating(endpoint: Endpoint) -> None:
    log_answer(endpoint.settings, {"trace": "t"})
    endpoint.post("/v1/feedback", trace="t", correction="Better.")
    assert endpoint.get("/v1/rating/next").status_code == 204


def test_a_pair_that_is_not_out_cannot_be_rated(endpoint: Endpoint) -> None:
    assert endpoint.post("/v1/rating", id="f" * 32, choice="a").status_code == 404
    assert endpoint.post("/v1/rating", id="f" * 32, choice="c").status_code == 400
    assert endpoint.said() == []


def test_ratings_are_remembered_across_a_restart(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> None:
    home = copy_home(origin, tmp_path)
    fill_lake(home, passages("old"))
    promote(home, make_release(home))
    log_answer(home, {"trace": "t"})
    with serve_in_thread(home) as url:
        pair = httpx.get(f"{url}/v1/rating/next", timeout=60).json()
        httpx.post(f"{url}/v1/rating", json={"id": pair["id"], "choice": "a"})
    with serve_in_thread(home) as url:
        assert httpx.get(f"{url}/v1/rating/next", timeout=60).status_code == 204


def test_the_text_around_a_citation(endpoint: Endpoint) -> None:
    start = len(SURROUNDED.encode())
    text = "A headwater is the beginning of a river, often a spring in the mountains."
    found = endpoint.get(
        "/v1/documents", uri="old:///rivers.md", start=start, end=start + len(text)
    ).json()
    assert (found["before"], found["span"], found["after"]) == (SURROUNDED, text, SURROUNDED)
    assert (found["title"], found["more_before"], found["more_after"]) == ("rivers", False, False)


def test_offsets_within_a_character_or_beyond_the_text_do_no_harm(endpoint: Endpoint) -> None:
    at = len(b"Before ") + 1  # within the snowman, which has three bytes
    found = endpoint.get("/v1/documents", uri="old:///rivers.md", start=at, end=at + 1).json()
    assert (found["before"], found["span"]) == ("Before ", "")
    found = endpoint.get("/v1/documents", uri="old:///rivers.md", start=0, end=20_000).json()
    assert found["after"] == ""
    assert found["span"].endswith(SURROUNDED)


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"uri": "old:///nowhere.md", "start": 0, "end": 1}, 404),
        ({"uri": "/etc/passwd", "start": 0, "end": 1}, 404),
        ({"uri": "x') OR 1=1 --", "start": 0, "end": 1}, 404),
        ({"uri": "old:///rivers.md", "start": 5, "end": 1}, 400),
        ({"uri": "old:///rivers.md", "start": 0, "end": 20_001}, 400),
        ({"uri": "old:///rivers.md", "start": -1, "end": 1}, 400),
        ({"uri": "old:///rivers.md", "start": 0}, 400),
        ({"uri": "x" * 2_049, "start": 0, "end": 1}, 400),
    ],
)
def test_only_known_documents_and_bounded_spans(
    served: tuple[str, Release], origin: Settings, params: Any, status: int
) -> None:
    fill_lake(origin, passages("old"))
    reply = httpx.get(f"{served[0]}/v1/documents", params=params)
    assert reply.status_code == status, reply.text


@pytest.mark.parametrize(
    "path", ["/", "/rate", "/outliers", "/pages/style.css", "/pages/playground.js"]
)
def test_pages_carry_the_strict_policy(served: tuple[str, Release], path: str) -> None:
    reply = httpx.get(f"{served[0]}{path}")
    assert reply.status_code == 200
    policy = dict(
        part.strip().split(" ", 1) for part in reply.headers["Content-Security-Policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
        "connect-src": "'self'", "img-src": "'self'", "base-uri": "'none'",
        "form-action": "'self'", "frame-ancestors": "'none'",
    }  # fmt: skip
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["..%2Fapp.py", "nothing.js", ".gitignore", "%2e%2e"])
def test_nothing_but_the_pages_files_is_served(served: tuple[str, Release], name: str) -> None:
    assert httpx.get(f"{served[0]}/pages/{name}").status_code == 404
