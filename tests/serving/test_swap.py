"""A new release takes over while clients ask: nothing fails, nothing is mixed, nothing leaks."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from benchmarks.homes import PROMPT, promote
from headwater.release import manifest, pointer
from headwater.release.manifest import Release
from headwater.serving.client import wait_for_release
from headwater.serving.runtime import Runtime, load_runtime
from headwater.serving.server import serve_in_thread
from headwater.serving.swap import Deployment
from headwater.settings import Settings

Make = Callable[..., Release]


def post(url: str, client: httpx.Client, **body: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "What is a headwater?"}]} | body
    return client.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def places(response: httpx.Response) -> set[str]:
    return {cited["uri"].split(":")[0] for cited in response.json()["citations"]}


def test_swaps_drop_no_request_and_mix_no_releases(home: Settings, make_release: Make) -> None:
    old, new = make_release(home), make_release(home, index="new")
    promote(home, old)
    seen: list[tuple[str, set[str], int]] = []
    stop = threading.Event()

    def loop(url: str) -> None:
        with httpx.Client() as client:
            while not stop.is_set():
                reply = post(url, client, max_tokens=3)
                ok = reply.status_code == 200
                seen.append((reply.headers["X-Headwater-Release"], places(reply), ok))

    with serve_in_thread(home) as url:
        clients = [threading.Thread(target=loop, args=(url,)) for _ in range(3)]
        for thread in clients:
            thread.start()
        for release in (new, old, new):
            promote(home, release)
            wait_for_release(url, release.id, timeout=20)
            count = len(seen)
            while len(seen) < count + 10:
                time.sleep(0.01)
        stop.set()
        for thread in clients:
            thread.join()
    assert all(ok for _, _, ok in seen)
    assert {(release, *uris) for release, uris, _ in seen} == {(old.id, "old"), (new.id, "new")}
    assert [release for release, _, _ in seen[-3:]] == [new.id] * 3


def test_a_stream_ends_on_the_release_it_began_with(home: Settings, make_release: Make) -> None:
    old, new = make_release(home), make_release(home, index="new")
    promote(home, old)
    body = {"messages": [{"role": "user", "content": "What is a headwater?"}],
            "stream": True, "max_tokens": 400}  # fmt: skip
    with (
        serve_in_thread(home) as url,
        httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        promote(home, new)
        reloaded = httpx.post(f"{url}/admin/reload", timeout=30).json()
        assert reloaded == {"release": new.id, "canary": None}
        rest = [line for line in lines if line.startswith("data: {")]
    assert response.headers["X-Headwater-Release"] == old.id
    assert "old:///rivers.md" in [c["uri"] for c in json.loads(rest[-1][6:])["citations"]]


def test_a_release_that_cannot_be_loaded_leaves_the_old_one(
    home: Settings, make_release: Make
) -> None:
    good = make_release(home)
    promote(home, good)
    damaged = make_release(home, index="nowhere")
    with serve_in_thread(home) as url, httpx.Client() as client:
        promote(home, damaged)
        reply = client.post(f"{url}/admin/reload", timeout=30)
        assert reply.status_code == 500
        assert "no index version" in reply.json()["error"]["message"]
        ready = client.get(f"{url}/readyz")
        assert ready.status_code == 200
        assert ready.json()["release"] == good.id
        assert "no index version" in ready.json()["error"]
        assert post(url, client, max_tokens=1).headers["X-Headwater-Release"] == good.id
        promote(home, good)
        wait_for_release(url, good.id)
        assert client.post(f"{url}/admin/reload").status_code == 200
        assert client.get(f"{url}/readyz").json()["error"] is None
        assert 'swaps_total{outcome="failed"}' in client.get(f"{url}/metrics").text


def test_a_changed_model_file_is_not_loaded(home: Settings, make_release: Make) -> None:
    release = make_release(home)
    path = home.root / release.base_model.file
    content = path.read_bytes()
    path.unlink()  # a link to the origin's
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(manifest.IntegrityError, match="not what its release names"):
        load_runtime(home, release.id, None)


def test_another_embedding_model_is_not_served(home: Settings, make_release: Make) -> None:
    release = make_release(home, embedding_model="f" * 64)
    with pytest.raises(manifest.HeadwaterError, match="another embedding model"):
        load_runtime(home, release.id, None)


def test_releases_share_what_they_have_in_common(home: Settings, make_release: Make) -> None:
    first = load_runtime(home, make_release(home).id, None)
    prompt = replace(PROMPT, system="Be brief.")
    second = load_runtime(home, make_release(home, prompt=prompt).id, first)
    third = load_runtime(home, make_release(home, prompt=prompt, index="new").id, second)
    assert first.engine is second.engine is third.engine
    assert first.encoder is third.encoder
    assert first.shared_index is second.shared_index is not third.shared_index
    first.close()
    assert second.retriever.retrieve("river", limit=1)[0].uri.startswith("old:")
    second.close()
    assert len(list((home.indexes / ".open").iterdir())) == 1  # the third's
    assert third.engine.complete("a", max_tokens=1).completion_tokens == 1
    third.close()
    assert list((home.indexes / ".open").iterdir()) == []


def test_a_release_brings_its_reranker(home: Settings, make_release: Make) -> None:
    fields = {**make_release(home).retrieval, "reranker": "late-interaction/1", "rerank_first": 5}
    release = make_release(home, retrieval=fields)
    first = load_runtime(home, release.id, None)
    newer = make_release(home, retrieval=fields, index="new")
    second = load_runtime(home, newer.id, first)
    plain = load_runtime(home, make_release(home).id, second)
    found = first.retriever.find("What is a headwater?", limit=2)
    assert found.hits and found.rerank_ms is not None
    assert first.retriever.reranker is second.retriever.reranker is not None
    assert plain.retriever.reranker is None
    assert plain.retriever.find("What is a headwater?", limit=2).rerank_ms is None
    for each in (first, second, plain):
        each.close()
    missing = {**fields, "reranker": f"cross-encoder/{'a' * 64}"}
    with pytest.raises(manifest.HeadwaterError, match="HEADWATER_RERANKER names no folder"):
        load_runtime(home, make_release(home, retrieval=missing).id, None)


def test_a_load_that_fails_half_way_frees_what_it_took(home: Settings, make_release: Make) -> None:
    first = load_runtime(home, make_release(home).id, None)
    with pytest.raises(manifest.HeadwaterError, match="no index version"):
        load_runtime(home, make_release(home, index="nowhere").id, first)
    first.close()
    with pytest.raises(manifest.HeadwaterError, match="closed"):
        first.engine.complete("a", max_tokens=1)


class FakeRuntime:
    """Notes when it is closed."""

    def __init__(self, release: str) -> None:
        self.id, self.closed = release, False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def fake_deployment(settings: Settings, made: list[FakeRuntime]) -> Deployment:
    def load(release: str, before: Runtime | None) -> Any:
        made.append(FakeRuntime(release))
        return made[-1]

    return Deployment(settings, load)


def test_the_old_runtime_is_freed_by_its_last_request(home: Settings, make_release: Make) -> None:
    made: list[FakeRuntime] = []
    deployment = fake_deployment(home, made)
    promote(home, make_release(home))
    deployment.refresh()
    with deployment.lease() as outer:
        with deployment.lease() as inner:
            assert inner is outer
            promote(home, make_release(home, index="new"))
            assert deployment.refresh() == made[1].id
            assert deployment.refresh() == made[1].id
            assert len(made) == 2
        assert not made[0].closed
        with deployment.lease() as newer:
            assert newer.id == pointer.current(home)
    assert made[0].closed
    assert not made[1].closed
    deployment.close()
    assert made[1].closed


def test_close_waits_for_the_last_request(home: Settings, make_release: Make) -> None:
    made: list[FakeRuntime] = []
    deployment = fake_deployment(home, made)
    promote(home, make_release(home))
    deployment.refresh()
    lease = deployment.lease()
    lease.__enter__()
    closing = threading.Thread(target=deployment.close)
    closing.start()
    time.sleep(0.05)
    assert not made[0].closed
    lease.__exit__(None, None, None)
    closing.join()
    assert made[0].closed
