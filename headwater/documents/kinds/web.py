"""A web site as a source: the pages that its sitemaps list, a document each.

Knows the entry and what the last look at the site found; how a site is looked at is in
`headwater.documents.kinds.crawl`. A look costs one conditional request a page at most.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from headwater.documents.kinds.base import Entry, ReadError
from headwater.documents.kinds.web_state import Page, SiteState, opened
from headwater.errors import HeadwaterError
from headwater.records import SourceItem, digest_of
from headwater.settings import Settings

#: Fields that change neither which pages are listed nor what is known of them.
_ASIDE = frozenset(
    {"name", "licence", "access", "owner", "most_removed", "contact"}
    | {"every_minutes", "delay_seconds", "max_minutes", "allow_private"}
)


class WebSource(Entry):
    """Pages of a site, or of the part of it below a path, that its sitemaps list."""

    kind: Literal["web"] = "web"
    url: str = Field(description="Where the site, or the part of it that is meant, begins.")
    sitemap: str | None = Field(
        default=None, description="URL of a sitemap; default: those of robots.txt, or /sitemap.xml."
    )
    hosts: list[str] = Field(
        default=[], description="Other hosts of the site, which sitemaps and redirects may name."
    )
    include: list[str] | None = Field(
        default=None, description="Globs over paths of URLs, such as /docs/*; None is all."
    )
    exclude: list[str] = Field(default=[], description="Globs over paths that are left out.")
    every_minutes: float = Field(
        default=60, ge=0, description="Between two looks; in between, the last listing stands."
    )
    delay_seconds: float = Field(
        default=1, ge=0, description="Between two requests; robots.txt may ask for more."
    )
    max_pages: int = Field(default=10_000, ge=1, description="A site with more is refused.")
    max_minutes: float = Field(
        default=60, gt=0, description="Of one look; the next one goes on where it ended."
    )
    trust_lastmod: bool = Field(
        default=True, description="Whether a page with the sitemap's `lastmod` of before is unread."
    )
    allow_private: list[str] = Field(
        default=[], description="Hosts (`name` or `name:port`) that may have private addresses."
    )
    contact: str | None = Field(
        default=None,
        pattern=r"^[!-~]{1,200}$",
        description="URL or address that the servers are told, in the User-Agent.",
    )

    @field_validator("url", "sitemap")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an http or https URL is needed")
        if "@" in parts.netloc:
            raise ValueError("a URL without user and password is needed")
        return value


def list_pages(source: WebSource, until: float | None = None) -> list[SourceItem]:
    """The pages of the site, by its last look; a new one where that is older than `every_minutes`.

    The etag is the digest of the page's bytes.

    Args:
        until: when to stop looking, of the monotonic clock; what is listed then is what the last
            look that ended found, and the next one goes on.

    Raises:
        HeadwaterError: fetching is off, or the site, its robots.txt or a sitemap cannot be read.
    """
    if not Settings().fetching:
        raise HeadwaterError(
            f"The source {source.name!r} is on the network: {source.url}.",
            mend="Set HEADWATER_FETCHING=true to let sources be fetched, or download it and name the"
            " folder.",
        )
    with opened(_place(source)) as state:
        if not _is_fresh(source, state):
            with state.alone(urlsplit(source.url).netloc.lower(), wait=until is None) as held:
                if held and not _is_fresh(source, state):  # another may have looked meanwhile
                    from headwater.documents.kinds.crawl import look

                    look(source, state, until)
        return [_item(source, page) for page in state.listing()]


def read_pages(
    source: WebSource, items: Iterable[SourceItem], max_bytes: int
) -> Iterator[tuple[SourceItem, bytes | ReadError]]:
    """The bytes of some items, as the look that listed them has fetched them."""
    with opened(_place(source)) as state:
        for item in items:
            if item.size > max_bytes:
                detail = f"{item.size:,} bytes; the limit is {max_bytes:,}"
                yield item, ReadError("too_large", detail)
                continue
            content = state.content(item.etag)
            if content is None:
                yield item, ReadError("missing", "the page changed after it was listed")
            else:
                yield item, content


def made_of(source: WebSource) -> str:
    """What a listing of a site depends on, besides the site."""
    fields = source.model_dump(mode="json", exclude=set(_ASIDE))
    return digest_of("web/1", fields, Settings().max_document_bytes)


def _place(source: WebSource) -> Path:
    return Settings().cache / "web" / f"{digest_of(source.name, source.url)[:32]}.sqlite"


def _is_fresh(source: WebSource, state: SiteState) -> bool:
    age = time.time() - state.time("looked")
    return state.note("made_of") == made_of(source) and 0 <= age < 60 * source.every_minutes


def _item(source: WebSource, page: Page) -> SourceItem:
    return SourceItem(
        uri=page.url,
        source=source.name,
        size=page.size,
        etag=page.digest or page.reason,
        media_type=page.media_type or "text/html",
        fault=(page.reason, page.detail) if page.reason else None,
    )
