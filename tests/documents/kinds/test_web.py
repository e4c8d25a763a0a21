"""Web sites on loopback: what a look finds, what it costs, and where it never goes."""

import gzip
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from headwater.documents.kinds import crawl
from headwater.documents.kinds.base import ReadError
from headwater.documents.kinds.web import WebSource, _place
from headwater.documents.kinds.web_state import opened
from headwater.documents.raw import update_raw
from headwater.documents.sources import (
    add_source,
    list_items,
    listing_digest,
    load_sources,
    location_of,
    read_items,
)
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from tests.documents.examples import PROSE, Corpus
from tests.documents.site import LOOPBACK, Site, serving


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADWATER_FETCHING", "true")
    with serving() as site:
        yield site


@pytest.fixture
def canary() -> Iterator[Site]:
    with serving() as site:
        yield site
        assert site.asked == []


def source(site: Site, path: str = "", **fields: Any) -> WebSource:
    given = {"allow_private": [site.netloc], "delay_seconds": 0, "every_minutes": 0, **fields}
    return WebSource(name="site", url=site.url + path, **given)


def found(entry: WebSource, max_bytes: int = 2**20) -> dict[str, Any]:
    """By path: the bytes, or the reason why there are none."""
    origin = entry.url.split("/", 3)[:3]
    items = list_items(entry)
    return {
        item.uri.removeprefix("/".join(origin)): each if isinstance(each, bytes) else each.reason
        for item, each in read_items(entry, items, max_bytes)
    }


def raw(entry: WebSource, lake: Lake) -> Any:
    return update_raw(lake, [entry], ["00"], 1, 2**20)


def uris(lake: Lake) -> list[str]:
    return sorted(row["uri"] for row in lake.read("raw_documents", columns=["uri"]).to_pylist())


def test_a_page_of_the_sitemap_is_a_document(site):
    site.put("/", "<h1>Start</h1>")
    site.put("/guide.pdf?v=2", b"%PDF", type="application/pdf")
    site.put("/notes.md", "# Notes", type="text/plain")
    site.put("/data", b"# Untold", type="application/octet-stream")
    site.put("/film", b"x", type="video/mp4")
    site.put("/unlisted", "no", listed=False)
    entry = source(site)
    assert found(entry) == {
        "/": b"<h1>Start</h1>",
        "/guide.pdf?v=2": b"%PDF",
        "/notes.md": b"# Notes",
        "/data": "unsupported",
        "/film": "unsupported",
    }
    items = {item.uri.removeprefix(site.url): item for item in list_items(entry)}
    assert items[""].uri == site.url
    assert items["notes.md"].media_type == "text/markdown"
    assert items["guide.pdf?v=2"].size == 4
    assert site.agents == {"headwater"}
    assert "/unlisted" not in site.asked


def test_an_unchanged_site_costs_a_304_a_page_and_an_edit_one_page(site, tmp_path):
    lake, entry = Lake(tmp_path / "lake"), source(site, contact="https://example.org/bot")
    for name in "abc":
        site.put(f"/{name}", f"<p>{name}")
    assert raw(entry, lake).processed == 3
    digest = listing_digest(list_items(entry))
    site.forget()
    stats = raw(entry, lake)
    assert (stats.processed, stats.reused) == (0, 3)
    assert site.pages(304) == ["/a", "/b", "/c"]
    assert site.pages(200) == []
    assert ("/sitemap.xml", 304) in site.answered
    site.put("/b", "<p>another")
    site.forget()
    assert raw(entry, lake).processed == 1
    assert site.pages(200) == ["/b"]
    assert listing_digest(list_items(entry)) != digest
    assert site.agents == {"headwater (+https://example.org/bot)"}


