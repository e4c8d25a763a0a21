from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from qdrant_client import QdrantClient

from headwater.embeddings.server import ServerStore
from headwater.errors import HeadwaterError, IntegrityError
from tests.embeddings.examples import contents, corpus


@pytest.fixture
def store() -> ServerStore:
    return ServerStore(QdrantClient(":memory:"))


def test_what_a_killed_build_left_is_dropped_by_the_next(store):
    store._create("headwater-v1-123", 32, 8)  # filled in part, never named
    assert store.versions() == []
    store.build("v1", contents(corpus()))
    names = [collection.name for collection in store.client.get_collections().collections]
    assert len(names) == 1 and names[0] != "headwater-v1-123"


def test_lost_points_are_found_by_verify(store):
    store.build("v1", contents(corpus()))
    store.verify("v1")
    points, _ = store.client.scroll("headwater-v1", limit=1)
    store.client.delete("headwater-v1", [points[0].id])
    with pytest.raises(IntegrityError, match="7 points, not 8"):
        store.verify("v1")


def test_collections_of_others_are_left_alone(store):
    store._create("theirs", 4, 0)
    store.build("v1", contents(corpus()))
    store.delete("v1")
    assert [c.name for c in store.client.get_collections().collections] == ["theirs"]


def test_no_server_is_an_error_with_a_mend():
    with pytest.raises(HeadwaterError, match="HEADWATER_VECTORS=edge"):
        ServerStore.connect("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (401, "HEADWATER_QDRANT_API_KEY"),
        (403, "HEADWATER_QDRANT_API_KEY"),
        (404, "HEADWATER_QDRANT_URL"),
    ],
)
def test_a_server_that_refuses_is_an_error_with_a_mend(refusing, status, mend):
    url, asked = refusing(status)
    with pytest.raises(HeadwaterError, match=f"says {status}") as raised:
        ServerStore.connect(url, "a-key")
    assert mend in raised.value.mend
    assert asked == ["a-key"], "the key is sent"
    assert "a-key" not in str(raised.value)


@pytest.fixture
def refusing() -> Iterator[Callable[[int], tuple[str, list[str | None]]]]:
    """Starts a server that answers everything with a status; gives its URL and the keys it was sent."""
    servers = []

    def start(status: int) -> tuple[str, list[str | None]]:
        asked: list[str | None] = []

        class Refusal(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.headers["api-key"])
                self.send_error(status)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_stores_of_another_prefix_do_not_see_each_other(store):
    other = ServerStore(store.client, "elsewhere-")
    store.build("v1", contents(corpus()))
    assert other.versions() == []
    other.build("v1", contents(corpus()[:3]))
    assert (store.open("v1").count(), other.open("v1").count()) == (8, 3)
    other.delete("v1")
    assert store.versions() == ["v1"]
