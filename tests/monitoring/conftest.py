"""Releases and requests of an installation that has served for a while."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from headwater.lake import Lake, rows_to_table
from headwater.records import Prompt, digest_bytes, digest_of
from headwater.release.manifest import AdapterPin, BasePin, Release, save
from headwater.settings import Settings

WORDS = {
    "python": ["list", "dict", "class", "generator", "closure", "decorator", "slice", "lambda"],
    "garden": ["rose", "tulip", "compost", "spade", "hedge", "lawn", "pruning", "mulch"],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings.lake)


@pytest.fixture
def pictured() -> None:
    """Asked for by a test whose reports are to have what `unpictured` leaves out."""


@pytest.fixture
def unpictured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drift reports without pictures and Evidently's page: most of their time, and nothing of what
    is decided. For a module; a test of it that looks at them asks for `pictured`."""
    if "pictured" in request.fixturenames:
        return
    for name in ("evidence_plot", "topics_plot", "numbers_plot"):
        monkeypatch.setattr(f"headwater.monitoring.drift.{name}", lambda *_: b"")
    monkeypatch.setattr("headwater.monitoring.drift.write_evidently", lambda *_: None)


def release_with(settings: Settings, adapter: str, prompt: str = "p") -> str:
    """Save a release whose adapter has this id, and return the release's id."""
    pin = AdapterPin(id=adapter, digest=digest_of(adapter), file="a", file_digest="f")
    release = Release(
        base_model=BasePin(name="tiny", digest="b", file="b", file_digest="f"),
        adapter=pin,
        prompt=Prompt(system=prompt, user="{question}", max_context_tokens=10, top_k=1),
        index="i",
        embedding_model="e",
        retrieval={},
    )
    return save(settings, release).id


def ask(
    release: str, count: int, *, topic: str = "python", day: str = "2026-01-02", first: int = 0,
    answer_words: int = 12, status: str = "ok", seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Requests about a topic, one a minute."""
    random = np.random.default_rng([seed, first])
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    rows = []
    for number in range(first, first + count):
        words = random.choice(WORDS[topic], 3)
        rows.append(
            {
                "day": day, "trace": f"{release[:6]}-{day}-{number:05d}", "release": release,
                "arm": "champion", "session": "s", "key": "", "ungrounded": 0.5, "guard": [],
                "time": start + timedelta(minutes=number % 1440), "status": status,
                "question": f"What has {words[0]} to do with {words[1]} and {words[2]} "
                f"{random.integers(100, 1000)}?",
                "answer": "word " * int(answer_words + random.integers(0, 4)),
                "streamed": False, "refused": bool(random.random() < 0.1), "uris": ["a", "b"],
                "scores": [0.5 + float(random.normal(0, 0.05))], "chunk_ids": ["c"],
                "prompt_tokens": 5, "completion_tokens": 5, "retrieve_ms": 1.0,
                "generate_ms": 1.0, "total_ms": 2.0, "energy_wh": 0.01,
                "cost": 0.001, "spans": [],
            }
        )  # fmt: skip
    return rows


def log_requests(lake: Lake, rows: Sequence[dict[str, Any]]) -> None:
    """Put requests of one day into the lake."""
    lake.replace("requests", rows_to_table("requests", rows), keys=[rows[0]["day"]])


class WordEncoder:
    """Vectors of the words in a text: a stand-in for MiniLM that needs no model."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.calls += 1
        vectors = np.zeros((len(texts), 64), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, int(digest_bytes(word.encode())[:8], 16) % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
