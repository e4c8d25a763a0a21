"""The data layer in small: a corpus and an edit of it, the stages of a build, and what a home holds.

Stages are those of a build with their own code; only the sizes at which they commit are small, so
that each makes several commits. Knows nothing of kills. Embedding is by hashed words.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

from headwater import versions
from headwater.datasets.golden import build_golden_set
from headwater.datasets.sft import build_sft_dataset
from headwater.documents import spool, stage
from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.duplicates import find_duplicates
from headwater.documents.kinds.table import TableSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource, Source
from headwater.embeddings import embed
from headwater.embeddings.edge import LIST, EdgeStore
from headwater.embeddings.index import publish_index
from headwater.embeddings.retrieve import RetrievalSettings, open_retriever
from headwater.embeddings.static import StaticEncoder
from headwater.embeddings.store import POINTS
from headwater.files import read_json
from headwater.lake import Lake
from headwater.monitoring.retention import retain
from headwater.records import Prompt, digest_of
from headwater.release import manifest, pointer
from headwater.release.manifest import BasePin, Release
from headwater.settings import Settings
from headwater.tables import SCHEMAS

MODEL, SHARDS, CHUNK_TOKENS = "static:64", 4, 48
_MAX_BYTES, _MAX_CHARS = 2**20, 2**20
#: Documents of the corpus, and the first of those that only the edit brings.
_DOCUMENTS, _NEW = 8, 20
_QUESTION = "What lets one person on board of boat 3?"
_PROMPT = Prompt(
    system="Answer from the context.",
    user="{context}\n\nQuestion: {question}",
    max_context_tokens=200,
    top_k=3,
)
#: What the newest index finds: the score of each hit, by ranking.
FINDS = "index finds"
#: What a killed process may leave, by path within the home, and what removes it.
HALF_FILE, HALF_INDEX, HALF_DELETED = "half-written file", "half-built index", "half-deleted index"
PRIVATE, SPOOL, NO_VERSION = "private copy of an index", "spool", "data file of no version"
UNSEEN, UNFINISHED = "data file that retention does not find", "unfinished file of a table"
REMOVED_BY = {
    HALF_FILE: "the next write of the same file, a day later",
    HALF_INDEX: "the next build of the same index, or of any a day later",
    HALF_DELETED: "the next build of an index, a day later",
    NO_VERSION: "lake_retention, or `headwater data vacuum`",
    UNFINISHED: "lake_retention, a day later",
}
_LEFT = (
    (re.compile(r"(?:.*/)?\.[^/]+\.partial"), HALF_FILE),
    (re.compile(r"indexes/\.[^/]+\.partial-[^/]+"), HALF_INDEX),
    (re.compile(r"indexes/\.deleted-[^/]+"), HALF_DELETED),
    (re.compile(r"indexes/\.open/[^/]+"), PRIVATE),
    (re.compile(r"lake/\.spool-[^/]+"), SPOOL),
    (re.compile(r"lake/[a-z_]+/(?:.*/)?(?:[^/]+#\d+|_commit_[^/]+)"), UNFINISHED),
)
#: What is compared by its content, not by its files.
_BY_CONTENT = re.compile(r"lake/[a-z_]+/.*|indexes/[0-9a-f]{64}")


@dataclass(frozen=True)
class Place:
    """A corpus, and the home that it is built in."""

    corpus: Path
    home: Path

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, shards=SHARDS, threads=1)

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake, run="crash")

    @property
    def store(self) -> EdgeStore:
        return EdgeStore(self.settings.indexes, threads=1)


def commit_small() -> None:
    """Have every stage commit every shard by itself, and embeddings in between."""
    stage.COMMIT_BYTES = embed.HELD_BYTES = 1
    embed.COMMIT_EVERY, embed.COMMIT_SECONDS = 8, 0.0
    spool.BUFFER_BYTES = 64


def write_corpus(corpus: Path) -> None:
    """Documents in a folder and rows of a table: a copy, an empty file and a bad row among them."""
    documents = corpus / "documents"
    documents.mkdir(parents=True)
    for number in range(_DOCUMENTS):
        (documents / f"{number}.md").write_text(_document(number))
    (documents / "copy.md").write_text(_document(3))
    (documents / "empty.txt").write_text("")
    rows = [{"id": f"r{number}", "text": _document(100 + number)} for number in range(4)]
    _write_rows(corpus, [*rows, {"id": "bad"}])


def edit_corpus(corpus: Path) -> None:
    """Something of each kind for every stage: new, changed, removed, moved into and out of
    quarantine, a duplicate more and one less, and an edit of whitespace alone.
    """
    documents = corpus / "documents"
    for number in (0, 1):
        (documents / f"{number}.md").write_text(_document(number, edition=1))
    (documents / "2.md").write_text(_document(2).replace("\n\n", "\n\n\n"))
    (documents / "5.md").unlink()
    (documents / "7.md").write_text("")
    (documents / "new.md").write_text(_document(_NEW))
    (documents / "copy.md").write_text(_document(_NEW + 1))
    (documents / "twin.md").write_text(_document(6))
    (documents / "empty.txt").write_text(_document(_NEW + 2))
    rows: list[dict[str, str]] = [
        {"id": "r0", "text": _document(100, edition=1)},
        {"id": "r2"},
        {"id": "r3", "text": _document(103)},
        {"id": "r4", "text": _document(104)},
        {"id": "bad", "text": _document(105)},
    ]
    _write_rows(corpus, rows)


def _document(number: int, edition: int = 0) -> str:
    """Three sections of about a chunk each, whose words are mostly its own; an edition changes one."""

    def own(section: int, edition: int = 0) -> str:
        return " ".join(f"n{number}s{section}e{edition}w{at}" for at in range(16))

    return (
        f"# Boat {number}\n\n"
        f"The boat {number} is a ferry that crosses the harbour every hour. Seen {own(0)}.\n\n"
        f"## Fares of boat {number}\n\n"
        f"A ticket is a paper that lets one person on board of boat {number}."
        f" Sold {own(1, edition)}.\n\n"
        f"## Crew of boat {number}\n\n"
        f"The mate is a sailor who stands at the ropes of boat {number}. Known {own(2)}.\n"
    )


def _write_rows(corpus: Path, rows: list[dict[str, str]]) -> None:
    lines = [json.dumps(row) + "\n" for row in rows]
    (corpus / "rows.jsonl").write_text("".join(lines))


def _keys(place: Place) -> list[str]:
    return place.settings.shard_keys()


def _raw(place: Place) -> None:
    sources: list[Source] = [
        FolderSource(name="docs", path=place.corpus / "documents"),
        TableSource(name="rows", path=place.corpus / "rows.jsonl"),
    ]
    update_raw(place.lake, sources, _keys(place), SHARDS, _MAX_BYTES)


def _clean(place: Place) -> None:
    clean_documents(place.lake, _keys(place), _MAX_CHARS)


def _duplicates(place: Place) -> None:
    find_duplicates(place.lake, 0.8)


def _chunks(place: Place) -> None:
    shard_documents(place.lake, _keys(place), CHUNK_TOKENS, MODEL)


def _embeddings(place: Place) -> None:
    embed.embed_chunks(place.lake, _keys(place), StaticEncoder(MODEL))


def _index(place: Place) -> None:
    model = StaticEncoder(MODEL).digest
    publish_index(place.lake, place.store, model_digest=model, keep_versions=1)


def _datasets(place: Place) -> None:
    """The golden set, and training rows by real retrieval; no question is written by a model."""
    build_golden_set(place.lake, place.settings.golden_file, curated=[])
    with open_retriever(place.store, StaticEncoder(MODEL)) as retriever:
        build_sft_dataset(
            place.lake,
            ask=lambda heading, text: None,
            retriever=retriever,
            top_k=3,
            max_rows=30,
            written_questions=0,
        )


def _release(place: Place) -> None:
    """A manifest that names the index, and the pointer; there is no model, so no file is pinned."""
    settings = place.settings
    nothing = digest_of("no model")
    release = manifest.save(
        settings,
        Release(
            base_model=BasePin(name="none", digest=nothing, file="none", file_digest=nothing),
            adapter=None,
            prompt=_PROMPT,
            index=place.store.versions()[-1],
            embedding_model=StaticEncoder(MODEL).digest,
            retrieval=RetrievalSettings().as_mapping(),
        ),
    )
    pointer.promote(settings, release.id, pointer.current(settings), actor="crash")


def _restore(place: Place) -> None:
    """All document tables as the first index was made from them."""
    noted: dict[str, dict[str, int]] = read_json(place.lake.root / "indexes.json")
    first = min(noted.values(), key=lambda made_from: made_from["raw_documents"])
    versions.restore(place.lake, first, why="crash")


def _retention(place: Place) -> None:
    retain(place.lake, place.settings, days=0)


#: The stages of a build, in order.
BUILD: dict[str, Callable[[Place], None]] = {
    "raw_documents": _raw,
    "clean_documents": _clean,
    "duplicates": _duplicates,
    "document_shards": _chunks,
    "chunk_embeddings": _embeddings,
    "vector_index": _index,
    "datasets": _datasets,
    "release": _release,
}
STAGES = {**BUILD, "restore": _restore, "retention": _retention}


def look(place: Place) -> dict[str, Any]:
    """What a home holds.

    `state` is what must be equal: every table's rows, the newest index and what it finds, releases.
    `versions` are those of the index, the newest last, `files` the data files of the tables, `paths`
    all other files; `left` is what a killed process has left, by kind.
    """
    left, paths = _walk(place.home)
    lake = place.lake
    files: dict[str, list[str]] = {}
    for name in versions.existing(lake):
        held = _data_files(lake, name)
        files[name] = sorted(held)
        for path in sorted(held - _named(lake, name)):
            left[NO_VERSION].append(f"{name}/{path}")
    left[UNSEEN] = _unseen(lake, left[NO_VERSION])
    return {
        "state": {**_tables(lake), **_published(place), **_released(place.settings)},
        "versions": place.store.versions(),
        "files": files,
        "paths": paths,
        "left": {kind: found for kind, found in left.items() if found},
    }


def _tables(lake: Lake) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in versions.existing(lake):
        rows = sorted(repr(sorted(row.items())) for row in lake.read(name).to_pylist())
        found[f"table {name}"] = [len(rows), digest_of(rows)]
    found["holds"] = {name: hold["version"] for name, hold in sorted(lake.holds().items())}
    return found


def _published(place: Place) -> dict[str, Any]:
    """The newest index: its name, its points, what it finds, and whether its making is noted."""
    lake, store = place.lake, place.store
    newest = store.versions()[-1]
    store.verify(newest)
    listed = pq.read_table(store.root / newest / LIST)
    points = {name: [each.hex() for each in listed[name].to_pylist()] for name in POINTS.names}
    with open_retriever(store, StaticEncoder(MODEL), newest) as retriever:
        rankings = retriever.rankings(_QUESTION, limit=5)
        count = retriever.index.count()
    hits = {name: {str(hit.id): hit.score for hit in ranking} for name, ranking in rankings.items()}
    now = {name: lake.version(name) for name in versions.DOCUMENTS}
    return {
        "index": newest,
        "index points": [count, digest_of(sorted(zip(*points.values(), strict=True)))],
        FINDS: hits,
        "index is noted": versions.of_index(lake, newest) == now,
    }


def _released(settings: Settings) -> dict[str, Any]:
    moves = pointer.history(settings)
    return {
        "release": pointer.current(settings),
        "releases": [manifest.load(settings, each).id for each in manifest.list_ids(settings)],
        "promotions": [[move["sequence"], move["release"], move["previous"]] for move in moves],
    }


def _walk(home: Path) -> tuple[defaultdict[str, list[str]], list[str]]:
    """What killed processes have left, by kind, and the paths of all else that is compared by path."""
    left: defaultdict[str, list[str]] = defaultdict(list)
    paths: list[str] = []
    for path, is_folder, leave_out in _entries(home):
        kind = next((kind for pattern, kind in _LEFT if pattern.fullmatch(path)), None)
        if kind is not None:
            left[kind].append(path)
            leave_out()
        elif not _BY_CONTENT.fullmatch(path):
            if not is_folder:
                paths.append(path)
        elif is_folder and path.startswith("indexes/"):
            leave_out()
    return left, sorted(paths)


def _entries(home: Path) -> Iterator[tuple[str, bool, Callable[[], None]]]:
    """Each path within a folder, whether it is a folder, and how to leave out what is in it."""
    for folder, folders, names in os.walk(home):
        root = Path(folder).relative_to(home)
        for name in sorted(folders):

            def leave_out(name: str = name, folders: list[str] = folders) -> None:
                folders.remove(name)

            yield (root / name).as_posix(), True, leave_out
        for name in sorted(names):
            yield (root / name).as_posix(), False, lambda: None


def _data_files(lake: Lake, name: str) -> set[str]:
    folder = lake.path(name)
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.parquet")
        if "_delta_log" not in path.parts
    }


def _named(lake: Lake, name: str) -> set[str]:
    """Data files that any version of a table names."""
    named = set()
    for log in (lake.path(name) / "_delta_log").glob("[0-9]*.json"):
        for line in log.read_text("utf-8").splitlines():
            added = json.loads(line).get("add")
            if added:
                named.add(unquote(added["path"]))
    return named


def _unseen(lake: Lake, orphans: list[str]) -> list[str]:
    """Those of the data files of no version that deleting such files would not delete."""
    unseen = []
    for name in SCHEMAS:
        mine = [path.removeprefix(f"{name}/") for path in orphans if path.startswith(f"{name}/")]
        newest = lake.version(name) if mine else None
        if newest is not None:
            found = set(lake.vacuum(name, range(newest + 1), dry_run=True))
            unseen += [f"{name}/{path}" for path in mine if path not in found]
    return unseen
