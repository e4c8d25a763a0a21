"""API keys on a running endpoint: who gets in, how much, and that no key is written anywhere."""

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from benchmarks.homes import promote
from headwater.cli import app as cli
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.release.manifest import Release
from headwater.serving import keys
from headwater.serving.admission import DayTokens, Gate, RequestRate
from headwater.serving.client import EndpointError, ask, find_endpoint, wait_for_release
from headwater.serving.connect import verify
from headwater.serving.credentials import client_key, local_key_file, operator_key
from headwater.serving.key_gate import NEEDS
from headwater.serving.keys import keys_file
from headwater.serving.openai_types import ApiError
from headwater.serving.request_log import read_requests
from headwater.serving.server import run_server, serve_in_thread
from headwater.serving.service import Limits
from headwater.settings import Settings
from tests.serving.browser import CHROMIUM, open_browser
from tests.serving.conftest import Endpoint, copy_home, log_answer

ROOT = Path(__file__).parents[2]
MESSAGE: Any = {"role": "user", "content": "What is a headwater?"}
BODY: dict[str, Any] = {"messages": [MESSAGE], "max_tokens": 4}
#: A body's and a head's time on the endpoint below.
SLOW = 0.4


@pytest.fixture(scope="module")
def guarded(
    origin: Settings, make_release: Callable[..., Release], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """An endpoint that had a key when it started."""
    home = copy_home(origin, tmp_path_factory.mktemp("guarded"))
    release = make_release(home)
    promote(home, release)
    keys.create(home, "the first", scopes=["metrics"])
    with serve_in_thread(home, limits=Limits(head_seconds=SLOW, body_seconds=SLOW)) as url:
        yield Endpoint(url, home, release)


def key_of(endpoint: Endpoint, name: str, **choices: Any) -> str:
    return keys.create(endpoint.settings, name, **choices)[1]


def client(endpoint: Endpoint, secret: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key=secret, max_retries=0)


def answer(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="headwater", messages=[MESSAGE], max_tokens=4)


def chat(url: str, secret: str | None, **headers: str) -> httpx.Response:
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    return httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, timeout=60)


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_the_first_key_closes_an_open_endpoint(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> None:
    home = copy_home(origin, tmp_path)
    promote(home, make_release(home))
    with serve_in_thread(home) as url:
        assert chat(url, None).status_code == chat(url, "unused").status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 200
        key, secret = keys.create(home, "the first")
        assert chat(url, None).status_code == 401
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert chat(url, secret).status_code == 200
        # Neither the last key's end nor a lost file lets everybody in again.
        keys.revoke(home, key.id)
        assert code(chat(url, secret)) == "revoked_api_key"
        keys_file(home).unlink()
        assert chat(url, None).status_code == 401
        # A damaged file changes nothing, either.
        keys_file(home).write_text("{")
        assert code(chat(url, secret)) == "invalid_api_key"
        # Our own clients go on.
        assert ask(url, "Why?", key=client_key(home, url))["answer"]
        with pytest.raises(HeadwaterError, match="cannot be read"), serve_in_thread(home):
            pass


def test_the_official_client_raises_its_errors(guarded: Endpoint) -> None:
    for secret in ("unused", "hw_00000000_" + "a" * 43, "hw_local_" + "a" * 43):
        with client(guarded, secret) as stranger, pytest.raises(openai.AuthenticationError) as told:
            answer(stranger)
        assert told.value.code == "invalid_api_key"
        assert told.value.response.headers["WWW-Authenticate"] == "Bearer"
    with client(guarded, key_of(guarded, "embedder", scopes=["embeddings"])) as embedder:
        assert embedder.embeddings.create(model="headwater", input="a").data
        assert embedder.models.list().data
        with pytest.raises(openai.PermissionDeniedError, match="scope chat"):
            answer(embedder)
    with client(guarded, key_of(guarded, "twice", requests_per_minute=2)) as twice:
        answer(twice)
        answer(twice)
        with pytest.raises(openai.RateLimitError) as late:
            answer(twice)
        assert late.value.code == "rate_limit_exceeded"
        assert 1 <= int(late.value.response.headers["Retry-After"]) <= 60
    assert (
        "headwater_rejected_total"
        in httpx.get(
            f"{guarded.url}/metrics",
            headers={"Authorization": f"Bearer {key_of(guarded, 'prom', scopes=['metrics'])}"},
        ).text
    )


def test_every_route_but_these_needs_a_key(guarded: Endpoint) -> None:
    secret = key_of(guarded, "reader of routes")
    described = httpx.get(
        f"{guarded.url}/openapi.json", headers={"Authorization": f"Bearer {secret}"}
    ).json()["paths"]
    assert set(NEEDS) <= set(described)
    # A new route is named in NEEDS, or any key may use it: say so here.
    any_key = {"/v1/models", "/v1/models/{name}"}
    own_checks = {"/healthz", "/readyz", "/admin/reload", "/admin/canary"}
    assert set(described) == set(NEEDS) | any_key | own_checks
    for path, methods in described.items():
        for method in methods:
            response = httpx.request(method, guarded.url + path.replace("{name}", "x"))
            assert (response.status_code == 401) == (path not in own_checks), path
    for path in ("/openapi.json", "/v1/nothing", "//v1/models", "/metrics/", "/v1"):
        assert httpx.get(guarded.url + path).status_code == 401
    for path in ("/", "/rate", "/outliers", "/pages/api.js", "/pages/key.js"):
        assert httpx.get(guarded.url + path).status_code == 200
    assert httpx.get(f"{guarded.url}/healthz").json() == {"status": "ok", "service": "headwater"}
    probe = httpx.get(f"{guarded.url}/readyz")
    assert probe.status_code == 200
    assert probe.json() == {"ready": True, "service": "headwater", "needs_key": True}


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic {}", "{}", "Bearer {} {}", "Bearer {}x", "bearer\t{}"],
)
def test_odd_headers_open_nothing(guarded: Endpoint, header: str) -> None:
    secret = key_of(guarded, f"odd {datetime.now(UTC).timestamp()}")
    headers = {"Authorization": header.replace("{}", secret)}
    assert httpx.get(f"{guarded.url}/v1/models", headers=headers).status_code == 401