def test_a_page_whose_lastmod_stands_is_not_asked_for(site):
    site.put("/a", "a", lastmod="2026-01-01")
    site.put("/b", "b", lastmod="2026-01-01")
    entry = source(site)
    before = found(entry)
    site.forget()
    assert found(entry) == before
    assert site.pages(200) + site.pages(304) == []
    site.put("/b", "b2", lastmod="2026-01-02")
    assert found(entry) == {"/a": b"a", "/b": b"b2"}
    assert site.pages(200) == ["/b"]
    # A site whose lastmod says nothing.
    site.put("/a", "a2", lastmod="2026-01-01")
    assert found(entry)["/a"] == b"a"
    assert found(source(site, trust_lastmod=False))["/a"] == b"a2"


def test_servers_without_validators_are_read_anew_and_nothing_changes(site):
    site.put("/a", "a", conditional=False)
    entry = source(site)
    digest = listing_digest(list_items(entry))
    site.forget()
    assert listing_digest(list_items(entry)) == digest
    assert site.pages(200) == ["/a"]


def test_pages_that_are_gone_go(site, tmp_path):
    lake, entry = Lake(tmp_path / "lake"), source(site)
    for name in "abcd":
        site.put(f"/{name}", name)
    raw(entry, lake)
    del site.replies["/a"]  # no longer listed
    site.put("/b", status=404, conditional=False)
    site.put("/c", status=410, conditional=False)
    stats = raw(entry, lake)
    assert stats.removed == 3
    assert uris(lake) == [site.url + "d"]
    site.put("/b", "back")
    assert raw(entry, lake).processed == 1


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("/sitemap.xml", {"status": 500}),
        ("/sitemap.xml", {"status": 404}),
        ("/sitemap.xml", {"body": "<html>Sorry</html>"}),
        ("/sitemap.xml", {"body": "<urlset></urlset>"}),
        ("/robots.txt", {"status": 500}),
        ("/sitemap.xml", {"status": 302, "headers": {"Location": "http://169.254.169.254/"}}),
    ],
)
def test_a_site_that_is_broken_does_not_look_empty(site, tmp_path, path, reply):
    lake, entry = Lake(tmp_path / "lake"), source(site)
    site.put("/a", "a")
    raw(entry, lake)
    site.put(path, listed=False, conditional=False, **reply)
    with pytest.raises(HeadwaterError, match="'site'") as error:
        raw(entry, lake)
    assert error.value.mend
    assert uris(lake) == [site.url + "a"]
    del site.replies[path]
    assert raw(entry, lake).reused == 1


def test_a_page_without_an_answer_stays_as_it_was(site, tmp_path):
    lake, entry = Lake(tmp_path / "lake"), source(site)
    site.put("/a", "a")
    site.put("/b", status=500, conditional=False)
    assert found(entry) == {"/a": b"a", "/b": "unreachable"}
    site.put("/a", status=502, conditional=False)
    site.put("/b", "b")
    assert found(entry) == {"/a": b"a", "/b": b"b"}
    raw(entry, lake)
    assert len(uris(lake)) == 2


def test_a_site_that_stops_answering_ends_the_look(site):
    for number in range(9):
        site.put(f"/{number}", "x")
    entry = source(site)
    list_items(entry)
    site.forget()
    for reply in site.replies.values():
        reply.status, reply.conditional = 503, False
        reply.headers = {"Retry-After": "0"}
    with pytest.raises(HeadwaterError, match="stopped answering"):
        list_items(entry)
    assert len(site.pages(503)) == 2 * 5  # each asked again once
    for reply in site.replies.values():
        reply.status = 200
    assert len(list_items(entry)) == 9


def test_a_busy_server_is_asked_again_as_late_as_it_wants(site, monkeypatch):
    slept: list[float] = []

    class Awake(crawl.Fetcher):
        def __init__(self, **fields: Any) -> None:
            super().__init__(sleep=slept.append, **fields)

    monkeypatch.setattr(crawl, "Fetcher", Awake)
    site.put("/a", "a")
    site.put("/robots.txt", "User-agent: *\nCrawl-delay: 70", listed=False, conditional=False)
    assert found(source(site)) == {"/a": b"a"}
    assert all(60 < each <= 70 for each in slept)
    assert len(slept) == 2  # before the sitemap, and before the page
    slept.clear()
    site.put("/a", status=429, headers={"Retry-After": "400"}, conditional=False)
    assert found(source(site)) == {"/a": b"a"}
    assert any(300 < each <= 400 for each in slept)


