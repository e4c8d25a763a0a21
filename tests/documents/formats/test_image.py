import io
import shutil
import struct
import zlib

import pytest
from PIL import Image, ImageDraw, ImageFont

from headwater.documents import parse as parsing
from headwater.documents.formats import image
from headwater.documents.parsed import Rejected
from tests.documents.examples import Corpus

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="tesseract is not installed"
)


def picture(*texts, form="PNG") -> bytes:
    pages = []
    for text in texts:
        page = Image.new("L", (900, 260), "white")
        ImageDraw.Draw(page).text((30, 30), text, font=ImageFont.load_default(36), spacing=60)
        pages.append(page)
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": pages[1:]} if form == "TIFF" else {}
    pages[0].save(buffer, form, **more)
    return buffer.getvalue()


def bomb(width, height) -> bytes:
    """A PNG of a few bytes whose header names any size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def read(content, max_chars=1000):
    image.check(content)
    return list(image.recognise(content, max_chars))


def reason(content, max_chars=1000):
    with pytest.raises(Rejected) as error:
        read(content, max_chars)
    assert error.value.detail
    return error.value.reason


@needs_tesseract
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_text_is_recognised(form):
    pages = ["The harbour opens at six.", "Fees apply."]
    said = " ".join(block.text for block in read(picture(*pages, form=form)))
    assert "harbour opens at six" in said
    assert ("Fees apply" in said) == (form == "TIFF")


@needs_tesseract
def test_a_picture_without_text_and_one_with_too_much():
    assert reason(picture("")) == "no_text"
    assert reason(picture("The harbour opens at six."), max_chars=5) == "too_large"
    assert image.tool().startswith("tesseract")


def test_a_pixel_bomb_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(image, "_output", lambda *_: pytest.fail("it was decoded"))
    for size in ((60_000, 60_000), (9000, 9000), (2**31 - 1, 1000)):
        assert reason(bomb(*size)) in ("pixel_bomb", "damaged_image")
    assert reason(bomb(9000, 9000)) == "pixel_bomb"
    monkeypatch.setattr(image, "MAX_PAGES", 2)
    assert reason(picture("a", "b", "c", form="TIFF")) == "too_large"


def test_what_is_no_picture():
    content = picture("text")
    assert reason(b"GIF89a" + content[6:]) == "damaged_image"
    assert reason(b"\x89PNG\r\n\x1a\n") == "damaged_image"
    gif = io.BytesIO()
    Image.new("L", (9, 9)).save(gif, "GIF")
    assert reason(gif.getvalue()) == "damaged_image"


def test_headers_are_looked_at_by_a_confined_process_alone(corpus: Corpus, monkeypatch):
    monkeypatch.setattr(image, "check", lambda _: pytest.fail("the header was read here"))
    monkeypatch.setattr(image, "_output", lambda *_: "Harbour text")
    monkeypatch.setattr(image.shutil, "which", lambda _: "/bin/true")
    corpus.write("a.png", picture("a"))
    corpus.write("bomb.png", bomb(9000, 9000))
    corpus.raw()
    corpus.clean()
    assert corpus.reasons() == {"bomb.png": "pixel_bomb"}
    assert [row["text"] for row in corpus.rows("clean_documents")] == ["Harbour text"]
    parsing.tools.cache_clear()


def test_a_failing_and_a_hanging_program_are_reasons(monkeypatch, tmp_path):
    program = tmp_path / "tesseract"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    for script, expected in (("exit 3", "ocr_failed"), ("exec sleep 9", "ocr_failed")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(image, "TIMEOUT", 0.5)
        assert reason(picture("text")) == expected


def test_without_the_program_a_picture_waits_in_quarantine_until_it_is_there(
    corpus: Corpus, monkeypatch, tmp_path
):
    parsing.tools.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    corpus.write("scan.png", picture("The harbour opens at six."))
    corpus.raw()
    assert corpus.clean().quarantined == 1
    assert corpus.reasons() == {"scan.png": "no_ocr"}
    assert "tesseract-ocr" in corpus.rows("quarantine")[0]["detail"]
    assert corpus.clean().processed == 0

    program = tmp_path / "tesseract"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo tesseract 5 || echo Harbour text\n')
    program.chmod(0o755)
    parsing.tools.cache_clear()  # another process, later
    assert (corpus.clean().quarantined, corpus.reasons()) == (0, {})
    assert corpus.rows("clean_documents")[0]["text"] == "Harbour text"
    parsing.tools.cache_clear()