def test_revocation_and_expiry_take_effect_at_once(guarded: Endpoint) -> None:
    key, secret = keys.create(guarded.settings, "short-lived")
    assert chat(guarded.url, secret).status_code == 200
    keys.revoke(guarded.settings, key.id[:6])
    assert (chat(guarded.url, secret).status_code, code(chat(guarded.url, secret))) == (
        401,
        "revoked_api_key",
    )
    expired = key_of(guarded, "expired", days=-1)
    assert code(chat(guarded.url, expired)) == "expired_api_key"


def test_a_rotated_key_has_a_grace(guarded: Endpoint) -> None:
    key, first = keys.create(guarded.settings, "rotating")
    same, second = keys.rotate(guarded.settings, key.id)
    assert same.id == key.id
    assert first != second
    assert same.old_until is not None
    left = datetime.fromisoformat(same.old_until) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert chat(guarded.url, first).status_code == chat(guarded.url, second).status_code == 200
    _, third = keys.rotate(guarded.settings, key.id, grace=0)
    assert code(chat(guarded.url, first)) == code(chat(guarded.url, second)) == "invalid_api_key"
    assert chat(guarded.url, third).status_code == 200
    keys.rotate(guarded.settings, key.id, grace=0.001)
    time.sleep(0.01)
    assert chat(guarded.url, third).status_code == 401
    keys.revoke(guarded.settings, key.id)
    with pytest.raises(HeadwaterError, match="is revoked"):
        keys.rotate(guarded.settings, key.id)


def test_a_days_tokens_survive_a_restart(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> None:
    home = copy_home(origin, tmp_path)
    promote(home, make_release(home))
    key, secret = keys.create(home, "frugal", tokens_per_day=10)
    _, other = keys.create(home, "other", tokens_per_day=10_000)
    with serve_in_thread(home) as url:
        used = chat(url, secret).json()["usage"]["total_tokens"]
        assert used > 10
        refused = chat(url, secret)
        assert (refused.status_code, code(refused)) == (429, "insufficient_quota")
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0) + timedelta(days=1)
        left = (midnight - datetime.now(UTC)).total_seconds()
        assert abs(int(refused.headers["Retry-After"]) - left) < 60
        assert refused.headers["X-Should-Retry"] == "false"
        assert httpx.post(
            f"{url}/v1/embeddings",
            json={"input": "a"},
            headers={"Authorization": f"Bearer {secret}"},
        ).status_code == 429  # fmt: skip
        assert chat(url, other).status_code == 200
    rows = read_requests(home, datetime.now(UTC).date().isoformat()).rows
    assert {row["key"] for row in rows if row["completion_tokens"]} >= {key.id}
    with serve_in_thread(home) as url:
        assert code(chat(url, secret)) == "insufficient_quota"
        assert chat(url, other).status_code == 200


