"""Pages and texts to measure with: a corpus made by code with planted copies, or a folder of HTML.

Knows what was planted, not how anybody finds it.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.contract import groups_of, page_id, page_paths, write_texts
from benchmarks.synthetic import Corpus
from headwater.documents.parse import parse
from headwater.documents.parsed import Rejected
from headwater.errors import HeadwaterError

#: Documents of which everything is done once before the clock starts.
WARM = 8
#: Paragraphs of a section.
_SECTION = 4


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is given to every program, in folders, and what is known of it.

    Args:
        planted: groups of documents that are copies of one; None where nobody knows.
        text_ids: documents that there is a text of.
    """

    pages: Path
    texts: Path
    warm_pages: Path
    warm_texts: Path
    ids: tuple[str, ...]
    text_ids: tuple[str, ...]
    planted: tuple[tuple[str, ...], ...] | None


def synthetic(folder: Path, documents: int, files: int) -> Inputs:
    """A corpus of so many documents below a folder; its texts in so many files."""
    corpus = Corpus(documents)
    names = [page_name(number) for number in range(documents)]
    texts = [(names[number], corpus.text(number)) for number in range(documents)]
    pages = folder / "pages"
    _write_pages(pages, [(name, page(text)) for name, text in texts])
    copies = groups_of((corpus.original(number), names[number]) for number in range(documents))
    warm_pages, warm_texts = _warm(folder, files)
    return Inputs(
        pages=pages,
        texts=_write_parts(folder / "texts", texts, files),
        warm_pages=warm_pages,
        warm_texts=warm_texts,
        ids=tuple(names),
        text_ids=tuple(names),
        planted=tuple(tuple(group) for group in copies),
    )


def of_folder(folder: Path, documents: Path, files: int) -> Inputs:
    """The pages of a folder as they are; their texts are as our parser has them.

    Raises:
        HeadwaterError: there are none.
    """
    paths = page_paths(str(documents))
    texts = []
    for path in paths:
        try:
            parsed = parse(path.read_bytes(), "text/html", str(path))
        except Rejected:
            continue
        texts.append((page_id(str(documents), path), parsed.text))
    if len(texts) < files:
        raise HeadwaterError(
            f"{documents} holds {len(texts)} HTML pages that can be read.",
            mend="Name a folder of HTML files, such as Python's documentation.",
        )
    warm_pages, warm_texts = _warm(folder, files)
    return Inputs(
        pages=documents.resolve(),
        texts=_write_parts(folder / "texts", texts, files),
        warm_pages=warm_pages,
        warm_texts=warm_texts,
        ids=tuple(page_id(str(documents), path) for path in paths),
        text_ids=tuple(name for name, _ in texts),
        planted=None,
    )


def page_name(number: int) -> str:
    """The id of a document made by code."""
    return f"{number:08d}.html"


def page(text: str) -> str:
    """A text as a page of a site: its paragraphs in sections, with what stands around them.

    Headings, navigation and foot are the same on all pages of a length, so that a copy differs from
    its original in what was changed alone.
    """
    paragraphs = text.split("\n\n")
    parts = []
    for start in range(0, len(paragraphs), _SECTION):
        if start:
            parts.append(f"<h2>Section {start // _SECTION + 1}</h2>")
        parts += [f"<p>{html.escape(each)}</p>" for each in paragraphs[start : start + _SECTION]]
    body = "\n".join(parts)
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8"><title>Notes</title>'
        "<style>p { margin: 1em }</style></head>\n"
        '<body><nav><a href="index.html">Index</a> <a href="next.html">Next</a></nav>\n'
        f"<main><h1>Notes</h1>\n{body}\n</main>\n"
        "<footer><p>Made by code.</p></footer></body></html>\n"
    )


def _warm(folder: Path, files: int) -> tuple[Path, Path]:
    """A few pages and texts of another seed."""
    corpus = Corpus(WARM, seed=1)
    texts = [(page_name(number), corpus.text(number)) for number in range(WARM)]
    pages = folder / "warm-pages"
    _write_pages(pages, [(name, page(text)) for name, text in texts])
    return pages, _write_parts(folder / "warm-texts", texts, files)


def _write_pages(folder: Path, rows: Sequence[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rows:
        (folder / name).write_text(text, "utf-8")


def _write_parts(folder: Path, rows: Sequence[tuple[str, str]], files: int) -> Path:
    """Neighbours go to the same file, and every file has some."""
    for part in range(files):
        share = rows[len(rows) * part // files : len(rows) * (part + 1) // files]
        write_texts(folder / f"part-{part:05d}.jsonl", share)
    return folder
