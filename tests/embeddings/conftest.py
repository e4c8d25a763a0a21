import pytest

from headwater.lake import Lake
from tests.embeddings.examples import WordEncoder, corpus, write_chunks


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def lake(tmp_path) -> Lake:
    """A lake with the chunks of eight documents in four shards."""
    lake = Lake(tmp_path / "lake")
    write_chunks(lake, corpus())
    return lake
