"""One look at a web site: robots.txt, sitemaps, and each page they list that may have changed.

Polite: one request at a time, with a delay, conditional where something is known, within robots.txt
(RFC 9309), and back off where a server asks for it. Knows no entry of sources.yaml but its own, and
leaves what it learns in the site's state.
"""

import codecs
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from pathlib import PurePosixPath

import httpx

from headwater.documents.fetching import (
    Answer,
    Fetcher,
    FetchError,
    Limits,
    in_blocks,
    inflate,
    parse_url,
)
from headwater.documents.kinds.base import MEDIA_TYPES, ReadError
from headwater.documents.kinds.site_files import (
    MAX_ROBOTS,
    MAX_SITEMAP,
    Robots,
    parse_robots,
    parse_sitemap,
)
from headwater.documents.kinds.web import WebSource, made_of
from headwater.documents.kinds.web_state import GONE, Page, SiteState, Todo
from headwater.errors import HeadwaterError
from headwater.progress import track
from headwater.records import digest_bytes
from headwater.settings import Settings

#: Product token: what robots.txt calls us, and the User-Agent begins with.
AGENT = "headwater"
_MAX_SITEMAPS = 500
#: Seconds after which a look that has not ended begins anew, and one that has not yet begun to ask
#: for pages.
_MAX_AGE, _MAX_BEGINNING = 24 * 3600.0, 3600.0
#: So many pages in a row without an answer, and the site is not there.
_GIVE_UP = 5
#: Seconds to wait where a server is busy and does not say for how long.
_BUSY = 30.0
_BUSY_STATUS = frozenset({429, 503})
_GZIP = b"\x1f\x8b"
_UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_PLAIN = frozenset({"text/markdown", "text/x-rst", "text/plain"})
_READABLE = frozenset(MEDIA_TYPES.values())
_CHARSET = re.compile(
    r"charset\s*=\s*[\"']?(iso-8859-\d+|windows-125\d|koi8-[ru]|shift_jis|euc-jp|euc-kr|gb2312|gbk"
    r"|gb18030|big5)\b",
    re.I,
)
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
log = logging.getLogger("headwater")


class _OutOfTime(Exception):
    """The time for this look is used up; the next one goes on."""


def look(source: WebSource, state: SiteState, until: float | None) -> None:
    """Bring a site's state up to the site. The lock of its host must be held.

    Args:
        until: when to stop, of the monotonic clock; the listing stays as it is then. Without it a
            look ends after `max_minutes` and publishes what it has found so far.

    Raises:
        HeadwaterError: the site, its robots.txt or a sitemap cannot be read.
    """
    end = time.monotonic() + 60 * source.max_minutes
    agent = f"{AGENT} (+{source.contact})" if source.contact else AGENT
    limits = Limits() if until is None else Limits(seconds=20, silence=10)
    with Fetcher(
        user_agent=agent,
        allow_private=source.allow_private,
        delay=source.delay_seconds,
        limits=limits,
    ) as fetcher:
        # What another process asked for last, and what the servers asked of it, holds for this one.
        fetcher.hold(min(max(0.0, state.time("free") - time.time()), 3600.0))
        try:
            _Look(source, state, fetcher, end if until is None else min(until, end)).run()
            ended = True
        except _OutOfTime:
            ended = until is None or time.monotonic() >= end
        finally:
            state.write_notes(free=time.time() + fetcher.wait)
    planned = state.note("plan_of") == made_of(source)
    if until is None and not planned:
        raise HeadwaterError(
            f"The sitemaps of the source {source.name!r} took longer than {source.max_minutes:g} min.",
            mend="The next look goes on; raise max_minutes in the entry.",
        )
    if ended and planned:
        state.end(used_since=state.time("used_since"), looked=time.time(), made_of=made_of(source))