def test_lines_and_tables_from_before_there_were_keys(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    log_answer(settings, {})
    day = datetime.now(UTC).date().isoformat()
    (path,) = (settings.serving / "requests" / day).glob("*.jsonl")
    line = json.loads(path.read_text())
    del line["key"]
    path.write_text(json.dumps(line) + "\n")
    (row,) = read_requests(settings, day).rows
    assert row["key"] == ""
    import deltalake

    lake = Lake(settings.lake)
    lake.ensure(["requests"])
    whole = rows_to_table("requests", [row])
    folder = tmp_path / "earlier"
    deltalake.write_deltalake(str(folder / "requests"), whole.drop_columns(["key"]))
    earlier = Lake(folder)
    assert earlier.read("requests").column("key").to_pylist() == [None]
    earlier.ensure(["requests"])
    assert earlier.read("requests", columns=["key"]).num_rows == 1


_SERVE = (
    "import logging; logging.basicConfig(level=logging.DEBUG);"
    "from headwater.settings import Settings;"
    "from headwater.serving.server import run_server; run_server(Settings(), 0)"
)


def test_no_key_is_written_anywhere(
    origin: Settings,
    make_release: Callable[..., Release],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A process of its own: every byte it leaves, and every line of every library's log."""
    caplog.set_level(logging.DEBUG)
    home = copy_home(origin, tmp_path)
    promote(home, make_release(home))
    _, canary = keys.create(home, "canary")
    wrong = canary[:-4] + "wrng"
    environment = os.environ | {"HEADWATER_HOME": str(home.root), "HEADWATER_THREADS": "2"}
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE], env=environment, cwd=ROOT, stdout=output, stderr=output
        )
        try:
            until = time.monotonic() + 60
            while (found := find_endpoint(home)) is None or not found.ready:
                assert time.monotonic() < until
                time.sleep(0.05)
            url = found.url
            for secret in (canary, wrong):
                _send_everywhere(url, secret)
            local = local_key_file(home).read_text().strip()
            assert stat.S_IMODE(local_key_file(home).stat().st_mode) == 0o600
            assert stat.S_IMODE(keys_file(home).stat().st_mode) == 0o600
            _send_everywhere(url, local)
            caplog.clear()  # what the senders above have logged is theirs
            # Our own clients find it, move it and ask it; HEADWATER_API_KEY goes first for `ask`.
            assert verify(url, found.release or "", key=operator_key(home, url))["answer"]
            with pytest.raises(EndpointError) as refused:
                ask(url, "Why?")
            assert "HEADWATER_API_KEY" in refused.value.mend
            chosen = home.model_copy(update={"api_key": SecretStr(wrong)})
            assert find_endpoint(chosen) is not None
            with pytest.raises(EndpointError, match="not known"):
                ask(url, "Why?", key=client_key(chosen, url))
            assert holders(home.root, local) == [local_key_file(home)]
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert not local_key_file(home).exists()
    for secret in (canary, wrong, local):
        assert holders(tmp_path, secret) == []
        assert secret not in caplog.text
        assert secret[-43:] not in caplog.text
    assert "hw_" not in repr(chosen)


