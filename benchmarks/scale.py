"""Time and memory of the data layer from documents to index, at any number of documents.

`python -m benchmarks.scale --documents 100000 --json` makes a corpus by code (benchmarks.synthetic),
runs the document stages, their checks and measures and the index over it as a build does, then with 1 %
of the documents edited, three times (the middle one counts), then with none. Each build is a process of
its own, whose tree is watched; it first runs a handful of documents through all stages, uncounted, so that
small corpora do not pay for loading libraries.

Not counted either: making the corpus. Embedding is by hashed words (`static:256`): with a model it is
most of the time, and as much for each document at any size. Chunks are bounded by the default
model's tokens. A shard holds at most 2,900 documents, unless `--shards` says otherwise. Cleaning and
splitting are done as `--executor` says (docs/executors.md).
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Literal, get_args

import psutil

from benchmarks.synthetic import Corpus
from headwater.settings import Settings, quiet_libraries

EMBEDDING = "static:256"
#: Who cleans and splits.
Workers = Literal["inline", "processes"]
#: Documents of a shard, about, and the most shards there can be.
PER_SHARD, MOST_SHARDS = 2_900, 256
#: The share of documents of an edit, and how many edits there are, of which the middle one counts: what
#: takes ten seconds takes a tenth more or less of them from one time to the next.
EDITED, EDITS = 0.01, 3
#: Documents that are run through all stages before the clock starts.
WARM_UP = 40
#: What a build says before each stage.
_STAGE = "stage: "
#: Seconds between two looks at the memory, each of which takes some milliseconds.
_LOOK = 0.1


def measure(
    root: Path, documents: int, shards: int, executor: Workers = "inline"
) -> dict[str, Any]:
    """The builds; the mapping that `--json` prints."""
    corpus = root / "corpus"
    _say(f"writing {documents} documents")
    Corpus(WARM_UP).write(root / "warm-up")
    Corpus(documents).write(corpus)
    size = sum(path.stat().st_size for path in corpus.iterdir())
    full = _build(root, "full", shards, executor)
    edits = []
    for number in range(1, EDITS + 1):
        edited = Corpus(documents, edited=EDITED, times=number).write(corpus)
        edits.append(_build(root, f"{edited} edited", shards, executor))
    edit = sorted(edits, key=itemgetter("seconds"))[EDITS // 2]
    none = _build(root, "none edited", shards, executor)
    return {
        "documents": documents,
        "seconds_per_1000": round(full["seconds"] / documents * 1000, 3),
        "peak_mb": max(build["peak_mb"] for build in (full, *edits, none)),
        "edit_1pct_ratio": round(edit["seconds"] / full["seconds"], 4),
        "no_change_ratio": round(none["seconds"] / full["seconds"], 4),
        "shards": shards,
        "executor": executor,
        "corpus_mb": round(size / 2**20, 1),
        "edited": edited,
        "edits_seconds": [build["seconds"] for build in edits],
        "edits_stages": [build["stages"] for build in edits],
        "full": full,
        "edit": edit,
        "no_change": none,
    }


def _build(root: Path, what: str, shards: int, executor: Workers) -> dict[str, Any]:
    """One build in a process of its own, watched stage by stage."""
    _say(f"build: {what}")
    os.sync()  # what was written before is none of this build's work
    command = [
        sys.executable, "-W", "ignore", "-m", "benchmarks.scale",
        "--build", str(root), "--shards", str(shards), "--executor", executor,
    ]  # fmt: skip
    stage = ["start"]
    peaks: dict[str, tuple[int, int]] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None  # they are pipes
        reader = threading.Thread(target=_follow, args=(process.stderr, stage))
        reader.start()
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            now, name = _memory(watched), stage[0]
            before = peaks.get(name, (0, 0))
            peaks[name] = (max(before[0], now[0]), max(before[1], now[1]))
            time.sleep(_LOOK)
        reader.join()
        said = process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(f"the build ended with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(said[-1])
    return {
        **found,
        "peak_mb": round(max(resident for resident, _ in peaks.values()) / 2**20),
        # Without files that are mapped, which the system takes back when it needs the memory.
        "peak_own_mb": round(max(own for _, own in peaks.values()) / 2**20),
        "stages_peak_mb": {name: round(peak[0] / 2**20) for name, peak in peaks.items()},
        "stages_peak_own_mb": {name: round(peak[1] / 2**20) for name, peak in peaks.items()},
    }


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes of a process and its children, all of them and those of no file.

    What processes share counts for each of them.
    """
    resident = own = 0
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    for each in tree:
        try:
            memory = each.memory_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended
        resident += memory.rss
        own += memory.rss - getattr(memory, "shared", 0)
    return resident, own


def _follow(lines: IO[str], stage: list[str]) -> None:
    """Note the stage that a build says it has started, and pass its lines on."""
    for line in lines:
        sys.stderr.write(line)
        sys.stderr.flush()
        if line.startswith(_STAGE):
            stage[0] = line.removeprefix(_STAGE).strip()


def build(root: Path, shards: int, executor: Workers) -> dict[str, Any]:
    """All stages over the corpus below a folder: seconds and what was done, by stage."""
    with tempfile.TemporaryDirectory(dir=root) as warm:
        _run(Path(warm), root / "warm-up", 2, executor, lambda name: None)
    return _run(
        root / "home", root / "corpus", shards, executor, lambda name: _say(f"{_STAGE}{name}")
    )


