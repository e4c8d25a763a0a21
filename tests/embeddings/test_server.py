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