def holders(folder: Path, secret: str) -> list[Path]:
    """Files that hold a secret, or what is random in it."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 2**24]
    return [path for path in files if secret[-43:].encode() in path.read_bytes()]


def _send_everywhere(url: str, secret: str) -> None:
    """Where a key belongs, and where people put it by mistake."""
    chats = f"{url}/v1/chat/completions"
    right = {"Authorization": f"Bearer {secret}"}
    httpx.post(chats, json=BODY, headers=right, timeout=60)
    httpx.post(chats, json={**BODY, "model": secret}, headers=right)
    httpx.post(chats, json={**BODY, "user": secret, "temperature": secret}, headers=right)
    httpx.post(chats, json={**BODY, "user": secret}, headers=right, timeout=60)
    asked = [{"role": "user", "content": f"Is {secret} my key?"}]
    reply = httpx.post(chats, json={**BODY, "messages": asked}, headers=right, timeout=60)
    said = {"trace": reply.headers.get("X-Headwater-Trace", "x"), "correction": f"No: {secret}"}
    httpx.post(f"{url}/v1/feedback", json=said, headers=right)
    httpx.post(chats, content=secret, headers=right)
    for header in ("X-Api-Key", "Api-Key", "Cookie", "X-Headwater-Session", "X-Headwater-Deadline"):
        httpx.post(chats, json=BODY, headers={header: secret}, timeout=60)
        httpx.post(chats, json=BODY, headers={**right, header: secret}, timeout=60)
    httpx.get(f"{url}/v1/models", params={"api_key": secret})
    httpx.get(f"{url}/v1/models/{secret}", headers=right)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nAuthorization Bearer {secret}\r\n\r\n".encode())
        raw.recv(4096)


def test_others_are_not_served_without_a_key(
    origin: Settings, make_release: Callable[..., Release], tmp_path: Path
) -> None:
    home = copy_home(origin, tmp_path).model_copy(update={"host": "0.0.0.0"})
    release = make_release(home)
    promote(home, release)
    for run in (lambda: run_server(home, 0), lambda: serve_in_thread(home).__enter__()):
        with pytest.raises(HeadwaterError, match="no active API key") as told:
            run()
        assert "keys create" in told.value.mend
    keys.create(home, "expired", days=-1)
    with pytest.raises(HeadwaterError, match="no active API key"):
        run_server(home, 0)
    _, secret = keys.create(home, "somebody")
    with serve_in_thread(home) as url:
        assert chat(url, None).status_code == 401
        assert chat(url, secret).status_code == 200
        # Another address of this machine is not loopback; the local key is as good.
        other = url.replace("0.0.0.0", _address())
        if other != url:
            with pytest.raises(EndpointError, match="Only this machine"):
                wait_for_release(other, release.id)
        wait_for_release(other, release.id, key=operator_key(home, url))


def _address() -> str:
    """An address of this machine that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "0.0.0.0"
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("sent", ["GET /healthz HTTP/1.1\r\nHo", ""], ids=["a part", "nothing"])
def test_a_head_that_does_not_come_ends_the_connection(guarded: Endpoint, sent: str) -> None:
    with _connection(guarded) as raw:
        raw.sendall(sent.encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")
        assert raw.recv(4096) == b""
    with _connection(guarded) as raw:  # also of a later request on the same connection
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 200")
        time.sleep(2 * SLOW)  # idle is allowed
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_body_that_trickles_in_is_refused(guarded: Endpoint) -> None:
    secret = key_of(guarded, "slow sender")
    with _connection(guarded) as raw:
        raw.sendall(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()
        )
        told = b""
        for _ in range(200):
            raw.sendall(b" ")
            raw.settimeout(0.05)
            try:
                told = raw.recv(4096)
                break
            except TimeoutError:
                continue
        assert told.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in told
        assert b"connection: close" in told.lower()
    assert chat(guarded.url, secret).status_code == 200


def _connection(endpoint: Endpoint) -> socket.socket:
    host, port = endpoint.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 20)


