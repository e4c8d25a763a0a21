"""Canaries over a real endpoint with the tiny model; what they show is in tests/release."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from benchmarks.homes import PROMPT, promote
from headwater.files import write_json
from headwater.release import pointer, traffic
from headwater.release.canary import Outcome, load_policy
from headwater.release.manifest import Release
from headwater.serving.canary import CanaryWatch
from headwater.serving.request_log import logged_days, read_requests
from headwater.serving.server import serve_in_thread
from headwater.settings import Settings

Make = Callable[..., Release]


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


def ask(client: httpx.Client, url: str, **fields: object) -> httpx.Response:
    question = {"role": "user", "content": "Where do rivers begin?"}
    body = {"model": "headwater", "messages": [question], "max_tokens": 2}
    return client.post(f"{url}/v1/chat/completions", json=body | fields)


def reload(client: httpx.Client, url: str) -> dict:
    return client.post(f"{url}/admin/reload").json()


def ask_until_it_ends(client: httpx.Client, url: str, home: Settings, limit: int = 1500) -> Counter:
    """Ask as different users until the canary has ended; releases that answered, by status."""
    seen: Counter = Counter()
    for number in range(limit):
        reply = ask(client, url, user=f"user {number}")
        seen[reply.headers["X-Headwater-Release"], reply.status_code] += 1
        if traffic.read(home).canary is None:
            return seen
    raise AssertionError(f"no decision after {limit} requests: {seen}")


def test_an_answer_that_is_heard_of_after_its_canarys_end_shows_nothing(
    home: Settings, make_release: Make
) -> None:
    good, bad = make_release(home), make_release(home, prompt=replace(PROMPT, system="Answer."))
    promote(home, good)
    traffic.start_canary(home, bad.id, 0.2)
    watch, before = CanaryWatch(home, load_policy(), ended=lambda: None), traffic.read(home)
    outcome = Outcome(error=False, refused=False, seconds=0.1, ungrounded=None)
    for _ in range(1000):
        watch.observe(before, "champion", good.id, outcome)
        watch.observe(before, "canary", bad.id, replace(outcome, error=True))
        now = traffic.read(home)
        if now.canary is None:
            break
        assert watch.judgement(now) is not None
    watch.observe(before, "canary", bad.id, outcome)
    assert now.canary is None and watch.judgement(now) is None


def test_a_canary_that_fails_is_taken_back_and_nobody_meets_it_again(
    home: Settings, make_release: Make, client: httpx.Client
) -> None:
    good = make_release(home)
    # Its prompt leaves no room for an answer, so every request to it fails.
    bad = make_release(home, prompt=replace(PROMPT, system="Answer with care. " * 800))
    promote(home, good)
    with serve_in_thread(home) as url:
        traffic.start_canary(home, bad.id, 0.2)
        assert reload(client, url) == {"release": good.id, "canary": bad.id}
        seen = ask_until_it_ends(client, url, home)
        assert seen[bad.id, 400] == sum(n for (id, _), n in seen.items() if id == bad.id) < 30
        assert seen[good.id, 200] > 0
        reload(client, url)  # the end is on the disk a moment before it is in force
        assert {ask(client, url, user=f"u{n}").status_code for n in range(20)} == {200}
        assert client.get(f"{url}/admin/canary").json()["judgement"] is None
        assert 'arm="canary",outcome="error"' in client.get(f"{url}/metrics").text
    assert pointer.current(home) == good.id
    assert "'error'" in traffic.taken_back(home)[bad.id]


def test_a_canary_that_is_no_worse_becomes_the_champion(
    home: Settings, make_release: Make, client: httpx.Client
) -> None:
    old = make_release(home)
    # The same parts but for a retrieval setting that changes nothing over five documents.
    new = make_release(home, retrieval={**old.retrieval, "depth": 40})
    promote(home, old)
    with serve_in_thread(home) as url:
        traffic.start_canary(home, new.id, 0.5)
        reload(client, url)
        seen = ask_until_it_ends(client, url, home)
        assert {status for _, status in seen} == {200}
        assert seen[new.id, 200] > 20
        assert reload(client, url) == {"release": new.id, "canary": None}
        assert ask(client, url).headers["X-Headwater-Release"] == new.id
    assert pointer.current(home) == new.id
    assert pointer.history(home)[-1]["actor"] == "canary"


def test_users_and_sessions_stay_with_one_release(
    home: Settings, make_release: Make, client: httpx.Client
) -> None:
    old, new = make_release(home), make_release(home, index="new")
    promote(home, old)
    with serve_in_thread(home) as url:
        traffic.start_canary(home, new.id, 0.5, judged=False)
        reload(client, url)
        releases = {}
        for user in range(12):
            by_body = {
                ask(client, url, user=f"{user}").headers["X-Headwater-Release"] for _ in range(3)
            }
            client.headers["X-Headwater-Session"] = f"{user}"
            by_header = ask(client, url).headers["X-Headwater-Release"]
            del client.headers["X-Headwater-Session"]
            assert by_body == {by_header}
            releases[user] = by_header
        assert set(releases.values()) == {old.id, new.id}
        assert traffic.read(home).canary == new.id, "an A/B test is not ended by itself"
    arms = Counter(row["arm"] for row in read_requests(home, logged_days(home)[-1]).rows)
    assert arms["canary"] and arms["champion"]


def test_a_canary_that_cannot_be_loaded_is_taken_back(
    home: Settings, make_release: Make, client: httpx.Client
) -> None:
    good, broken = make_release(home), make_release(home, index="nowhere")
    promote(home, good)
    with serve_in_thread(home) as url:
        traffic.start_canary(home, broken.id, 1.0)
        assert reload(client, url) == {"release": good.id, "canary": None}
        assert ask(client, url).headers["X-Headwater-Release"] == good.id
    assert "no index version" in traffic.taken_back(home)[broken.id]


def test_a_canary_that_endpoints_die_with_is_taken_back(
    home: Settings, make_release: Make, client: httpx.Client
) -> None:
    good, bad = make_release(home), make_release(home, index="new")
    promote(home, good)
    traffic.start_canary(home, bad.id, 0.5)
    note = home.serving / "canary.json"
    write_json(note, {"canary": bad.id, "deaths": 0, "pid": os.getpid() + 1})
    with serve_in_thread(home) as url:
        assert reload(client, url)["canary"] == bad.id, "one death may be anybody's kill"
    assert not note.exists(), "an endpoint that ends in order has not died"
    write_json(note, {"canary": bad.id, "deaths": 1, "pid": os.getpid() + 1})
    with serve_in_thread(home) as url:
        assert reload(client, url) == {"release": good.id, "canary": None}
    assert "died 2 times" in traffic.taken_back(home)[bad.id]


def test_a_shadow_answers_for_the_log_alone(
    home: Settings, make_release: Make, client: httpx.Client
) -> None:
    old, new = make_release(home), make_release(home, index="new")
    promote(home, old)
    with serve_in_thread(home) as url:
        traffic.set_shadow(home, new.id)
        reload(client, url)
        for _ in range(3):
            assert ask(client, url).headers["X-Headwater-Release"] == old.id
            time.sleep(0.2)  # a shadow that is still busy is left out
    rows = read_requests(home, logged_days(home)[-1]).rows
    assert Counter((row["arm"], row["release"]) for row in rows) == {
        ("champion", old.id): 3,
        ("shadow", new.id): 3,
    }
    assert len({row["trace"] for row in rows}) == 6
