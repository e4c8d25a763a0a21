"""What a web site says about itself: robots.txt (RFC 9309) and sitemaps (sitemaps.org), as bytes.

Knows no network, and does not judge whether a page may be reached.
"""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree.ElementTree import Element, ParseError

from headwater.documents.kinds.base import ReadError

#: Of robots.txt; RFC 9309 asks for at least as much, and lets the rest be ignored.
MAX_ROBOTS = 512 * 2**10
#: Of a sitemap, inflated: what the protocol allows.
MAX_SITEMAP = 50 * 2**20
_PRINTABLE = "".join(map(chr, range(33, 127)))
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Robots:
    """What robots.txt lets one agent do. Without any rules, everything."""

    rules: tuple[tuple[str, bool], ...] = ()  # pattern and whether it allows; the longest first
    delay: float = 0.0  # seconds that it asks for between two requests
    sitemaps: tuple[str, ...] = ()

    def allows(self, path: str) -> bool:
        """Whether a path with its query may be asked for: the longest pattern that matches says."""
        if path == "/robots.txt":
            return True
        normal = _normal(path)
        return next((allow for pattern, allow in self.rules if _matches(pattern, normal)), True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitemap:
    """What one sitemap lists, as it is written there: other sitemaps, or pages with their `lastmod`."""

    sitemaps: tuple[str, ...] = ()
    pages: tuple[tuple[str, str], ...] = ()


def parse_robots(content: bytes, agent: str) -> Robots:
    """The rules of robots.txt for an agent's product token, else those for everyone.

    Groups for one agent are joined; of equally long patterns the one that allows is before.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    sitemaps: list[str] = []
    names: list[str] = []
    in_rules = False
    for key, value in _lines(content):
        if key == "sitemap":
            sitemaps.append(value)
        elif key == "user-agent":
            if in_rules:
                names, in_rules = [], False
            names.append(value.partition("/")[0].strip().lower())
            groups.setdefault(names[-1], [])
        elif key in ("allow", "disallow", "crawl-delay"):
            in_rules = True
            for name in names:
                groups[name].append((key, value))
    group = groups.get(agent.lower(), groups.get("*", []))
    rules = {(_normal(value), key == "allow") for key, value in group if key != "crawl-delay"}
    delays = [_seconds(value) for key, value in group if key == "crawl-delay"]
    return Robots(
        rules=tuple(sorted(((p, a) for p, a in rules if p), key=lambda r: (-len(r[0]), not r[1]))),
        delay=max(delays, default=0.0),
        sitemaps=tuple(dict.fromkeys(sitemaps)),
    )


def parse_sitemap(content: bytes) -> Sitemap:
    """What a sitemap lists, be it an index, a set of URLs, or a text with a URL a line.

    Raises:
        ReadError: `bad_sitemap`: it is none, or damaged, or declares a document type.
    """
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"<"):
        return Sitemap(pages=tuple((line, "") for line in _urls(start)))
    found: dict[str, list[tuple[str, str]]] = {"urlset": [], "sitemapindex": []}
    root = ""
    for name, element in _elements(start):
        if not root:
            root = name
            if root not in found:
                raise ReadError("bad_sitemap", f"its root is {root[:50]!r}")
        elif element is not None:
            loc, lastmod = _entry(element)
            if loc and name == ("url" if root == "urlset" else "sitemap"):
                found[root].append((loc, lastmod))
            element.clear()
    return Sitemap(
        sitemaps=tuple(loc for loc, _ in found["sitemapindex"]), pages=tuple(found["urlset"])
    )


def _lines(content: bytes) -> Iterator[tuple[str, str]]:
    text = content[:MAX_ROBOTS].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for line in re.split(r"[\r\n]+", text):
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _seconds(text: str) -> float:
    """A delay; what cannot be one is none."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _normal(path: str) -> str:
    """A path or pattern in the one form in which both are compared, octet by octet."""
    escaped = quote(path, safe=_PRINTABLE)

    def one(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if char in _UNRESERVED else match[0].upper()

    return _ESCAPE.sub(one, escaped)


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern (`*` is anything, `$` the end) matches from the start; in linear time."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not rest:
        return not anchored or at == len(path)
    *middle, last = rest
    for piece in middle:
        at = path.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    if anchored:
        return path.endswith(last) and len(path) - len(last) >= at
    return path.find(last, at) >= 0


def _urls(content: bytes) -> list[str]:
    lines = content.decode("utf-8", "replace").split()
    if not lines or not all(line.lower().startswith(("http://", "https://")) for line in lines):
        raise ReadError("bad_sitemap", "it is neither XML nor a list of URLs")
    return lines


def _elements(content: bytes) -> Iterator[tuple[str, Element | None]]:
    """The root's name, then each element that ended, as it is met."""
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    events = iterparse(io.BytesIO(content), events=("start", "end"), forbid_dtd=True)
    depth = 0
    try:
        for event, element in events:
            if event == "start":
                depth += 1
                if depth == 1:
                    yield _local(element), None
            else:
                depth -= 1
                if depth == 1:
                    yield _local(element), element
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise ReadError("bad_sitemap", f"it is no sound XML: {error}") from error


def _entry(element: Element) -> tuple[str, str]:
    """`loc` and `lastmod` of an entry."""
    found = {_local(child): (child.text or "").strip() for child in element}
    return found.get("loc", ""), found.get("lastmod", "")


def _local(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]
