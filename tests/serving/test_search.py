"""`headwater search`: which index it looks at, what it tells, and what it says where it cannot."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import homes
from headwater.cli import app
from headwater.embeddings.encoder import Encoder
from headwater.embeddings.store import open_store
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.release.manifest import Release
from headwater.serving import search as module
from headwater.serving.search import search
from headwater.settings import Settings
from tests.embeddings.examples import (
    SHARDS,
    WordEncoder,
    chunk,
    contents,
    corpus,
    shard_keys,
    write_chunks,
)

#: Its words are nearest to one passage, by both rankings (tests/embeddings/test_retrieve.py).
QUESTION = "What is reserved by the variable __slots__ ?"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with one index and the documents it was made from, no release."""
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    monkeypatch.setenv("HEADWATER_SHARDS", str(SHARDS))
    monkeypatch.setattr(module, "open_encoder", lambda *_: WordEncoder())
    settings = Settings()
    rows = corpus()
    open_store(settings).build("v1", contents(rows))
    lake = Lake(settings.lake)
    write_chunks(lake, rows)
    raw = [
        {"uri": row["uri"], "source": "test", "shard": row["shard"], "etag": "1", "licence": "MIT",
         "media_type": "text/plain", "size": 7, "content": b"content", "digest": "d",
         "access": ["hr"] if row["heading"] == "slots" else None}
        for row in rows
    ]  # fmt: skip
    lake.replace("raw_documents", rows_to_table("raw_documents", raw), keys=shard_keys())
    duplicate = {"uri": "doc://copy", "source": "test", "shard": "00", "cluster": "c",
                 "survivor": "doc://slots", "similarity": 1.0, "kind": "exact"}  # fmt: skip
    lake.overwrite("duplicates", rows_to_table("duplicates", [duplicate]))
    return settings


