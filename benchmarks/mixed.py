"""A folder with a document of every suffix that is read, beside copies, damaged files and others.

Each sound document states one fact, which one question asks for. Knows file formats, no stage. What
the formats' parsers make of harder files is tested below tests/documents/formats.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs import BadFile, plain_pdf
from benchmarks.synthetic import Corpus
from headwater.documents.kinds.base import MEDIA_TYPES


@dataclass(frozen=True, slots=True)
class Fact:
    """What a document says, and who would ask for it."""

    title: str
    text: str
    question: str


#: By suffix. Pictures say little: every word has to be recognised.
FACTS = {
    ".md": Fact(
        "Ferry",
        "The ferry to the island leaves at seven in the morning and once more at noon.",
        "When does the ferry to the island leave?",
    ),
    ".markdown": Fact(
        "Bakery",
        "Rye bread is baked on Fridays only, in the oven of the old mill.",
        "On which day is rye bread baked?",
    ),
    ".html": Fact(
        "Library",
        "A reader may borrow twelve books and keep them for four weeks.",
        "How many books may a reader borrow?",
    ),
    ".htm": Fact(
        "Swimming pool",
        "From May to September the water of the pool is heated to twenty-six degrees.",
        "How warm is the water of the pool in summer?",
    ),
    ".xhtml": Fact(
        "Museum",
        "The oldest clock in the collection was made by a blacksmith in 1642.",
        "Who made the oldest clock in the museum?",
    ),
    ".txt": Fact(
        "Boiler",
        "To restart the boiler, hold the red button for five seconds.",
        "How is the boiler restarted?",
    ),
    ".text": Fact(
        "Garden",
        "Tomatoes are watered at their roots each evening in July.",
        "When are the tomatoes watered?",
    ),
    ".rst": Fact(
        "Observatory",
        "Dust is washed off the mirror of the telescope every third year.",
        "How often is the telescope's mirror cleaned?",
    ),
    ".pdf": Fact(
        "Tram",
        "A day ticket costs nine crowns and is valid in two zones.",
        "What does a day ticket for the tram cost?",
    ),
    ".docx": Fact(
        "Choir",
        "Singers meet for rehearsal on Tuesdays in the former school.",
        "Where does the choir rehearse?",
    ),
    ".pptx": Fact(
        "Beekeeping",
        "Honey is taken from the hives twice a year, in June and in August.",
        "How often is honey harvested?",
    ),
    ".epub": Fact(
        "Lighthouse",
        "The keeper climbs one hundred and ninety steps to reach the lamp.",
        "How many steps lead to the lamp of the lighthouse?",
    ),
    ".eml": Fact(
        "Parking",
        "Visitors leave their cars behind the town hall and pay at the gate.",
        "Where do visitors park?",
    ),
    ".ipynb": Fact(
        "Rain gauge",
        "The gauge on the roof is emptied at eight each morning after it was read.",
        "When is the rain gauge emptied?",
    ),
    ".png": Fact("Bridge", "The bridge is closed to lorries.", "Which vehicles may not cross?"),
    ".jpg": Fact("Park", "Dogs must be kept on a lead.", "What are owners of dogs told?"),
    ".jpeg": Fact("Market", "Stalls open at nine on Saturday.", "When do the stalls open?"),
    ".tif": Fact("Form", "Return this form before Monday.", "By when is the form due?"),
    ".tiff": Fact("Card", "Members enter free of charge.", "Who need not pay to enter?"),
}
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
#: A document as long as most, to be copied with a word changed.
_LONG = Corpus(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What was written, as paths below the folder.

    Args:
        sound: documents by their suffix; each is to be indexed, pictures where a program reads them.
        copies: documents that say what another one says.
        bad: documents that no reader should take as they are.
        aside: files that are no documents.
    """

    sound: dict[str, str]
    copies: tuple[str, ...]
    bad: tuple[str, ...]
    aside: tuple[str, ...]


