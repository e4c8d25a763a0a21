"""Releases that really answer: the tiny model, an index of five documents, the real encoder."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from headwater.base_model import TINY, BaseModel, prepare
from headwater.embeddings.encoder import Encoder
from headwater.embeddings.retrieve import RetrievalSettings
from headwater.embeddings.store import Contents, Point, open_store
from headwater.records import Prompt, digest_of
from headwater.release import manifest, pointer
from headwater.release.manifest import Release, pin_base
from headwater.serving.server import serve_in_thread
from headwater.settings import Settings

#: Small, as random weights answer nothing anyway.
PROMPT = Prompt(
    system="Answer from the context.",
    user="{context}\n\nQuestion: {question}",
    max_context_tokens=200,
    top_k=3,
)
TEXTS = {
    "snow": "A snowman is made of three balls of snow. Carrots serve as noses.",
    "rivers": "A headwater is the beginning of a river, often a spring in the mountains.",
    "bread": "Sourdough bread rises because of wild yeast that lives in the flour.",
    "clocks": "A pendulum clock counts the swings of a weight; its period depends on the length.",
    "bees": "Honey bees dance to tell each other where flowers are.",
}


def passages(place: str, texts: dict[str, str] = TEXTS) -> list[dict[str, object]]:
    """Payloads of an index, one chunk a document, with URIs at `place`."""
    return [
        {
            "id": f"{place}-{name}",
            "uri": f"{place}:///{name}.md",
            "title": name,
            "heading": name.title(),
            "start": 0,
            "end": len(text.encode()),
            "text": text,
        }
        for name, text in texts.items()
    ]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder(Settings().embedding_model, 2)


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Settings:
    """A home with two index versions, `old` and `new`, and the tiny model; tests copy it."""
    settings = Settings(home=tmp_path_factory.mktemp("origin"), base_model=TINY, threads=2)
    prepare(settings)
    for version in ("old", "new"):
        build_index(settings, encoder, version, passages(version))
    return settings


def build_index(
    settings: Settings, encoder: Encoder, version: str, rows: Sequence[dict[str, object]]
) -> None:
    vectors = encoder.encode([f"{row['heading']}\n{row['text']}" for row in rows])
    points = {
        str(row["id"]): Point(id=str(row["id"]), digest=digest_of(row), vector=vector, payload=row)
        for row, vector in zip(rows, vectors, strict=True)
    }
    contents = Contents(
        dimension=encoder.dimension,
        digests={id: point.digest for id, point in points.items()},
        fetch=lambda ids: iter([points[id] for id in ids]),
    )
    open_store(settings).build(version, contents)


@pytest.fixture(scope="session")
def base(origin: Settings) -> BaseModel:
    return prepare(origin)


@pytest.fixture(scope="session")
def make_release(encoder: Encoder) -> Callable[..., Release]:
    """Save a release of a home; any field can be chosen."""

    def make(settings: Settings, **fields: object) -> Release:
        values: dict[str, object] = {
            "base_model": pin_base(settings, prepare(settings)),
            "adapter": None,
            "prompt": PROMPT,
            "index": "old",
            "embedding_model": encoder.digest,
            "retrieval": dataclasses.asdict(RetrievalSettings()),
        }
        return manifest.save(settings, Release(**(values | fields)))  # type: ignore[arg-type]

    return make


def promote(settings: Settings, release: Release) -> None:
    pointer.promote(settings, release.id, pointer.current(settings), actor="test")


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
    promote(origin, release)
    with serve_in_thread(origin) as url:
        yield url, release