def test_the_command_line(guarded: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(guarded.settings.root))

    def run(*arguments: str, fails: bool = False) -> Any:
        result = CliRunner().invoke(cli, ["keys", *arguments, "--json"])
        assert result.exit_code == int(fails), result.output
        return json.loads(result.stdout.splitlines()[-1])

    made = run("create", "by hand", "--scope", "chat", "--tokens-per-day", "9000", "--days", "2")
    assert made["scopes"] == ["chat"]
    assert chat(guarded.url, made["secret"]).status_code == 200
    rotated = run("rotate", made["id"])
    listed = run("list")["keys"]
    shown = next(key for key in listed if key["id"] == made["id"])
    assert (shown["state"], shown["tokens_per_day"]) == ("active", 9000)
    everything = json.dumps(listed)
    assert "digest" not in everything
    assert made["secret"] not in everything
    assert run("revoke", made["id"])["state"] == "revoked"
    assert chat(guarded.url, rotated["secret"]).status_code == 401
    assert "0 keys" in run("revoke", "zz", fails=True)["error"]
    assert "already" in run("create", "the first", fails=True)["error"]
    assert "scope" in run("create", "x", "--scope", "everything", fails=True)["error"]
    assert "name" in run("create", "\x1b[31m", fails=True)["error"]
    alone = CliRunner().invoke(cli, ["keys", "create", "to a file"])
    (secret,) = alone.stdout.splitlines()
    assert chat(guarded.url, secret).status_code == 200


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: keys.create(settings, f"key {number}"), range(16)))
    assert len(keys.read_keys(settings)) == 16
    assert stat.S_IMODE(keys_file(settings).stat().st_mode) == 0o600


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_page_asks_for_a_key_and_uses_it(guarded: Endpoint, tmp_path: Path) -> None:
    secret = key_of(guarded, "a person", scopes=["chat"])

    def give(text: str) -> None:
        page.wait("document.activeElement === document.querySelector('dialog.key input')")
        page.write(text)
        page.key("Enter")

    with open_browser(tmp_path) as page:
        page.open(guarded.url)
        give("hw_00000000_nobodys")
        page.wait("document.querySelector('dialog.key p')?.textContent.includes('not take')")
        give(secret)
        page.wait("document.getElementById('release').textContent.startsWith('release ')")
        page.click("#question")
        page.write("What is a headwater?")
        page.key("Enter")
        page.wait("document.querySelector('.exchange .actions:not([hidden])')")
        page.click(".thumb[data-thumb=up]")
        page.wait("document.querySelector('.said').textContent.includes('scope feedback')")
        assert page.eval("document.cookie") == ""
        assert page.eval("localStorage.length") == 0
        assert all(secret not in url for url in page.requests)
        assert page.dialogs == []


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def date(self) -> datetime:
        return datetime(2026, 3, 1, 23, 0, tzinfo=UTC) + timedelta(seconds=self.now)


def refused(call: Callable[[], object]) -> tuple[str | None, int | None]:
    with pytest.raises(ApiError) as told:
        call()
    assert told.value.status == 429
    return told.value.code, told.value.retry_after


def test_no_minute_has_more_requests_than_a_key_has() -> None:
    clock = Clock()
    rate = RequestRate(clock)
    for clock.now in (0.0, 20.0, 50.0):
        rate.take("a", 3)
    assert refused(lambda: rate.take("a", 3)) == ("rate_limit_exceeded", 10)
    rate.take("b", 3)
    clock.now = 59.0
    assert refused(lambda: rate.take("a", 3)) == ("rate_limit_exceeded", 1)
    clock.now = 60.0
    rate.take("a", 3)
    assert refused(lambda: rate.take("a", 3)) == ("rate_limit_exceeded", 20)
    assert refused(lambda: rate.take("a", 1))[1] == 60  # a quota made smaller meanwhile


def test_a_days_tokens_are_bounded_also_for_requests_at_once() -> None:
    clock = Clock()
    tokens = DayTokens({"a": 60}, clock=clock.date)
    tokens.reserve("a", 100, 40)
    assert refused(lambda: tokens.reserve("a", 100, 40)) == ("rate_limit_exceeded", 2)
    tokens.settle("a", 40, day="2026-03-01", tokens=10)
    tokens.reserve("a", 100, 40)
    tokens.settle("a", 40, day="2026-03-01", tokens=50)
    assert tokens.used("a") == 120
    assert refused(lambda: tokens.reserve("a", 100, 1)) == ("insufficient_quota", 3600)
    tokens.reserve("a", None, 1)
    tokens.reserve("b", 100, 1)
    clock.now = 3601
    assert tokens.used("a") == 0
    tokens.reserve("a", 100, 1)
    tokens.settle("b", 1, day="2026-03-01", tokens=99)  # it arrived before midnight
    assert tokens.used("b") == 0


def test_one_client_holds_no_more_than_its_share() -> None:
    gate = Gate(4, 0.5)
    gate.enter("key a")
    gate.enter("key a")
    assert refused(lambda: gate.enter("key a"))[0] == "concurrency_limit_exceeded"
    gate.enter("key b")
    gate.enter()
    assert refused(lambda: gate.enter("key c"))[0] == "queue_full"
    gate.leave(1.0, "key a")
    gate.enter("key a")
