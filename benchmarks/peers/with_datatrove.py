"""Datatrove as it is measured: Trafilatura, and MinHash in its four steps, by its local executor.

Workers are forked, which spares them loading libraries, and buffers are larger than by default:
both are to its advantage.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import spacy  # noqa: F401 - loaded before workers are forked
import trafilatura  # noqa: F401 - the same
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import WordTokenizer

from benchmarks.peers.contract import (
    DUPLICATES,
    END_TO_END,
    PARSING,
    Facts,
    Request,
    Stage,
    groups_of,
    page_id,
    page_paths,
    read_file,
    read_page,
    read_texts,
)

#: The variant that splits words at spaces, where the default asks spaCy.
SPACES = "spaces"
#: Seconds that a page may take: ours, where 1 would drop pages of a busy machine.
_SECONDS = 60
#: Records of a signature that are read at once.
_BUFFER = 4_096


class SpaceTokenizer(WordTokenizer):
    """Words at spaces, which is what a simplified text has between all of them."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def parsing(request: Request) -> Callable[[], Facts]:
    """Pages to texts."""
    output = Path(request.output)
    texts = output / "texts"
    _execute(request, "parsing", [*_extracted(request), _writer(texts)], request.processes)

    def tell() -> Facts:
        found = read_texts(str(texts))
        return {"kept": len(found), "characters": sum(len(text) for _, text in found)}

    return tell


def duplicates(request: Request) -> Callable[[], Facts]:
    """Texts to those that stay."""
    first = [JsonlReader(request.texts), _signature(request)]
    return _without_duplicates(request, first, Path(request.texts))


def end_to_end(request: Request) -> Callable[[], Facts]:
    """Pages to texts that stay; it cuts no chunks."""
    texts = Path(request.output) / "texts"
    first = [*_extracted(request), _writer(texts), _signature(request)]
    return _without_duplicates(request, first, texts)


def pages_of(
    folder: str, data: object = None, rank: int = 0, world_size: int = 1
) -> Iterator[Document]:
    """The step that reads a task's pages."""
    for path in page_paths(folder)[rank::world_size]:
        yield Document(text=read_page(path), id=page_id(folder, path))


def _extracted(request: Request) -> list[Any]:
    # Its own removal of repeated passages would take texts from copies before they are compared.
    extractor = Trafilatura(timeout=_SECONDS, deduplicate=False)
    return [partial(pages_of, request.pages), extractor]


def _writer(folder: Path) -> JsonlWriter:
    return JsonlWriter(str(folder), compression=None)


def _config(request: Request) -> MinhashConfig:
    """Its default of 14 buckets of 8 hashes, which it says is for a similarity of 0.8 (92 %)."""
    return MinhashConfig(n_grams=request.shingle)


def _signature(request: Request) -> MinhashDedupSignature:
    words = SpaceTokenizer() if request.variant == SPACES else Languages.english
    signatures = str(Path(request.output) / "signatures")
    return MinhashDedupSignature(signatures, config=_config(request), language=words)


def _without_duplicates(request: Request, first: Sequence[Any], texts: Path) -> Callable[[], Facts]:
    """The four steps; the first one signs what is then in the JSONL files of a folder."""
    output, config = Path(request.output), _config(request)
    pairs, clusters, kept = output / "pairs", output / "clusters", output / "kept"
    _execute(request, "signatures", first, request.processes)
    buckets = MinhashDedupBuckets(
        str(output / "signatures"), str(pairs), config=config, lines_to_buffer=_BUFFER
    )
    _execute(request, "buckets", [buckets], config.num_buckets)
    cluster = MinhashDedupCluster(
        str(pairs), str(clusters), config=config, save_cluster_id=True, lines_to_buffer=_BUFFER
    )
    _execute(request, "cluster", [cluster], 1)
    filtered = [JsonlReader(str(texts)), MinhashDedupFilter(str(clusters)), _writer(kept)]
    _execute(request, "filter", filtered, request.processes)

    def tell() -> Facts:
        members = [
            member
            for rank in range(request.processes)
            for member in _members(clusters, texts, rank, request.processes)
        ]
        return {"kept": len(read_texts(str(kept))), "groups": groups_of(members)}

    return tell


def _members(clusters: Path, texts: Path, rank: int, tasks: int) -> Iterator[tuple[int, str]]:
    """Cluster and id of a task's documents that are in one; the file names them by their place."""
    path = clusters / f"{rank:06d}.clusters"
    if not path.exists():
        return
    ids: list[str] = []
    for file in sorted(texts.glob("*.jsonl"))[rank::tasks]:
        ids += [name for name, _ in read_file(file)]
    for place, cluster in struct.iter_unpack("<2I", path.read_bytes()):
        yield cluster, ids[place]


def _execute(request: Request, name: str, steps: Sequence[Any], tasks: int) -> None:
    LocalPipelineExecutor(
        list(steps),
        tasks=tasks,
        workers=min(request.processes, tasks),
        logging_dir=str(Path(request.output) / "logs" / name),
        start_method="fork",
    ).run()


STAGES: dict[str, Stage] = {PARSING: parsing, DUPLICATES: duplicates, END_TO_END: end_to_end}
