"""Pictures of text to blocks, by the program tesseract where it is installed.

A picture's size is taken from its header: one that is too large is refused before it is decoded.
Checking needs Python alone and is done where a parser is confined; recognising starts the program.
"""

import io
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from headwater.documents.parsed import Block, Rejected, damaged, fold

MEDIA_TYPES = ("image/png", "image/jpeg", "image/tiff")
#: Of one page: an A4 page at 600 dots per inch has 35 million.
MAX_PIXELS = 64 * 10**6
MAX_PAGES = 50
#: For all pages of one picture.
TIMEOUT = 120.0
_PROGRAM = "tesseract"
#: Address space of the program; a page of the largest size takes about 300 MB.
_MEMORY = 1024 * 2**20
#: Starts the program within that limit.
_LIMITED = (
    "import os, resource, sys; most = int(sys.argv[1]);"
    " resource.setrlimit(resource.RLIMIT_AS, (most, most));"
    " resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    " os.execv(sys.argv[2], sys.argv[2:])"
)
#: What Pillow raises on broken files besides its own error.
_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
log = logging.getLogger("headwater")


def tool() -> str | None:
    """The program and its version, or None where there is none that works."""
    program = shutil.which(_PROGRAM)
    if program is None:
        return None
    try:
        asked = subprocess.run(  # its first line is all that is asked for
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s does not say its version, so no picture is read: %s", program, error)
        return None
    return next(iter((asked.stdout or asked.stderr).splitlines()), _PROGRAM)


def recognise(content: bytes, max_chars: int) -> Iterator[Block]:
    """The paragraphs of a picture that was checked.

    Raises:
        Rejected: `no_ocr`, `ocr_failed`, `no_text`, `too_large`.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise Rejected(
            "no_ocr", "a picture is read by tesseract: install it (apt install tesseract-ocr)"
        )
    text = _output(program, content)
    if len(text) > max_chars:
        raise Rejected("too_large", f"more than {max_chars:,} characters of text")
    paragraphs = [fold(part) for part in re.split(r"\n\s*\n|\f", text)]
    if not any(paragraphs):
        raise Rejected("no_text", "no text was recognised in the picture")
    return (Block(paragraph) for paragraph in paragraphs)


def check(content: bytes) -> None:
    """Refuse by the header: nothing is decoded.

    Raises:
        Rejected: `pixel_bomb`, `damaged_image`, `too_large`.
    """
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
        raise damaged("image", error) from error


def _output(program: str, content: bytes) -> str:
    # In an empty folder and without our environment: it looks for its configuration in both.
    kept = {name: os.environ[name] for name in ("PATH", "TESSDATA_PREFIX") if name in os.environ}
    limited = [sys.executable, "-I", "-S", "-c", _LIMITED, str(_MEMORY)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*limited, program, "stdin", "stdout"],
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