def test_robots_txt_is_obeyed(site):
    rules = (
        "User-agent: *\nDisallow: /\n\nUser-agent: headwater\nDisallow: /private/\nDisallow: /*?"
    )
    site.put("/robots.txt", rules, listed=False, type="text/plain")
    for path in ("/a", "/private/a", "/a?b=c"):
        site.put(path, "x")
    site.put("/b", status=302, headers={"Location": "/private/a"}, conditional=False)
    site.put("/c", "x", headers={"X-Robots-Tag": "otherbot: nofollow, noindex"})
    site.put("/d", "x", headers={"X-Robots-Tag": "noindex, nofollow"})
    entry = source(site)
    assert found(entry) == {
        "/a": b"x",
        "/private/a": "robots",
        "/a?b=c": "robots",
        "/b": "robots",
        "/c": b"x",
        "/d": "robots",
    }
    assert not {"/private/a", "/a?b=c"} & set(site.asked)


def test_a_part_of_a_site(site):
    for path in ("/", "/docs", "/docs/a", "/docs/old/b", "/docs-old/c", "/docs/print/a"):
        site.put(path, "x")
    assert found(source(site, "docs")).keys() == {
        "/docs",
        "/docs/a",
        "/docs/old/b",
        "/docs/print/a",
    }
    assert found(source(site, "docs/index.html", exclude=["*/print/*"])).keys() == {
        "/docs", "/docs/a", "/docs/old/b",
    }  # fmt: skip
    assert found(source(site, include=["*/a"])).keys() == {"/docs/a", "/docs/print/a"}
    with pytest.raises(HeadwaterError, match="no page"):
        list_items(source(site, "nowhere/"))
    with pytest.raises(HeadwaterError, match="max_pages"):
        list_items(source(site, max_pages=5))


def test_sitemaps_of_robots_txt_indexes_and_gzip(site):
    def entries(*paths: str) -> str:
        return "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)

    for path in "abcd":
        site.put(f"/{path}", path, listed=False)
    site.put("/robots.txt", f"Sitemap: {site.url}index.xml\nSitemap: {site.url}text.txt")
    site.put(
        "/index.xml",
        f"<sitemapindex><sitemap><loc>{site.url}1.xml.gz</loc></sitemap>"
        f"<sitemap><loc>{site.url}index.xml</loc></sitemap></sitemapindex>",
    )
    site.put("/1.xml.gz", gzip.compress(f"<urlset>{entries('a', 'b')}</urlset>".encode()))
    site.put("/text.txt", f"{site.url}c\n{site.url}a#part\n{site.url}a\n")
    assert found(source(site)).keys() == {"/a", "/b", "/c"}
    assert site.asked.count("/index.xml") == 1
    site.put("/own.xml", f"<urlset>{entries('d')}</urlset>")
    assert found(source(site, sitemap=site.url + "own.xml")) == {"/d": b"d"}


def test_a_sitemap_that_inflates_without_end(site, monkeypatch):
    monkeypatch.setattr(crawl, "MAX_SITEMAP", 100_000)
    site.put("/sitemap.xml", gzip.compress(b"<urlset>" + b" " * 10_000_000))
    with pytest.raises(HeadwaterError, match="inflated"):
        list_items(source(site))


def test_pages_elsewhere_are_never_asked_for(site, canary):
    site.put("/a", "a")
    site.put("/b", status=302, headers={"Location": f"{canary.url}secret"}, conditional=False)
    site.put("/c", status=302, headers={"Location": "file:///etc/passwd"}, conditional=False)
    site.more = [f"http://{host}:{canary.port}/secret" for host in LOOPBACK]
    site.more += ["file:///etc/passwd", f"http://user@{canary.netloc}/secret", "not a URL"]
    assert found(source(site)) == {"/a": b"a", "/b": "outside_source", "/c": "bad_url"}
    site.put("/robots.txt", f"Sitemap: {canary.url}sitemap.xml", listed=False)
    with pytest.raises(HeadwaterError, match="another host"):
        list_items(source(site))