def _run(
    home: Path, corpus: Path, shards: int, executor: Workers, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The stages, with their defaults, in the order of a build."""
    from headwater.documents.anomalies import measures
    from headwater.documents.asked import QualityResult
    from headwater.documents.chunk import shard_documents
    from headwater.documents.clean import clean_documents
    from headwater.documents.duplicates import find_duplicates
    from headwater.documents.kinds.table import TableSource
    from headwater.documents.quality import validate_chunks, validate_documents
    from headwater.documents.raw import update_raw
    from headwater.embeddings.edge import EdgeStore
    from headwater.embeddings.embed import embed_chunks
    from headwater.embeddings.encoder import open_encoder
    from headwater.embeddings.index import publish_index
    from headwater.executors.choice import executor_of
    from headwater.lake import Lake

    settings = Settings(home=home, shards=shards, executor=executor)
    lake, keys = Lake(settings.lake), settings.shard_keys()
    sources = [TableSource(name="synthetic", path=corpus / "*.jsonl")]
    encoder = open_encoder(EMBEDDING, settings.threads, settings.encoders)
    store = EdgeStore(settings.indexes, threads=settings.threads)

    def held(*results: QualityResult) -> bool:
        if not all(result.success for result in results):
            raise SystemExit("an expectation of the documents or chunks does not hold")
        return True

    stages: dict[str, Callable[[], Any]] = {
        "raw_documents": lambda: update_raw(
            lake, sources, keys, settings.shards, settings.max_document_bytes
        ),
        "clean_documents": lambda: clean_documents(
            lake, keys, settings.max_text_chars, children=settings.threads, executor=workers
        ),
        "duplicates": lambda: find_duplicates(lake, settings.duplicate_threshold),
        "document_shards": lambda: shard_documents(
            lake, keys, settings.chunk_tokens, settings.embedding_model, executor=workers
        ),
        "checks": lambda: held(
            validate_documents(lake), validate_chunks(lake, settings.chunk_tokens)
        ),
        "measures": lambda: measures(lake),
        "chunk_embeddings": lambda: embed_chunks(lake, keys, encoder),
        "vector_index": lambda: publish_index(lake, store, model_digest=encoder.digest),
    }
    seconds: dict[str, float] = {}
    done: dict[str, Any] = {}
    with executor_of(settings) as workers:
        for name, stage in stages.items():
            tell(name)
            started = time.monotonic()
            done[name] = stage()
            seconds[name] = round(time.monotonic() - started, 3)
    tell("end")
    duplicates = done["duplicates"]
    return {
        "seconds": round(sum(seconds.values()), 3),
        "stages": seconds,
        "processed": {
            name: done[name].processed
            for name in ("raw_documents", "clean_documents", "document_shards")
        },
        "quarantined": done["clean_documents"].quarantined,
        "duplicates": duplicates.exact + duplicates.near,
        "chunks": done["document_shards"].chunks,
        "embedded": done["chunk_embeddings"].embedded,
        "measured": done["measures"],
        "indexed": done["vector_index"].added,
        "index": done["vector_index"].version,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(found: dict[str, Any]) -> str:
    """The result as a text table: seconds and resident memory in MB of each stage and build."""
    builds = ("full", "edit", "no_change")
    lines = [f"{'seconds, peak MB':<20}" + "".join(f"{name:>20}" for name in builds)]
    for stage in found["full"]["stages"]:
        cells = (
            f"{found[name]['stages'][stage]:>12.2f}{found[name]['stages_peak_mb'].get(stage, 0):>8}"
            for name in builds
        )
        lines.append(f"{stage:<20}" + "".join(cells))
    totals = (f"{found[name]['seconds']:>12.2f}{found[name]['peak_mb']:>8}" for name in builds)
    lines.append(f"{'all':<20}" + "".join(totals))
    lines.append(
        f"{found['documents']} documents ({found['corpus_mb']} MB), {found['full']['chunks']} chunks,"
        f" {found['full']['duplicates']} duplicates, {found['shards']} shards:"
        f" {found['seconds_per_1000']} s for 1,000; 1 % edited {found['edit_1pct_ratio']:.2%},"
        f" none {found['no_change_ratio']:.2%} of a full build"
    )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    quiet_libraries()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--shards", type=int, help="default: one for 2,900 documents")
    parser.add_argument("--executor", choices=get_args(Workers), default="inline")
    parser.add_argument(
        "--folder", type=Path, help="below which the corpus and the home go, until the end"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
        del os.environ[name]  # the settings measured are the defaults
    if chosen.build:
        os.environ["HEADWATER_HOME"] = str(chosen.build / "home")
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        logging.getLogger("great_expectations").setLevel(logging.WARNING)
        print(json.dumps(build(chosen.build, chosen.shards, chosen.executor)))
        return
    shards = chosen.shards or min(MOST_SHARDS, max(4, -(-chosen.documents // PER_SHARD)))
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="headwater-scale-") as folder:
        found = measure(Path(folder), chosen.documents, shards, chosen.executor)
    _say(show(found))
    if chosen.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