class _Look:
    """One look, or a stretch of it."""

    def __init__(self, source: WebSource, state: SiteState, fetcher: Fetcher, stop: float) -> None:
        self._source = source
        self._state = state
        self._fetcher = fetcher
        self._stop = stop
        try:
            self._base = parse_url(source.url)
        except FetchError as error:
            raise self._refusal(f"cannot be fetched: {error.detail}") from error
        self._hosts = {_netloc(self._base), *(host.lower() for host in source.hosts)}
        self._since = 0.0  # robots.txt and sitemaps that were asked for since are as they are
        self._known_robots: dict[str, Robots] = {}
        self._max_bytes = Settings().max_document_bytes

    def run(self) -> None:
        """Ask for everything that is still to be asked for."""
        planned = self._state.time("planned")
        going_on = self._state.note("plan_of") == made_of(self._source) and _is_young(
            planned, _MAX_AGE
        )
        todos = self._state.todos() if going_on else []
        if todos:
            self._since = self._state.time("used_since")
        else:
            self._begin()
            todos = self._state.todos()
        self._pace()
        silent = 0
        for todo in track(todos, what=f"fetching {self._source.name}"):
            self._in_time()
            silent = 0 if self._visit(todo) else silent + 1
            if silent == _GIVE_UP:
                raise HeadwaterError(
                    f"The source {self._source.name!r} stopped answering at {todo.url}.",
                    mend="Look whether the site can be reached; the next look goes on from there.",
                )

    def _begin(self) -> None:
        """Find out what is to be asked for."""
        source, state = self._source, self._state
        self._since = state.time("beginning")
        if state.note("beginning_of") != made_of(source) or not _is_young(
            self._since, _MAX_BEGINNING
        ):
            self._since = time.time()
            state.write_notes(beginning=self._since, beginning_of=made_of(source))
        try:
            self._pace()
            todos = [self._todo(url, lastmod) for url, lastmod in self._listed().items()]
        except HeadwaterError:
            # The next try shall not go by what this one was told.
            state.write_notes(beginning="", beginning_of="")
            raise
        state.begin(
            todos,
            plan_of=made_of(source),
            planned=time.time(),
            used_since=self._since,
            beginning="",
            beginning_of="",
        )

    def _pace(self) -> None:
        """Keep the delay that the entry or the site asks for, whichever is longer."""
        self._fetcher.delay = max(self._source.delay_seconds, self._robots(self._base).delay)

    def _listed(self) -> dict[str, str]:
        """Pages of the source that the sitemaps list, with their `lastmod`.

        Raises:
            HeadwaterError: there is none, or there are too many.
        """
        source = self._source
        first = [source.sitemap] if source.sitemap else self._robots(self._base).sitemaps
        waiting = list(first or [f"{_origin(self._base)}/sitemap.xml"])
        asked: set[str] = set()
        pages: dict[str, str] = {}
        elsewhere = 0
        while waiting:
            sitemap = self._as_sitemap(waiting.pop(0))
            if sitemap in asked:
                continue
            asked.add(sitemap)
            if len(asked) > _MAX_SITEMAPS:
                raise self._refusal(f"has more than {_MAX_SITEMAPS} sitemaps")
            content = self._file(sitemap, MAX_SITEMAP)
            try:
                if content.startswith(_GZIP):
                    content = inflate(in_blocks(content), MAX_SITEMAP)
                found = parse_sitemap(content)
            except ReadError as error:
                raise self._refusal(f"cannot read the sitemap {sitemap}: {error.detail}") from error
            waiting.extend(found.sitemaps)
            for loc, lastmod in found.pages:
                url = self._as_page(loc)
                if url is None:
                    elsewhere += 1
                else:
                    pages[url] = max(lastmod, pages.get(url, ""))
            if len(pages) > source.max_pages:
                raise self._refusal(f"lists more than {source.max_pages:,} pages (max_pages)")
        if elsewhere:
            log.info(
                "%s: %d pages of the sitemaps are not meant by the entry", source.name, elsewhere
            )
        if not pages:
            raise self._refusal("lists no page that its entry means")
        return pages

    def _as_sitemap(self, loc: str) -> str:
        try:
            url = parse_url(loc)
        except FetchError as error:
            raise self._refusal(f"names a sitemap that is none: {error.detail}") from error
        self._check_host(url, f"names the sitemap {url}")
        return str(url)

    def _as_page(self, loc: str) -> str | None:
        """A page's URL in its normal form; None of one that the entry does not mean."""
        try:
            url = parse_url(loc)
        except FetchError:
            return None
        path = url.path
        base = self._base.path
        if not base.endswith("/"):
            # /docs means /docs and all that is below /docs/; /docs/index.html the same.
            is_page = PurePosixPath(base).suffix.lower() in MEDIA_TYPES
            folder = str(PurePosixPath(base).parent) if is_page else base
            base = folder.rstrip("/") + "/"
        source = self._source
        if _netloc(url) not in self._hosts or not f"{path}/".startswith(base):
            return None
        if source.include is not None and not any(fnmatch(path, each) for each in source.include):
            return None
        return None if any(fnmatch(path, each) for each in source.exclude) else str(url)

    def _todo(self, url: str, lastmod: str) -> Todo:
        """Whether and why a page need not, or must not, be asked for."""
        if not self._robots(parse_url(url)).allows(_target(parse_url(url))):
            return Todo(url=url, reason="robots", detail="robots.txt disallows it")
        before = self._state.page(url)
        done = (
            self._source.trust_lastmod
            and bool(lastmod)
            and before is not None
            and before.lastmod == lastmod
            and self._state.holds(before.digest)
        )
        return Todo(url=url, lastmod=lastmod, done=done)

    def _robots(self, url: httpx.URL) -> Robots:
        """The rules of a URL's host for us."""
        origin = _origin(url)
        if origin not in self._known_robots:
            content = self._file(f"{origin}/robots.txt", 8 * MAX_ROBOTS, is_robots=True)
            self._known_robots[origin] = parse_robots(content, AGENT)
        return self._known_robots[origin]

    def _file(self, url: str, max_bytes: int, *, is_robots: bool = False) -> bytes:
        """robots.txt or a sitemap, asked for once a look.

        A robots.txt that a server refuses to give (4xx) forbids nothing (RFC 9309, 2.3.1.3).

        Raises:
            HeadwaterError: it cannot be read. (Pages it lists would seem deleted, pages it forbids
                allowed.)
        """
        state = self._state
        before = state.file(url)
        kept = state.content(before.digest) if before is not None else None
        if before is not None and kept is not None and before.seen >= self._since > 0:
            return kept
        try:
            answer = self._ask(
                url,
                max_bytes,
                _validators(before if kept is not None else None),
                check=lambda hop: self._check_hop(hop, by_robots=False),
                reads=lambda status, headers: status == 200,
            )
        except FetchError as error:
            raise self._refusal(f"cannot read {url}: {error.detail}", error) from error
        if answer.status == 304 and before is not None and kept is not None:
            state.keep_file(replace(before, seen=time.time()), None)
            return kept
        if answer.status != 200 and not (is_robots and 400 <= answer.status < 500):
            raise self._refusal(f"cannot read {url}: the server answers {answer.status}")
        page = Page(url=url, digest=digest_bytes(answer.body), seen=time.time())
        if answer.status == 200:
            etag, modified = _validators_of(answer)
            page = replace(page, etag=etag, modified=modified)
        state.keep_file(page, answer.body)
        return answer.body

    def _visit(self, todo: Todo) -> bool:
        """Ask for a page; whether there was an answer. Without one, the page stays as it was."""
        before = self._state.page(todo.url)
        sound = before if before is not None and self._state.holds(before.digest) else None
        try:
            answer = self._ask(
                todo.url,
                self._max_bytes,
                _validators(sound),
                check=lambda hop: self._check_hop(hop, by_robots=True),
                reads=_is_wanted,
            )
            page, content = self._page(todo, answer, sound)
        except FetchError as error:
            page = Page(url=todo.url, reason=error.reason, detail=error.detail, seen=time.time())
            self._state.keep_page(before if error.passing and before else page, None)
            return not error.passing
        self._state.keep_page(page, content)
        return True

    def _page(self, todo: Todo, answer: Answer, before: Page | None) -> tuple[Page, bytes | None]:
        """What an answer says of a page.

        Raises:
            FetchError: a passing one, where it says nothing.
        """
        now = time.time()
        status = answer.status
        if status == 304 and before is not None:
            return replace(before, lastmod=todo.lastmod, seen=now), None
        if status in (408, 425) or status >= 500:
            raise FetchError("unreachable", f"the server answers {status}", passing=True)
        page = Page(url=todo.url, lastmod=todo.lastmod, seen=now)
        if status in (404, 410):
            return replace(page, reason=GONE, detail=f"the server answers {status}"), None
        if status != 200:
            return replace(page, reason="unreadable", detail=f"the server answers {status}"), None
        if _forbids_index(answer.headers):
            return replace(page, reason="robots", detail="X-Robots-Tag: noindex"), None
        told = answer.headers.get("content-type", "")
        media_type = media_type_of(told, parse_url(answer.url).path)
        if media_type is None:
            return replace(page, reason="unsupported", detail=f"content type {told[:100]!r}"), None
        etag, modified = _validators_of(answer)
        content = _as_utf8(answer.body, told) if media_type.startswith("text/") else answer.body
        page = replace(
            page,
            digest=digest_bytes(content),
            size=len(content),
            media_type=media_type,
            etag=etag,
            modified=modified,
        )
        return page, content

    def _ask(
        self,
        url: str,
        max_bytes: int,
        headers: Mapping[str, str],
        *,
        check: Callable[[httpx.URL], None],
        reads: Callable[[int, Mapping[str, str]], bool],
    ) -> Answer:
        """One request, and one more where the server was busy; as late as it asks for."""
        for again in (False, True):
            self._in_time()
            answer = self._fetcher.get(
                url, max_bytes=max_bytes, headers=headers, check=check, reads=reads
            )
            if answer.status not in _BUSY_STATUS:
                return answer
            self._fetcher.hold(_retry_after(answer.headers))
            if again:
                break
        raise FetchError("unreachable", f"the server answers {answer.status}", passing=True)

    def _in_time(self) -> None:
        if time.monotonic() + self._fetcher.wait >= self._stop:
            raise _OutOfTime

    def _check_hop(self, url: httpx.URL, *, by_robots: bool) -> None:
        if _netloc(url) not in self._hosts:
            raise FetchError("outside_source", f"it leads to {_netloc(url)}")
        if by_robots and not self._robots(url).allows(_target(url)):
            raise FetchError("robots", f"robots.txt disallows {url}")

    def _check_host(self, url: httpx.URL, what: str) -> None:
        if _netloc(url) not in self._hosts:
            raise HeadwaterError(
                f"The source {self._source.name!r} {what}, which is on another host.",
                mend=f"If it is of the same site, name {_netloc(url)} under `hosts`.",
            )

    def _refusal(self, what: str, error: FetchError | None = None) -> HeadwaterError:
        name = self._source.name
        mend = f"Correct the entry, or run `headwater sources remove {name}`."
        if error is not None and error.passing:
            mend = "Look whether the site can be reached; nothing was changed."
        elif error is not None and error.reason == "forbidden_address":
            mend = "If that is meant, name the host under `allow_private` in the entry."
        elif error is not None and error.reason == "outside_source":
            mend = "If that is the same site, name the host under `hosts` in the entry."
        return HeadwaterError(f"The source {name!r} {what}.", mend=mend)


