"""Who is measured: modules, what each does not do, and how its work differs from ours.

What is said of a program is read from its code, at the version that is pinned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.peers.contract import AGAIN, CHUNKING, DUPLICATES, END_TO_END, PARSING

STAGES = (PARSING, CHUNKING, DUPLICATES, END_TO_END, AGAIN)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A program, or a way to run it.

    Args:
        module: of this package, whose STAGES are run.
        distribution: what its version is asked of.
        stages: that it is measured or spoken of in.
        processes: at once; None is as many as threads.
        lacks: stages that it has nothing for, and why.
        notes: how a stage's work differs.
    """

    name: str
    module: str
    distribution: str
    stages: tuple[str, ...] = STAGES
    processes: int | None = None
    variant: str = ""
    lacks: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


HEADWATER = Peer(
    name="headwater",
    module="with_headwater",
    distribution="headwater",
    notes={
        PARSING: "each page in a confined process, then repaired and normalised, with its headings",
        CHUNKING: "one process; tokens are counted by threads",
        DUPLICATES: "one process; 128 hashes, candidates compared by their whole signatures",
        END_TO_END: "worker processes; durable tables of bytes, texts and chunks, languages, signals of quality",
        AGAIN: "compares the listing, which catches an edit",
    },
)

_DATATROVE_ENDS = "it cuts no chunks: its end is the texts that stay, as JSONL"
_LLAMA_NOTES = {
    PARSING: "the text of p, h1 to h6, li, b, i, u and section alone",
    CHUNKING: "between sentences, whatever the paragraph; a chunk is an object with relations",
    END_TO_END: "leaves out exact copies alone; cache and document store are one JSON file each",
    AGAIN: "reads both JSON files and every page, and finds each page's hash known",
}
_LLAMA_LACKS = {
    DUPLICATES: "no near-duplicates: its document store leaves out documents of equal hash alone"
}

PEERS = (
    Peer(
        name="datatrove",
        module="with_datatrove",
        distribution="datatrove",
        lacks={
            CHUNKING: "it writes tokens for training, and cuts no chunks",
            AGAIN: "it skips a task that a marker says is done, whatever the pages are now",
        },
        notes={
            PARSING: "Trafilatura, which keeps a page's main text alone",
            DUPLICATES: "words by spaCy; pairs that share a bucket count as they are (14 of 8 hashes)",
            END_TO_END: _DATATROVE_ENDS,
        },
    ),
    Peer(
        name="datatrove, words at spaces",
        module="with_datatrove",
        distribution="datatrove",
        stages=(DUPLICATES, END_TO_END),
        variant="spaces",
        notes={
            DUPLICATES: "the same with words split at spaces, which is quicker than its default",
            END_TO_END: _DATATROVE_ENDS,
        },
    ),
    Peer(
        name="llama-index",
        module="with_llama_index",
        distribution="llama-index-core",
        lacks=_LLAMA_LACKS,
        notes={name: f"{note}; starts its workers anew" for name, note in _LLAMA_NOTES.items()},
    ),
    Peer(
        name="llama-index, one process",
        module="with_llama_index",
        distribution="llama-index-core",
        stages=(PARSING, CHUNKING, END_TO_END, AGAIN),
        processes=1,
        notes=_LLAMA_NOTES,
    ),
    Peer(
        name="langchain-text-splitters",
        module="with_langchain",
        distribution="langchain-text-splitters",
        lacks={
            DUPLICATES: "it leaves nothing out",
            AGAIN: "it remembers nothing: all is done again",
        },
        notes={
            PARSING: "every text of the body, by headings; navigation and foot too",
            CHUNKING: "at separators of characters, not between sentences; shared out by us",
            END_TO_END: "in memory; no duplicates are left out",
        },
    ),
)
