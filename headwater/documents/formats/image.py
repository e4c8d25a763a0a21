"""Pictures of text to blocks, by the program tesseract where it is installed.

A picture's size is taken from its header: one that is too large is refused before it is decoded.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from headwater.documents.parsed import Block, Rejected, fold

MEDIA_TYPES = ("image/png", "image/jpeg", "image/tiff")
#: Of one page: an A4 page at 600 dots per inch has 35 million.
MAX_PIXELS = 64 * 10**6
MAX_PAGES = 50
#: For all pages of one picture.
TIMEOUT = 120.0
_PROGRAM = "tesseract"
#: Address space of the program; a page of the largest size takes about 300 MB.
_MEMORY = 1024 * 2**20
#: Starts the program within that limit: the parser's own processes may start none.
_LIMITED = (
    "import os, resource, sys; most = int(sys.argv[1]);"
    " resource.setrlimit(resource.RLIMIT_AS, (most, most));"
    " resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    " os.execv(sys.argv[2], sys.argv[2:])"
)
#: What Pillow raises on broken files besides its own error.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


def tool() -> str | None:
    """The program and its version, or None where there is none."""
    program = shutil.which(_PROGRAM)
    if program is None:
        return None
    asked = subprocess.run(  # its first line is all that is asked for
        [program, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    return next(iter((asked.stdout or asked.stderr).splitlines()), _PROGRAM)


def blocks(content: bytes, max_chars: int) -> tuple[str, Iterator[Block]]:
    """No title, and the paragraphs that were recognised.

    Raises:
        Rejected: `no_ocr`, `pixel_bomb`, `damaged_image`, `ocr_failed`, `no_text`, `too_large`.
    """
    _check_size(content)
    program = shutil.which(_PROGRAM)
    if program is None:
        raise Rejected(
            "no_ocr", "a picture is read by tesseract: install it (apt install tesseract-ocr)"
        )
    text = _recognise(program, content)
    if len(text) > max_chars:
        raise Rejected("too_large", f"more than {max_chars:,} characters of text")
    paragraphs = [fold(part) for part in re.split(r"\n\s*\n|\f", text)]
    if not any(paragraphs):
        raise Rejected("no_text", "no text was recognised in the picture")
    return "", (Block(paragraph) for paragraph in paragraphs)


def _check_size(content: bytes) -> None:
    """Refuse by the header: nothing is decoded."""
    import warnings

    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "TIFF"]) as picture:
                pages = getattr(picture, "n_frames", 1)
                if pages > MAX_PAGES:
                    raise Rejected("too_large", f"{pages:,} pages; the limit is {MAX_PAGES}")
                for page in range(pages):
                    picture.seek(page)
                    width, height = picture.size
                    if width * height > MAX_PIXELS:
                        size = f"{width:,} by {height:,}"
                        raise Rejected("pixel_bomb", f"{size} pixels; the limit is {MAX_PIXELS:,}")
    except Image.DecompressionBombError as error:
        raise Rejected("pixel_bomb", fold(str(error))[:200]) from error
    except UnidentifiedImageError as error:
        raise Rejected("damaged_image", "its bytes are those of no kind of picture") from error
    except _DAMAGE as error:
        detail = f"{type(error).__name__}: {fold(str(error))[:200]}"
        raise Rejected("damaged_image", detail) from error


def _recognise(program: str, content: bytes) -> str:
    # In an empty folder and without our environment: it looks for its configuration in both.
    kept = {name: os.environ[name] for name in ("PATH", "TESSDATA_PREFIX") if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _LIMITED,
                    str(_MEMORY),
                    program,
                    "stdin",
                    "stdout",
                ],
                input=content,
                capture_output=True,
                timeout=TIMEOUT,
                cwd=folder,
                env={**kept, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C"},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Rejected("ocr_failed", f"tesseract took more than {TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        said = fold(done.stderr.decode("utf-8", "replace"))[-200:]
        raise Rejected("ocr_failed", f"tesseract ended with {done.returncode}: {said}")
    return done.stdout.decode("utf-8", "replace")
