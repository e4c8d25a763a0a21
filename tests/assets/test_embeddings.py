"""What the assets of `embeddings` tell a person in Dagster's UI."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.embeddings import vector_index
from headwater.datasets.outliers import read_outliers, text_id
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.encoder import model_digest
from headwater.embeddings.map import EmbeddingMap, Outlier, embedding_map
from headwater.lake import Lake, rows_to_table
from headwater.records import shard_of
from headwater.serving.verdict_log import VerdictEntry, VerdictLog, log_folder
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource
from tests.embeddings.examples import WordEncoder, corpus, shard_keys, write_chunks


def with_an_outlier(lake: Lake, model: str) -> EmbeddingMap | None:
    """The real map with one outlier of a known document: eight texts need not have any."""
    found = embedding_map(lake, model)
    assert found is not None
    uri = lake.read("document_shards", columns=["uri"])["uri"].to_pylist()[0]
    odd = Outlier(
        id="1", uri=uri, start=0, end=3, heading="", text="odd", distance=0.9, nearest="n"
    )
    return replace(found, outliers=(odd, *found.outliers))


def test_the_index_is_materialized_with_its_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    settings = Settings()
    lake = Lake(settings.lake)
    write_chunks(lake, corpus())
    # Other vectors under the model's name: no model is loaded where nothing is encoded.
    encoder = WordEncoder(model_digest(settings.embedding_model))
    monkeypatch.setattr("headwater.embeddings.map.embedding_map", with_an_outlier)
    chunks = lake.read("document_shards", columns=["uri"])["uri"].to_pylist()
    shard = shard_of(chunks[0], settings.shards)
    document = {
        "uri": chunks[0], "source": "s", "shard": shard, "title": "T", "language": "en",
        "text": "", "headings": [], "licence": "", "input_digest": "", "digest": "d",
    }  # fmt: skip
    lake.replace("clean_documents", rows_to_table("clean_documents", [document]), keys=[shard])
    log = VerdictLog(log_folder(settings))
    log.append(
        VerdictEntry(
            time=datetime.now(UTC), id=text_id(chunks[0], "d"), uri=chunks[0], digest="d",
            title="T", verdict="keep", user="ann",
        )
    )  # fmt: skip
    log.close()
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
    assert metadata["outliers"] >= 1
    # What the map shows is what is asked of, and what was said stands beside it.
    (queued, *_) = read_outliers(settings)
    assert (queued.uri, queued.digest, queued.distance) == (chunks[0], "d", 0.9)
    assert "ann" in metadata["map"]
    assert "8 distinct ones of 8 chunks" in metadata["map"]
    assert "data:image/png;base64," in metadata["map"]
