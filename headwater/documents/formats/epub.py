"""EPUB books to blocks: the pages along the spine, each read as a web page.

Styles, pictures, scripts and pages that the spine does not name are never looked at.
"""

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from headwater.documents.decoding import decode
from headwater.documents.formats import html, zipped
from headwater.documents.parsed import Block, Rejected, fold

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_NAMES = {
    "c": "urn:oasis:names:tc:opendocument:xmlns:container",
    "opf": "http://www.idpf.org/2007/opf",
    "dc": "http://purl.org/dc/elements/1.1/",
    "enc": "http://www.w3.org/2001/04/xmlenc#",
}
_PAGES = {"application/xhtml+xml", "text/html", "application/xml"}


def blocks(content: bytes, max_chars: int) -> tuple[str, list[Block]]:
    """The book's title, or "", and its blocks.

    Raises:
        Rejected: `encrypted_epub`, `damaged_epub`, `zip_bomb`, `xml_entities`, `too_large`,
            `too_deep`, `undecodable`.
    """
    with zipped.open_bounded(content, "epub") as archive:
        package = _package_path(archive)
        root = _xml(archive, package)
        pages = list(_spine(root, posixpath.dirname(package)))
        _refuse_encrypted(archive, pages)
        found, chars = [], 0
        for page in pages:
            for block in html.blocks(decode(_read(archive, page), markup=True))[1]:
                chars += len(block.text)
                if chars > max_chars:
                    raise Rejected("too_large", f"more than {max_chars:,} characters of text")
                found.append(block)
    return fold(root.findtext(".//dc:title", "", _NAMES)), found


def _package_path(archive: zipfile.ZipFile) -> str:
    rootfile = _xml(archive, _CONTAINER).find(".//c:rootfile", _NAMES)
    path = None if rootfile is None else rootfile.get("full-path")
    if not path:
        raise Rejected("damaged_epub", f"{_CONTAINER} names no package")
    return posixpath.normpath(path)


def _spine(package: Any, folder: str) -> Iterator[str]:
    """Names of the members that are the book's pages, in reading order."""
    items = {item.get("id"): item for item in package.iterfind(".//opf:manifest/opf:item", _NAMES)}
    seen = set[str]()
    for reference in package.iterfind(".//opf:spine/opf:itemref", _NAMES):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in _PAGES:
            continue
        href = unquote(item.get("href", "").partition("#")[0])
        name = posixpath.normpath(posixpath.join(folder, href))
        if name not in seen:
            seen.add(name)
            yield name


def _refuse_encrypted(archive: zipfile.ZipFile, pages: list[str]) -> None:
    """Fonts may be encrypted: they are never read."""
    if _ENCRYPTION not in archive.namelist():
        return
    for reference in _xml(archive, _ENCRYPTION).iterfind(".//enc:CipherReference", _NAMES):
        if posixpath.normpath(unquote(reference.get("URI", ""))) in pages:
            raise Rejected("encrypted_epub", "its pages are encrypted for one reader's device")


def _xml(archive: zipfile.ZipFile, name: str) -> Any:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException, ElementTree

    try:
        return ElementTree.fromstring(_read(archive, name))
    except DefusedXmlException as error:
        raise Rejected("xml_entities", f"{name[:80]} declares entities") from error
    except (ParseError, RecursionError, ValueError, LookupError) as error:
        raise Rejected("damaged_epub", f"{name[:80]} is no XML: {error}") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise Rejected("damaged_epub", f"it has no {name[:80]}") from error
    except zipped.DAMAGE as error:
        raise Rejected("damaged_epub", f"{name[:80]}: {error}") from error