def test_even_a_host_of_the_site_is_not_reached_where_it_is_private(site, canary):
    site.put("/a", status=302, headers={"Location": f"{canary.url}secret"}, conditional=False)
    entry = source(site, hosts=[canary.netloc])
    with pytest.raises(HeadwaterError) as error:  # at its robots.txt
        list_items(entry)
    assert "loopback" in error.value.what
    assert "allow_private" in error.value.mend


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_private_site_is_refused_unless_it_is_named(canary, site, host):
    entry = WebSource(name="site", url=f"http://{host}:{canary.port}/", delay_seconds=0)
    with pytest.raises(HeadwaterError, match="'site'") as error:
        list_items(entry)
    assert "HEADWATER" not in error.value.mend


def test_another_host_of_the_site_may_be_named(site):
    with serving() as other:
        other.put("/b", "b")
        site.put("/a", status=301, headers={"Location": f"{other.url}b"}, conditional=False)
        site.more = [other.url + "b"]
        both = [site.netloc, other.netloc]
        entry = source(site, hosts=[other.netloc], allow_private=both)
        items = [item.uri for item in list_items(entry)]
        assert items == sorted([site.url + "a", other.url + "b"])
        assert "/robots.txt" in other.asked


def test_nothing_is_asked_while_fetching_is_off(site, monkeypatch, tmp_path):
    monkeypatch.delenv("HEADWATER_FETCHING")
    with pytest.raises(HeadwaterError) as error:
        list_items(source(site))
    assert "HEADWATER_FETCHING" in error.value.mend
    with pytest.raises(HeadwaterError):
        add_source(tmp_path / "sources.yaml", site.url)
    assert site.asked == []


def test_between_two_looks_the_last_listing_stands(site, monkeypatch):
    site.put("/a", "a")
    entry = source(site, every_minutes=60)
    before = found(entry)
    site.forget()
    site.put("/b", "b")
    assert found(entry) == before
    assert site.asked == []
    later = time.time() + 3_601
    monkeypatch.setattr(time, "time", lambda: later)
    assert found(entry).keys() == {"/a", "/b"}
    site.forget()
    # Another entry is another listing.
    assert found(entry.model_copy(update={"exclude": ["/b"]})).keys() == {"/a"}