def media_type_of(told: str, path: str) -> str | None:
    """The media type of a document, by its Content-Type and the URL's path; None of no document."""
    essence = told.partition(";")[0].strip().lower()
    by_suffix = MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())
    if essence in _UNTOLD:
        return by_suffix
    if essence == "text/plain":
        return by_suffix if by_suffix in _PLAIN else essence
    if essence == "application/xhtml+xml":
        return "text/html"
    return essence if essence in _READABLE else None


def _is_wanted(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer may hold a document; where it names no type, the suffix says later."""
    told = headers.get("content-type", "")
    untold = told.partition(";")[0].strip().lower() in _UNTOLD
    return status == 200 and (untold or media_type_of(told, "") is not None)


def _forbids_index(headers: Mapping[str, str]) -> bool:
    """Whether X-Robots-Tag says noindex to everyone or to us; other agents' names are skipped."""
    agent = ""
    for part in headers.get("x-robots-tag", "").lower().split(","):
        name, colon, rule = part.rpartition(":")
        agent = name.strip() if colon else agent
        if agent in ("", AGENT) and rule.strip() in ("noindex", "none"):
            return True
    return False


def _as_utf8(content: bytes, told: str) -> bytes:
    """A text in an old encoding that only the HTTP header names, as UTF-8 with its mark: nobody
    knows of the header later. Every other text stays as it is.
    """
    charset = _CHARSET.search(told)
    if charset is None or content.startswith(_MARKS) or _decoded(content, "utf-8") is not None:
        return content
    text = _decoded(content, charset[1])
    return content if text is None else codecs.BOM_UTF8 + text.encode("utf-8")


def _decoded(content: bytes, encoding: str) -> str | None:
    """The text of some bytes, or None where they are none in this encoding."""
    try:
        return content.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _validators(page: Page | None) -> dict[str, str]:
    """Headers that ask for a page only if it has changed."""
    if page is None:
        return {}
    found = {"If-None-Match": page.etag, "If-Modified-Since": page.modified}
    return {name: value for name, value in found.items() if value}


def _validators_of(answer: Answer) -> tuple[str, str]:
    """ETag and Last-Modified, where they can be sent back as they are; else ""."""
    found = (answer.headers.get(name, "") for name in ("etag", "last-modified"))
    etag, modified = (
        value if len(value) < 500 and value.isascii() and value.isprintable() else ""
        for value in found
    )
    return etag, modified


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a busy server asks to be left alone for: a number, or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return _BUSY
    return max(0.0, seconds) if math.isfinite(seconds) else _BUSY


def _is_young(since: float, max_age: float) -> bool:
    return 0 <= time.time() - since < max_age


def _netloc(url: httpx.URL) -> str:
    """Host, with the port where it is another than the scheme's."""
    return url.netloc.decode("ascii")


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{_netloc(url)}"


def _target(url: httpx.URL) -> str:
    """Path and query, as robots.txt means them."""
    return url.raw_path.decode("ascii")
