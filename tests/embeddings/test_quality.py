"""The real model on the real corpus: does retrieval find what the golden set asks for?"""

import pytest

from headwater.datasets.golden import load_curated
from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.raw import update_raw
from headwater.documents.sources import load_sources
from headwater.embeddings.edge import EdgeStore
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.encoder import Encoder
from headwater.embeddings.index import publish_index
from headwater.embeddings.retrieve import Retriever, open_retriever
from headwater.evaluation.ranking import first_relevant, ndcg_at, recall_at
from headwater.lake import Lake
from headwater.settings import Settings

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def retriever(tmp_path_factory, encoders):
    home = tmp_path_factory.mktemp("home")
    settings, lake = Settings(home=home), Lake(home / "lake")
    shards = settings.shard_keys()
    sources = load_sources(home / "none.yaml")
    update_raw(lake, sources, shards, settings.shards, settings.max_document_bytes)
    clean_documents(lake, shards, settings.max_text_chars)
    shard_documents(lake, shards, settings.chunk_tokens, settings.embedding_model)
    encoder, store = (
        Encoder(settings.embedding_model, settings.threads, encoders),
        EdgeStore(home / "index"),
    )
    embed_chunks(lake, shards, encoder)
    publish_index(lake, store, model_digest=encoder.digest)
    with open_retriever(store, encoder) as retriever:
        yield retriever


def ranks(retriever: Retriever, mode: str) -> list[int | None]:
    items = load_curated()
    found = retriever.retrieve_many([item.question for item in items], mode, 10)
    return [
        first_relevant([hit.uri for hit in hits], item.uris)
        for item, hits in zip(items, found, strict=True)
    ]


def test_fusion_beats_both_and_finds_nearly_all(retriever):
    found = {mode: ranks(retriever, mode) for mode in ("dense", "bm25", "fused")}
    ndcg = {mode: sum(ndcg_at(r, 10) for r in of) / len(of) for mode, of in found.items()}
    recall = sum(recall_at(rank, 5) for rank in found["fused"]) / len(found["fused"])
    print(f"nDCG@10 {ndcg}, recall@5 {recall:.3f}")
    assert ndcg["fused"] >= max(ndcg["dense"], ndcg["bm25"])
    assert recall >= 0.9
