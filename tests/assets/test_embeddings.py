"""What the assets of `embeddings` tell a person in Dagster's UI."""

from pathlib import Path

import dagster as dg
import pytest

from assets.embeddings import vector_index
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.encoder import model_digest
from headwater.lake import Lake
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource
from tests.embeddings.examples import WordEncoder, corpus, shard_keys, write_chunks


def test_the_index_is_materialized_with_its_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    settings = Settings()
    lake = Lake(settings.lake)
    write_chunks(lake, corpus())
    # Other vectors under the model's name: no model is loaded where nothing is encoded.
    encoder = WordEncoder(model_digest(settings.embedding_model))
    embed_chunks(lake, shard_keys(), encoder)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [vector_index],
            instance=instance,
            resources={
                "settings": SettingsResource(home=str(settings.root)),
                "lake": LakeResource(path=str(settings.lake)),
                "vectors": VectorsResource(),
                "models": ModelsResource(),
            },
        )
        (event,) = result.get_asset_materialization_events()
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    assert (metadata["points"], metadata["added"], metadata["already_published"]) == (8, 8, False)
    assert isinstance(metadata["outliers"], int)
    assert "8 distinct ones of 8 chunks" in metadata["map"]
    assert "data:image/png;base64," in metadata["map"]
