"""Releases that really answer: the tiny model, an index of five documents, the real encoder."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import homes
from headwater.base_model import TINY, BaseModel, prepare
from headwater.embeddings.encoder import AnyEncoder, Encoder, open_encoder
from headwater.guardrails.policy import NO_GUARDRAILS
from headwater.lake import Lake, rows_to_table
from headwater.records import shard_of
from headwater.release.manifest import Release
from headwater.serving.feedback_log import read_feedback
from headwater.serving.request_log import RequestEntry, RequestLog, log_folder
from headwater.serving.server import serve_in_thread
from headwater.settings import Settings


@pytest.fixture(scope="session")
def encoder(encoders: Path) -> Encoder:
    return Encoder(Settings().embedding_model, 2, encoders)


@pytest.fixture(scope="session")
def opened(encoders: Path) -> Callable[[str, int], AnyEncoder]:
    """Opens a model once for all of this process."""
    return cache(lambda model, threads: open_encoder(model, threads, encoders))


@pytest.fixture(scope="module", autouse=True)
def _one_encoder(opened: Callable[[str, int], AnyEncoder]) -> Iterator[None]:
    """Endpoints in threads share an encoder: to load it is nearly all that their start computes.

    That each finds its own home's is shown by the tests whose endpoint is a process.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "headwater.serving.runtime.open_encoder",
            lambda model, threads, kept: opened(model, threads),
        )
        yield


@pytest.fixture(scope="session")
def origin(
    furnished: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory, encoder: Encoder
) -> Settings:
    """A home with two index versions, `old` and `new`, and the tiny model; tests copy it."""
    settings = Settings(
        home=furnished(tmp_path_factory.mktemp("origin")), base_model=TINY, threads=2
    )
    prepare(settings)
    for version in ("old", "new"):
        homes.build_index(settings, encoder, version, homes.passages(version))
    return settings


@pytest.fixture(scope="session")
def base(origin: Settings) -> BaseModel:
    return prepare(origin)


@pytest.fixture(scope="session")
def make_release() -> Callable[..., Release]:
    """Save a release of a home, without guards; any field can be chosen."""

    def make(settings: Settings, **fields: object) -> Release:
        return homes.make_release(
            settings, **({"index": "old", "guardrails": NO_GUARDRAILS} | fields)
        )

    return make


def copy_home(origin: Settings, folder: Path) -> Settings:
    """A home with the same models and indexes, no release yet; the files are hard links."""
    ignored = shutil.ignore_patterns(".open", "serving", "releases")
    shutil.copytree(origin.root, folder / "home", ignore=ignored, copy_function=os.link)
    return Settings(home=folder / "home", base_model=TINY, threads=2)


@pytest.fixture
def home(origin: Settings, tmp_path: Path) -> Settings:
    return copy_home(origin, tmp_path)


@pytest.fixture(scope="session")
def served(origin: Settings, make_release: Callable[..., Release]) -> Iterator[tuple[str, Release]]:
    """An endpoint over the origin for tests that only ask: its URL and its release."""
    release = make_release(origin)
    homes.promote(origin, release)
    with serve_in_thread(origin) as url:
        yield url, release


def fill_lake(
    settings: Settings, rows: Sequence[dict[str, Any]], *, before: str = "", after: str = ""
) -> None:
    """Documents and chunks of the lake for the payloads of an index, the texts amid others."""
    lake = Lake(settings.lake)
    lake.ensure(["clean_documents", "document_shards", "golden_set"])
    documents, chunks = [], []
    for row in rows:
        common = {"uri": row["uri"], "source": "s", "shard": shard_of(row["uri"], settings.shards)}
        documents.append(
            {**common, "title": row["title"], "language": "en", "headings": [], "licence": "",
             "text": f"{before}{row['text']}{after}", "input_digest": "", "digest": ""}
        )  # fmt: skip
        chunks.append({**common, **row, "ordinal": 0, "tokens": 9, "embed_digest": row["id"],
                       "digest": "", "input_digest": ""})  # fmt: skip
    keys = sorted({row["shard"] for row in chunks})
    lake.replace("clean_documents", rows_to_table("clean_documents", documents), keys=keys)
    lake.replace("document_shards", rows_to_table("document_shards", chunks), keys=keys)


def log_answer(settings: Settings, *entries: dict[str, Any]) -> None:
    """Write requests into the endpoint's log as if they had been answered just now."""
    log = RequestLog(log_folder(settings))
    for number, entry in enumerate(entries):
        fields: dict[str, Any] = {
            "trace": f"{number:032x}", "time": datetime.now(UTC), "release": "r",
            "question": "What is a headwater?", "answer": "A river's beginning.", "status": "ok",
            "arm": "champion", "session": "s", "ungrounded": 0.5, "guard": (),
            "streamed": False, "refused": False, "uris": ("old:///rivers.md",), "scores": (0.9,),
            "chunk_ids": ("old-rivers",), "prompt_tokens": 1, "completion_tokens": 1,
            "retrieve_ms": 1.0, "generate_ms": 1.0, "total_ms": 2.0,
        }  # fmt: skip
        log.append(RequestEntry(**{**fields, **entry}))
    log.close()


@dataclass
class Endpoint:
    """A served home of a test's own."""

    url: str
    settings: Settings
    release: Release

    def ask(self, question: str = "What is a headwater?") -> httpx.Response:
        message = {"role": "user", "content": question}
        body = {"messages": [message], "max_tokens": 8}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=60)

    def get(self, path: str, **params: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", params=params, timeout=60)

    def said(self) -> list[dict[str, Any]]:
        return list(read_feedback(self.settings, datetime.now(UTC).date().isoformat()).rows)
