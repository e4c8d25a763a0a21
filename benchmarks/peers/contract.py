"""What the benchmark and a measured program say to each other: a request, stages, what came out.

Standard library and tokenizers alone, since peers run where Headwater is not installed.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

PARSING, CHUNKING, DUPLICATES = "parsing", "chunking", "duplicates"
END_TO_END, AGAIN = "end_to_end", "again"

#: What came out of a stage, beside its seconds: `kept` documents, and what applies of `characters`,
#: `chunks`, `longest` (tokens of a chunk), `groups` (of documents found to say the same, by id) and
#: `processed` (documents that were not just found unchanged).
Facts = dict[str, Any]
#: A stage's work. The clock stops when it returns; what it returns tells the facts afterwards.
Stage = Callable[["Request"], Callable[[], Facts]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One stage for one program.

    Args:
        stage: `parsing` reads pages, `chunking` and `duplicates` read texts; `end_to_end` goes from
            pages to what is kept, and `again` does so once more with its state.
        pages: folder of HTML files; a document's id is its path below.
        texts: folder of JSONL files with `id` and `text`.
        output: folder for what comes out.
        state: folder that lasts from `end_to_end` to `again`.
        warm_pages: a few pages that all is done with before the clock starts, and `warm_texts` a few
            texts: loading libraries is not measured.
        model: the embedding model whose tokens bound a chunk; `tokenizer` is its file.
        shingle: words of an n-gram of which near-duplicates share `threshold`.
        threads: cores that may be used.
        processes: at once, where a program can have more than one.
        variant: a choice that a program offers, "" for its default.
    """

    stage: str
    pages: str
    texts: str
    output: str
    state: str
    warm_pages: str
    warm_texts: str
    model: str
    tokenizer: str
    max_tokens: int
    threshold: float
    shingle: int
    threads: int
    processes: int
    variant: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Request":
        return cls(**json.loads(text))

    def warm_up(self, folder: Path) -> "Request":
        """The same work on a few documents, whose traces are all below a folder."""
        return replace(
            self,
            stage=END_TO_END if self.stage == AGAIN else self.stage,
            pages=self.warm_pages,
            texts=self.warm_texts,
            output=str(made(folder / "output")),
            state=str(made(folder / "state")),
        )


def made(folder: Path) -> Path:
    """A folder, there now."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def page_paths(folder: str) -> list[Path]:
    """Pages below a folder in order; hidden ones are none."""
    root = Path(folder)
    return [
        path
        for path in sorted(root.rglob("*.html"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def read_pages(folder: str) -> list[tuple[str, str]]:
    """Ids and HTML of all pages, in order."""
    return [(page_id(folder, path), read_page(path)) for path in page_paths(folder)]


def page_id(folder: str, path: Path) -> str:
    """A page's id."""
    return path.relative_to(folder).as_posix()


def read_page(path: Path) -> str:
    """A page's HTML."""
    return path.read_text("utf-8", "replace")


def read_texts(folder: str) -> list[tuple[str, str]]:
    """Ids and texts of all JSONL files in a folder, in order."""
    return [row for path in sorted(Path(folder).glob("*.jsonl")) for row in read_file(path)]


def read_file(path: Path) -> list[tuple[str, str]]:
    """Ids and texts of one JSONL file, in order."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["id"], row["text"]) for row in rows]


def write_texts(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write ids and texts as one JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name, text in rows:
            file.write(json.dumps({"id": name, "text": text}) + "\n")


def groups_of(pairs: Iterable[tuple[Any, str]]) -> list[list[str]]:
    """Documents that have one key in common, where there are several."""
    found: dict[Any, list[str]] = {}
    for key, name in pairs:
        found.setdefault(key, []).append(name)
    return [names for names in found.values() if len(names) > 1]


def longest(texts: Sequence[str], tokenizer: str) -> int:
    """Tokens of the longest of some chunks, special tokens not counted."""
    count = token_ids(tokenizer)
    return max((len(count(text)) for text in texts), default=0)


@cache
def token_ids(tokenizer: str) -> Callable[[str], list[int]]:
    """What gives the tokens of a text, by a tokenizer's file."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(tokenizer)
    found.no_truncation()
    found.no_padding()

    def ids(text: str) -> list[int]:
        encoded: list[int] = found.encode(text, add_special_tokens=False).ids
        return encoded

    return ids
