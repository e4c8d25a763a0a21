"""Zip archives that documents come in, bounded before anything in them is used.

Nothing is written to disk. What the directory of an archive declares is checked first, then every
member is inflated once, counted and dropped: a bomb is refused whatever it declares.
"""

import io
import zipfile
import zlib

from headwater.documents.parsed import Rejected

MAX_MEMBERS = 10_000
#: Inflated bytes of all members together.
MAX_INFLATED = 256 * 2**20
#: Markup becomes a tree many times its size, so that less of it is read: all members together.
MAX_MARKUP = 64 * 2**20
#: Inflated to stored bytes of one member. XML of an office program reaches about 30; a bomb 1000.
MAX_RATIO = 200
#: Small members may have any ratio.
_SMALL = 2**20
_BLOCK = 2**18
_MARKUP = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx")
#: What the old binary formats of an office program, and its encrypted files, begin with.
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: What reading a broken archive raises besides `BadZipFile`.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)
#: What the readers of office packages raise on broken ones besides errors of their own.
OFFICE_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, *DAMAGE,
)  # fmt: skip


def open_bounded(content: bytes, kind: str) -> zipfile.ZipFile:
    """An archive whose members are all sound and together small enough to read.

    Args:
        kind: names the format in reasons: "docx" gives `damaged_docx`.

    Raises:
        Rejected: `encrypted_KIND`, `damaged_KIND`, `zip_bomb`.
    """
    if content.startswith(_COMPOUND):
        raise Rejected(
            f"encrypted_{kind}", "it is encrypted, or of the format before 2007: save it anew"
        )
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
        _check_declared(members, kind)
        _check_inflated(archive, members)
    except DAMAGE as error:
        raise Rejected(f"damaged_{kind}", f"no sound zip archive: {error}") from error
    return archive


def _check_declared(members: list[zipfile.ZipInfo], kind: str) -> None:
    if len(members) > MAX_MEMBERS:
        raise Rejected("zip_bomb", f"{len(members):,} members; the limit is {MAX_MEMBERS:,}")
    if any(member.flag_bits & 1 for member in members):
        raise Rejected(f"encrypted_{kind}", "a password is needed to read it")
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise Rejected(f"damaged_{kind}", "two members have one name")
    _check_sum(sum(member.file_size for member in members))
    _check_markup(sum(member.file_size for member in members if _is_markup(member)))


def _check_inflated(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    total = markup = 0
    for member in members:
        size = 0
        with archive.open(member) as file:
            while block := file.read(_BLOCK):
                size += len(block)
                _check_sum(total + size)
                if size > _SMALL and size > MAX_RATIO * max(member.compress_size, 1):
                    raise Rejected("zip_bomb", f"a member inflates more than {MAX_RATIO} times")
        total += size
        markup += size if _is_markup(member) else 0
        _check_markup(markup)


def _check_sum(inflated: int) -> None:
    if inflated > MAX_INFLATED:
        raise Rejected("zip_bomb", f"it inflates to more than {MAX_INFLATED:,} bytes")


def _check_markup(inflated: int) -> None:
    if inflated > MAX_MARKUP:
        raise Rejected("too_large", f"it holds more than {MAX_MARKUP:,} bytes of markup")


def _is_markup(member: zipfile.ZipInfo) -> bool:
    return member.filename.lower().endswith(_MARKUP)


def refuse_entities(archive: zipfile.ZipFile) -> None:
    """Office formats have no document type declaration: one could only name entities.

    Raises:
        Rejected: `xml_entities`.
    """
    forms = [declared.encode(code) for declared in ("<!DOCTYPE", "<!ENTITY")
             for code in ("utf-8", "utf-16-le", "utf-16-be")]  # fmt: skip
    for member in archive.infolist():
        if not _is_markup(member):
            continue
        data = archive.read(member)
        if any(form in data for form in forms):
            raise Rejected("xml_entities", f"{member.filename[:80]} declares a document type")
