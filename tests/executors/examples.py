"""A corpus of all that can become of a document, and all that a build makes of it."""

from typing import Any

from headwater.embeddings.apart import encoder_over
from headwater.embeddings.embed import embed_chunks
from headwater.embeddings.static import StaticEncoder
from headwater.executors.base import Executor
from headwater.lake import Lake
from tests.documents.examples import PROSE, Corpus, make_pdf

TABLES = (
    "raw_documents", "clean_documents", "quarantine", "duplicates", "document_shards",
    "chunk_embeddings",
)  # fmt: skip
STATIC = "static:64"


def furnish(corpus: Corpus) -> None:
    """Documents of several formats, duplicates, and what is turned away, over four shards."""
    page = ["The harbour opens at six in the morning.", "Fees apply to all boats."]
    for number in range(14):
        own = " ".join(f"w{number}x{at}" for at in range(40))
        corpus.write(f"{number}.md", f"# Pier {number}\n\n{PROSE}\n\n## Berths\n\n{own}. {PROSE}")
    corpus.write("guide.html", f"<title>Guide</title><h1>Harbour</h1><p>{PROSE * 2}</p>")
    corpus.write("report.pdf", make_pdf([page] * 3, title="Report"))
    corpus.write("long.txt", "".join(f"Day {day}. {PROSE}\n\n" for day in range(40)))
    corpus.write("copies/3.md", (corpus.folder / "3.md").read_bytes())
    corpus.write("copies/4.md", (corpus.folder / "4.md").read_text() + " And then.")
    corpus.write("empty.txt", b"")
    corpus.write("binary.txt", bytes(range(256)) * 8 + bytes(9) * 200)
    corpus.write("not-a.pdf", "plain text")
    corpus.write("encrypted.pdf", make_pdf([page], password="secret"))


def build(corpus: Corpus, executor: Executor | None = None) -> dict[str, str]:
    """Run the stages; the digest of each table that has one."""
    encoder: Any = StaticEncoder(STATIC)
    if executor is not None:
        encoder = encoder_over(executor, encoder, STATIC)
    return {
        "raw_documents": corpus.raw().digest,
        "clean_documents": corpus.clean(executor=executor).digest,
        "duplicates": corpus.duplicates().digest,
        "document_shards": corpus.chunk(executor=executor).digest,
        "chunk_embeddings": embed_chunks(corpus.lake, corpus.keys(), encoder).digest,
    }


def contents(corpus: Corpus) -> dict[str, list[Any]]:
    """All rows of all tables, in an order that is theirs."""
    return {
        table: sorted(corpus.lake.read(table).to_pylist(), key=lambda row: str(sorted(row.items())))
        for table in TABLES
    }


def another(corpus: Corpus, name: str) -> Corpus:
    """The same documents, another lake."""
    return Corpus(corpus.folder, Lake(corpus.lake.root.parent / name))