def test_a_look_that_is_cut_short_goes_on_where_it_ended(site, monkeypatch):
    for number in range(6):
        site.put(f"/{number}", "x")
    entry = source(site)
    real = crawl._Look._in_time
    left = [5]  # robots.txt, the sitemap, and before and within one page

    def in_time(self: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise crawl._OutOfTime
        real(self)

    monkeypatch.setattr(crawl._Look, "_in_time", in_time)
    listings = []
    for _ in range(9):
        left[0] = 5
        listings.append(list_items(entry, until=math.inf))
        if listings[-1]:
            break
    assert listings[0] == []
    assert len(listings[-1]) == 6
    assert sorted(site.asked) == sorted(
        ["/robots.txt", "/sitemap.xml", *map("/{}".format, range(6))]
    )
    # No time at all costs nothing, and forgets nothing.
    site.forget()
    assert list_items(entry, until=time.monotonic()) == listings[-1]
    assert site.asked == []


def test_one_look_at_a_host_at_a_time(site):
    site.put("/a", "a")
    entry = source(site)
    before = list_items(entry)
    site.forget()
    other = entry.model_copy(update={"name": "other"})
    with opened(_place(other)) as state, state.alone(site.netloc, wait=True) as held:
        assert held
        # The sensor does not wait for it; a build would.
        assert list_items(entry, until=math.inf) == before
    assert site.asked == []


def test_what_a_look_had_no_time_for_is_pending(site, monkeypatch):
    entry = source(site)
    site.put("/a", "a")
    list_items(entry)
    for number in range(3):
        site.put(f"/{number}", "x")
    seen: list[str] = []
    real = crawl._Look._visit

    def visit(self: Any, todo: Any) -> bool:
        if seen:
            raise crawl._OutOfTime
        seen.append(todo.url)
        return real(self, todo)

    monkeypatch.setattr(crawl._Look, "_visit", visit)
    reasons = found(entry)
    assert sorted(reasons.values(), key=str) == [b"a", b"x", "pending", "pending"]
    assert seen == [site.url + "0"]  # pages that nothing is known of come first
    monkeypatch.setattr(crawl._Look, "_visit", real)
    assert list(found(entry).values()) == [b"x", b"x", b"x", b"a"]


def test_a_page_in_an_encoding_that_only_the_header_names(site):
    text = "Чай в гавани"
    site.put("/a", text.encode("koi8-r"), type="text/plain; charset=KOI8-R")
    site.put("/b", text.encode(), type="text/plain; charset=koi8-r")  # the header is wrong
    site.put("/c", text.encode("cp1251"), type="text/html; charset=nonsense")
    contents = found(source(site))
    assert contents["/a"].decode("utf-8-sig") == text
    assert contents["/b"].decode() == text
    assert contents["/c"] == text.encode("cp1251")


def test_large_pages_and_one_that_was_forgotten(site, monkeypatch):
    site.put("/a", b"x" * 300)
    site.put_gzip("/b", b"x" * 3_000_000)
    monkeypatch.setenv("HEADWATER_MAX_DOCUMENT_BYTES", "1000000")
    entry = source(site)
    assert found(entry, max_bytes=1_000_000) == {"/a": b"x" * 300, "/b": "too_large"}
    assert found(entry, max_bytes=299)["/a"] == "too_large"
    monkeypatch.setenv("HEADWATER_MAX_DOCUMENT_BYTES", "5000000")
    assert len(found(entry, max_bytes=5_000_000)["/b"]) == 3_000_000
    items = list_items(entry)
    site.put("/a", "other")
    list_items(entry)
    contents = dict(read_items(entry, items, 5_000_000))
    gone = next(each for item, each in contents.items() if item.uri.endswith("/a"))
    assert isinstance(gone, ReadError)
    assert gone.reason == "missing"


def test_a_damaged_state_says_the_mend(site, tmp_path):
    site.put("/a", "a")
    entry = source(site)
    list_items(entry)
    (state,) = (tmp_path / "home" / "cache" / "web").glob("*.sqlite")
    state.write_bytes(b"no database at all" * 100)
    with pytest.raises(HeadwaterError, match="remove the file"):
        list_items(entry)
    state.unlink()
    assert found(entry) == {"/a": b"a"}


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "ftp://example.org/"},
        {"url": "https://user:pass@example.org/"},
        {"url": "example.org"},
        {"url": "https://example.org/", "sitemap": "/sitemap.xml"},
        {"url": "https://example.org/", "contact": "a b\r\nX: y"},
        {"url": "https://example.org/", "delay_seconds": -1},
    ],
)
def test_what_is_no_entry(fields):
    with pytest.raises(ValueError, match=r"url|sitemap|contact|delay"):
        WebSource(name="site", **fields)


def test_a_site_is_indexed_like_a_folder(site, tmp_path, corpus: Corpus):
    site.put("/guide", f"<title>Harbour guide</title><h1>Harbour</h1><p>{PROSE}</p>")
    site.put("/empty", "<p></p>")
    file = tmp_path / "sources.yaml"
    fields = {"allow_private": [site.netloc], "delay_seconds": 0, "access": ["public"]}
    added = add_source(file, site.url, fields=fields)
    assert (added.kind, added.name) == ("web", f"source-127-0-0-1-{site.port}")
    assert load_sources(file) == [added]
    assert location_of(added) == site.url
    update_raw(corpus.lake, [added], corpus.keys(), corpus.shards, 2**20)
    corpus.clean()
    corpus.chunk()
    (row,) = corpus.rows("clean_documents")
    assert (row["uri"], row["title"]) == (site.url + "guide", "Harbour guide")
    assert row["access"] == ["public"]
    assert corpus.reasons() == {site.url + "empty": "empty"}