def write(folder: Path, bad: Sequence[BadFile] = ()) -> Mixed:
    """Fill a folder that does not exist yet.

    Args:
        bad: files to be mixed in, each below a folder of its own.
    """
    contents: dict[str, bytes] = {}
    sound: dict[str, str] = {}
    for suffix, fact in FACTS.items():
        name = fact.title.lower().replace(" ", "-")
        sound[suffix] = f"{name}{suffix}"
        contents[sound[suffix]] = document(suffix, fact)
    long = _LONG.text(0)
    contents["manual.txt"] = long.encode()
    copies = {
        "archive/ferry (copy).md": contents[sound[".md"]],
        "archive/library-1.html": contents[sound[".html"]] + b"\n",
        "archive/manual-2.txt": f"{long.rsplit(' ', 1)[0]} altered.".encode(),
    }
    spoilt = {f"bad/{number:02d}/{each.name}": each.content for number, each in enumerate(bad)}
    aside = {
        "prices.csv": b"item,price\nrope,9\n",
        "backup.zip": zipped({"a.txt": b"text"}),
        ".hidden.md": b"# Hidden\n\nNobody lists this.\n",
    }
    for name, content in (contents | copies | spoilt | aside).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Mixed(sound=sound, copies=tuple(copies), bad=tuple(spoilt), aside=tuple(aside))


def document(suffix: str, fact: Fact) -> bytes:
    """A sound file of this suffix that states the fact."""
    if suffix in PICTURES:
        return _picture(fact, PICTURES[suffix])
    return _WRITERS[MEDIA_TYPES[suffix]](fact)


def _markdown(fact: Fact) -> bytes:
    return f"# {fact.title}\n\n{fact.text}\n".encode()


def _html(fact: Fact) -> bytes:
    title, text = escape(fact.title), escape(fact.text)
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
    return page.encode()


def _underlined(fact: Fact) -> bytes:
    return f"{fact.title}\n{'=' * len(fact.title)}\n\n{fact.text}\n".encode()


def _pdf(fact: Fact) -> bytes:
    return plain_pdf(1, text=fact.text)


def _word(fact: Fact) -> bytes:
    import docx

    made: Any = docx.Document()
    made.add_heading(fact.title, 1)
    made.add_paragraph(fact.text)
    return _saved(made)


def _slides(fact: Fact) -> bytes:
    import pptx

    made: Any = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = fact.title
    slide.placeholders[1].text_frame.text = fact.text
    return _saved(made)


def _book(fact: Fact) -> bytes:
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="book.opf"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata>'
        f'<title xmlns="http://purl.org/dc/elements/1.1/">{escape(fact.title)}</title></metadata>'
        '<manifest><item id="p" href="page.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="p"/></spine></package>'
    )
    return zipped(
        {
            "META-INF/container.xml": container.encode(),
            "book.opf": package.encode(),
            "page.xhtml": _html(fact),
        }
    )


def _mail(fact: Fact) -> bytes:
    written = EmailMessage()
    written["Subject"] = fact.title
    written["From"] = "Office <office@example.org>"
    written["Date"] = "Fri, 01 May 2026 10:00:00 +0000"
    written.set_content(f"{fact.text}\n")
    return written.as_bytes()


def _notebook(fact: Fact) -> bytes:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [f"# {fact.title}\n", "\n", fact.text]}
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def _picture(fact: Fact, form: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("L", (900, 200), "white")
    ImageDraw.Draw(page).text((30, 60), fact.text, fill=0, font=ImageFont.load_default(36))
    buffer = io.BytesIO()
    page.save(buffer, form)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    """An archive of these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def _saved(made: Any) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer)
    return buffer.getvalue()


_WRITERS: dict[str, Callable[[Fact], bytes]] = {
    MEDIA_TYPES[".md"]: _markdown,
    MEDIA_TYPES[".html"]: _html,
    MEDIA_TYPES[".txt"]: _underlined,
    MEDIA_TYPES[".rst"]: _underlined,
    MEDIA_TYPES[".pdf"]: _pdf,
    MEDIA_TYPES[".docx"]: _word,
    MEDIA_TYPES[".pptx"]: _slides,
    MEDIA_TYPES[".epub"]: _book,
    MEDIA_TYPES[".eml"]: _mail,
    MEDIA_TYPES[".ipynb"]: _notebook,
}