def run(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(app, ["search", *arguments, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_without_an_index_the_mend_is_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    found, said = run("anything", code=1)
    assert found["error"] == "No index is published yet." and "headwater build" in found["mend"]
    assert "mend: Run `headwater build`." in said


def test_the_command_tells_the_hits(settings: Settings) -> None:
    found, said = run(QUESTION, "--k", "3")
    assert (found["index"], found["points"], found["release"]) == ("v1", 8, None)
    assert (found["question"], found["mode"]) == (QUESTION, "fused")
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    first = found["hits"][0]
    assert (first["uri"], first["dense"]["rank"], first["bm25"]["rank"]) == ("doc://slots", 1, 1)
    assert first["score"] == 1 and "terms" not in first and "words" not in found
    assert "doc://slots" in said and "dense 1" in said
    assert run(QUESTION, "--mode", "bm25")[0]["hits"][0]["dense"] is None


def test_the_command_explains_them(settings: Settings) -> None:
    found, said = run(QUESTION, "--explain")
    first = found["hits"][0]
    assert sum(first["fusion"].values()) == pytest.approx(first["score"])
    assert {"slots", "variable"} <= {term["word"] for term in first["terms"]}
    assert first["kept"] and first["similarity"] > found["least_similarity"]
    assert first["document"] == {
        "source": "test", "media_type": "text/plain", "size": 7, "licence": "MIT",
        "access": ["hr"], "digest": "d", "chunk": "same", "stands_for": ["doc://copy"],
    }  # fmt: skip
    assert not all(hit["kept"] for hit in found["hits"])
    for part in ("0.5 x 61/(60+1) + 0.5 x 61/(60+1) = 1.0000", "too far, not shown", "access hr"):
        assert part in said, said
    for mode in ("dense", "bm25"):
        other, said = run(QUESTION, "--explain", "--mode", mode)
        assert other["hits"][0]["kept"] is None and "fusion" not in said


class TokenEncoder(WordEncoder):
    """Its tokens are words."""

    def token_vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.encode(text.split()) for text in texts]


def test_the_command_tells_what_a_reranker_moved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, said = run(QUESTION, "--k", "8")
    assert "rerank" not in said and plain["hits"][0]["reranked"] is None
    assert "reranker" not in plain["retrieval"]
    monkeypatch.setattr(module, "open_encoder", lambda *_: TokenEncoder())
    monkeypatch.setenv("HEADWATER_RERANKER", "late-interaction")
    monkeypatch.setenv("HEADWATER_RERANK_FIRST", "4")
    found, said = run(QUESTION, "--k", "8", "--explain")
    assert (found["retrieval"]["reranker"], found["retrieval"]["rerank_first"]) == (
        "late-interaction/1", 4,
    )  # fmt: skip
    uris = [hit["uri"] for hit in plain["hits"]]
    moved = [hit["reranked"] for hit in found["hits"]]
    assert [hit["uri"] for hit in found["hits"][:4]] == [
        uris[each["before"] - 1] for each in moved[:4]
    ]
    assert [each["after"] for each in moved[:4]] == [1, 2, 3, 4] and moved[4:] == [None] * 4
    scores = [each["score"] for each in moved[:4]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1
    assert [hit["uri"] for hit in found["hits"][4:]] == uris[4:]
    assert f"rerank  {moved[0]['before']} to 1, by late-interaction {scores[0]:.4f}" in said
    assert said.count("not among the first 4, not looked at") == 4
    other, said = run(QUESTION, "--mode", "dense")
    assert other["hits"][0]["reranked"] is None and "rerank" not in said


def test_what_changed_since_the_index_was_made_is_said(settings: Settings) -> None:
    lake = Lake(settings.lake)
    rows = [row for row in corpus() if row["heading"] != "yield"]
    for at, row in enumerate(rows):
        if row["heading"] == "slots":
            rows[at] = {**row, "start": 5, "end": row["end"] + 5}
        if row["heading"] == "with":
            rows[at] = chunk(row["uri"], "Another text.", ordinal=1)
    write_chunks(lake, rows)
    gone = lake.read("raw_documents").to_pylist()
    kept = [row for row in gone if row["uri"] != "doc://yield"]
    lake.replace("raw_documents", rows_to_table("raw_documents", kept), keys=shard_keys())
    found = search(settings, "statement", limit=8, whole=True)
    states = {hit["uri"].removeprefix("doc://"): hit["document"]["chunk"] for hit in found["hits"]}
    assert (states["slots"], states["with"], states["yield"]) == ("moved", "changed", "gone")
    assert states["raise"] == "same"


def test_an_index_is_named_by_the_beginning_of_its_version(settings: Settings) -> None:
    open_store(settings).build("v2", contents(corpus()[:2]))
    assert search(settings, "statement")["index"] == "v2"
    assert search(settings, "statement", index="v1")["points"] == 8
    for name, number in (("v", 2), ("x", 0)):
        with pytest.raises(HeadwaterError, match=f"{number} index versions") as raised:
            search(settings, "statement", index=name)
        assert "v1, v2" in raised.value.mend


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_no_question(settings: Settings, question: str) -> None:
    assert run(question, code=1)[0]["error"] == "The question is empty."


def test_wrong_usage_is_told_apart(settings: Settings) -> None:
    for arguments in (["x", "--mode", "sparse"], ["x", "--k", "0"], []):
        assert CliRunner().invoke(app, ["search", *arguments]).exit_code == 2


def test_it_searches_as_the_release_that_serves(
    home: Settings, make_release: Callable[..., Release], encoder: Encoder
) -> None:
    """Its index, though another is newer, and its settings."""
    release = make_release(home, retrieval={"limit": 5, "depth": 7, "rrf_k": 3, "relevance": 0.1})
    homes.promote(home, release)
    found = search(home, "What is a headwater?", whole=True, encoder=lambda _: encoder)
    assert (found["index"], found["release"]) == ("old", release.id)
    assert found["retrieval"]["depth"] == 7 and found["retrieval"]["rrf_k"] == 3
    assert found["prompt_passages"] == release.prompt.top_k
    assert found["hits"][0]["uri"] == "old:///rivers.md"
    assert found["hits"][0]["document"]["chunk"] == "gone", "this home has no lake"
    newer = search(home, "What is a headwater?", index="new", encoder=lambda _: encoder)
    assert newer["release"] is None and newer["hits"][0]["uri"] == "new:///rivers.md"


def test_another_embedding_model_than_the_index_has_is_refused(
    home: Settings, make_release: Callable[..., Release]
) -> None:
    homes.promote(home, make_release(home))
    with pytest.raises(HeadwaterError, match="another embedding model"):
        search(home, "What is a headwater?", encoder=lambda _: WordEncoder("other"))
