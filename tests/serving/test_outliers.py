"""Verdicts on outlying documents over HTTP: who may give one, on what, and what the log makes of it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.homes import promote
from headwater.datasets.outliers import OutlyingDocument, save_outliers, text_id
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem
from headwater.release.manifest import Release
from headwater.serving import keys
from headwater.serving.server import serve_in_thread
from headwater.serving.verdict_log import (
    VerdictEntry,
    VerdictLog,
    Verdicts,
    left_out,
    log_folder,
    verdicts_digest,
)
from headwater.settings import Settings
from tests.serving.conftest import Endpoint, copy_home

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def outlying(name: str, **fields: Any) -> OutlyingDocument:
    uri = f"old:///{name}"
    known: dict[str, Any] = {
        "id": text_id(uri, f"digest of {name}"), "uri": uri, "digest": f"digest of {name}",
        "title": name, "heading": "H", "start": 0, "end": 9, "text": "Something odd.",
        "distance": 0.9, "nearest": "old:///near",
    }  # fmt: skip
    return OutlyingDocument(**known | fields)


@pytest.fixture
def endpoint(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> Iterator[Endpoint]:
    home = copy_home(origin, tmp_path)
    save_outliers(home, [outlying("a"), outlying("b")])
    release = make_release(home)
    promote(home, release)
    with serve_in_thread(home) as url:
        yield Endpoint(url, home, release)


def say(settings: Settings, *said: tuple[timedelta, str], name: str = "a", user: str = "") -> None:
    """Verdicts as a process of its own logs them."""
    log = VerdictLog(log_folder(settings))
    about = outlying(name)
    for after, verdict in said:
        entry: Any = {
            "time": NOON + after, "id": about.id, "uri": about.uri, "digest": about.digest,
            "title": about.title, "verdict": verdict, "user": user,
        }  # fmt: skip
        log.append(VerdictEntry(**entry))
    log.close()


def asked(endpoint: Endpoint) -> list[str]:
    found = endpoint.get("/v1/outliers").json()
    assert found["waiting"] == len(found["asked"])
    return [each["title"] for each in found["asked"]]


def uris(settings: Settings) -> list[str]:
    return [each.uri for each in left_out(settings)]


def test_a_verdict_is_asked_for_given_and_taken_back(endpoint: Endpoint) -> None:
    first, second = endpoint.get("/v1/outliers").json()["asked"]
    assert (first["uri"], first["text"], first["distance"]) == ("old:///a", "Something odd.", 0.9)
    reply = endpoint.post("/v1/outliers", id=first["id"], verdict="leave_out", user=" ann ")
    assert (reply.status_code, reply.json()["verdict"]) == (201, "leave_out")
    endpoint.post("/v1/outliers", id=second["id"], verdict="keep")
    found = endpoint.get("/v1/outliers").json()
    assert (found["asked"], found["waiting"]) == ([], 0)
    said = [(each["title"], each["verdict"], each["by"]) for each in found["judged"]]
    assert said == [("b", "keep", "somebody"), ("a", "leave_out", "ann")]
    (entry,) = left_out(endpoint.settings)
    assert (entry.uri, entry.digest) == ("old:///a", "digest of a")
    assert "by ann" in entry.detail and first["id"] in entry.detail

    # Also when the next map no longer shows it, since it was left out.
    save_outliers(endpoint.settings, [outlying("b")])
    assert endpoint.post("/v1/outliers", id=first["id"], verdict="withdraw").status_code == 201
    assert uris(endpoint.settings) == []
    assert endpoint.post("/v1/outliers", id=first["id"], verdict="withdraw").status_code == 404
    save_outliers(endpoint.settings, [outlying("a"), outlying("b")])
    assert asked(endpoint) == ["a"]


def test_a_change_of_mind_counts(endpoint: Endpoint) -> None:
    name = outlying("a").id
    for verdict, expected in (("keep", []), ("leave_out", ["old:///a"]), ("keep", [])):
        assert endpoint.post("/v1/outliers", id=name, verdict=verdict).status_code == 201
        assert uris(endpoint.settings) == expected


def test_only_texts_that_are_asked_of_can_be_judged(endpoint: Endpoint) -> None:
    reply = endpoint.post("/v1/outliers", id="f" * 32, verdict="leave_out")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "outlier_not_found")
    golden = GoldenItem(
        id="g", question="q", reference="r", uris=("old:///b",), category="c", provisional=False
    )
    lake = Lake(endpoint.settings.lake)
    lake.overwrite("golden_set", rows_to_table("golden_set", [asdict(golden)]))
    assert asked(endpoint) == ["a"]
    reply = endpoint.post("/v1/outliers", id=outlying("b").id, verdict="leave_out")
    assert reply.status_code == 404
    assert uris(endpoint.settings) == []


@pytest.mark.parametrize(
    "body",
    [
        {"id": "ID"},
        {"id": "ID", "verdict": "delete"},
        {"id": "ID", "verdict": "leave_out", "uri": "old:///b"},
        {"id": "ID", "verdict": "leave_out", "user": "x" * 129},
        {"id": ["ID", "ID"], "verdict": "leave_out"},
        {"id": "x" * 65, "verdict": "leave_out"},
        {"verdict": "leave_out"},
    ],
)
def test_what_is_not_one_verdict_is_refused(served: tuple[str, Release], body: Any) -> None:
    reply = httpx.post(f"{served[0]}/v1/outliers", json=body)
    assert reply.status_code == 400, reply.text


def test_a_form_of_a_foreign_page_is_refused(endpoint: Endpoint) -> None:
    body = json.dumps({"id": outlying("a").id, "verdict": "leave_out"})
    headers = {"Content-Type": "text/plain"}
    reply = httpx.post(f"{endpoint.url}/v1/outliers", content=body, headers=headers)
    assert (reply.status_code, uris(endpoint.settings)) == (400, [])


def test_it_needs_the_scope_of_ratings_and_names_the_key(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> None:
    home = copy_home(origin, tmp_path)
    save_outliers(home, [outlying("a")])
    promote(home, make_release(home))
    _, asks = keys.create(home, "asks", scopes=["chat"])
    key, rates = keys.create(home, "rates", scopes=["feedback"])
    body = {"id": outlying("a").id, "verdict": "leave_out", "user": "ann\nby bob"}
    with serve_in_thread(home) as url:
        for secret, status in ((None, 401), (asks, 403)):
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            for method, sent in (("GET", None), ("POST", body)):
                reply = httpx.request(method, f"{url}/v1/outliers", json=sent, headers=headers)
                assert reply.status_code == status
        assert uris(home) == []
        headers = {"Authorization": f"Bearer {rates}"}
        assert httpx.post(f"{url}/v1/outliers", json=body, headers=headers).status_code == 201
        (said,) = httpx.get(f"{url}/v1/outliers", headers=headers).json()["judged"]
    assert said["by"] == f"ann by bob, key {key.id}"


def test_the_last_word_counts_across_days_processes_and_torn_lines(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    nothing = verdicts_digest(left_out(settings))
    day, hour = timedelta(days=1), timedelta(hours=1)
    say(settings, (400 * day, "leave_out"), (hour, "keep"))
    say(settings, (0 * hour, "withdraw"))
    assert uris(settings) == ["old:///a"]
    assert verdicts_digest(left_out(settings)) != nothing
    verdicts = Verdicts(settings)
    assert len(verdicts.read()) == 1
    (path, *_) = sorted(log_folder(settings).glob("2027-*/*.jsonl"))
    with path.open("ab") as file:
        file.write(b'{"time": "2028-01-01T00:00:00+00:00", "id": \n{"verdict": "leave_out"}\n[]\n')
    say(settings, (401 * day, "withdraw"))
    assert verdicts.read() == {} == Verdicts(settings).read()
    assert verdicts_digest(left_out(settings)) == nothing


def test_no_more_is_sent_than_a_page_takes(endpoint: Endpoint) -> None:
    many: Sequence[OutlyingDocument] = [outlying(str(number)) for number in range(70)]
    save_outliers(endpoint.settings, many)
    found = endpoint.get("/v1/outliers").json()
    assert (len(found["asked"]), found["waiting"]) == (50, 70)
