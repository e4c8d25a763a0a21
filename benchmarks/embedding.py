"""Chunks embedded per second, ours against plain sentence-transformers, side by side in one run.

Same model files, chunks and threads; the two take turns, so that what else the machine does falls
on both, and the medians are compared. `python -m benchmarks.embedding --json`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.documents.chunk import shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.raw import update_raw
from headwater.documents.sources import load_sources
from headwater.documents.split import embed_text
from headwater.embeddings.encoder import Encoder
from headwater.lake import Lake
from headwater.settings import Settings, quiet_libraries

Vectors = npt.NDArray[np.float32]


def default_chunks(settings: Settings, limit: int) -> list[str]:
    """Texts of the default corpus as they are embedded: every n-th chunk, in order of id."""
    with TemporaryDirectory() as folder:
        lake, shards = Lake(Path(folder)), settings.shard_keys()
        sources = load_sources(Path(folder) / "no-sources.yaml")
        update_raw(lake, sources, shards, settings.shards, settings.max_document_bytes)
        clean_documents(lake, shards, settings.max_text_chars)
        shard_documents(lake, shards, settings.chunk_tokens, settings.embedding_model)
        rows = lake.read("document_shards", columns=["id", "heading", "text"]).to_pylist()
    rows.sort(key=lambda row: row["id"])
    return [embed_text(row["heading"], row["text"]) for row in rows[:: len(rows) // limit or 1]][
        :limit
    ]


def compare(texts: Sequence[str], encoder: Encoder, rounds: int) -> dict[str, Any]:
    """Take turns over the same texts; speeds in chunks/s, and how far the vectors differ."""
    import torch
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(encoder.folder), device="cpu")
    torch.set_num_threads(encoder.threads)

    def theirs() -> Vectors:
        return plain.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    def ours() -> Vectors:
        return encoder.encode(texts)

    encoder.encode(texts[:8])
    plain.encode(list(texts[:8]), show_progress_bar=False)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        mine = _timed(ours, seconds["ours"])
        reference = _timed(theirs, seconds["theirs"])
    speeds = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}
    return {
        "chunks": len(texts),
        "threads": encoder.threads,
        "rounds": rounds,
        "chunks_per_s": speeds["ours"],
        "sentence_transformers_chunks_per_s": speeds["theirs"],
        "ratio": speeds["ours"] / speeds["theirs"],
        "max_abs_difference": float(np.abs(mine - reference).max()),
    }


def _timed(call: Callable[[], Vectors], seconds: list[float]) -> Vectors:
    started = time.perf_counter()
    result = call()
    seconds.append(time.perf_counter() - started)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chunks", type=int, default=384, help="how many chunks to embed")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    quiet_libraries()
    settings = Settings()
    encoder = Encoder(settings.embedding_model, settings.threads, settings.encoders)
    result = compare(default_chunks(settings, options.chunks), encoder, options.rounds)
    print(
        f"embedding: {result['chunks_per_s']:.1f} chunks/s, sentence-transformers "
        f"{result['sentence_transformers_chunks_per_s']:.1f}: {result['ratio']:.2f} times as fast, "
        f"vectors differ by {result['max_abs_difference']:.1e} at most",
        file=sys.stderr if options.json else sys.stdout,
    )
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
