"""robots.txt as RFC 9309 has it, and sitemaps, sound and hostile."""

import pytest

from headwater.documents.kinds.base import ReadError
from headwater.documents.kinds.site_files import parse_robots, parse_sitemap

#: The example of RFC 9309, 5.1.
EXAMPLE = b"""
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("other", "/", True),
        ("other", "/a.gif", False),
        ("other", "/a.gif?x", True),
        ("other", "/example/x", False),
        ("other", "/publications/x", True),
        ("foobot", "/anything", False),
        ("FooBot", "/example/page.html", True),
        ("foobot", "/robots.txt", True),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("bazbot", "/example/x", True),
        ("quxbot", "/example/x", True),
    ],
)
def test_the_example_of_the_standard(agent, path, allowed):
    assert parse_robots(EXAMPLE, agent).allows(path) is allowed


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        # 5.2: the longest pattern decides, and of equally long ones the one that allows.
        ("Allow: /example/page/\nDisallow: /example/page/disallowed.gif", "/example/page/disallowed.gif", False),
        ("Disallow: /a\nAllow: /a", "/a", True),
        ("Disallow: /a*b*c$", "/axxbyyc", False),
        ("Disallow: /a*b*c$", "/axxbyycd", True),
        ("Disallow: /a*bc$", "/abc", False),
        ("Disallow: /ab*bc$", "/abc", True),
        ("Disallow: /page$", "/page", False),
        ("Disallow: /page$", "/pages", True),
        ("Disallow: /foo/bar?baz=", "/foo/bar?baz=1", False),
        ("Disallow: /foo/bar/\u30c4", "/foo/bar/%E3%83%84", False),
        ("Disallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("Disallow: /a%2fb", "/a%2Fb", False),
        ("Disallow: /a%2fb", "/a/b", True),
        ("Disallow: # nothing", "/a", True),
        ("Disallow /a", "/a", True),
    ],
)  # fmt: skip
def test_how_patterns_match(rules, path, allowed):
    assert parse_robots(f"User-agent: *\n{rules}".encode(), "headwater").allows(path) is allowed


def test_groups_of_one_agent_are_joined_and_leave_out_those_of_everyone():
    robots = parse_robots(
        b"\xef\xbb\xbfuser-agent: headwater/2.0\r\ndisallow: /a\r\nsitemap: https://x.test/1.xml\r\n"
        b"user-agent: *\r\ndisallow: /b\r\ncrawl-delay: 9\r\n"
        b"user-agent: headwater\r\ndisallow: /c\r\ncrawl-delay: 2.5\r\nsitemap: https://x.test/2.xml",
        "headwater",
    )
    assert [robots.allows(path) for path in ("/a", "/b", "/c")] == [False, True, False]
    assert robots.delay == 2.5
    assert robots.sitemaps == ("https://x.test/1.xml", "https://x.test/2.xml")


@pytest.mark.parametrize("delay", ["nan", "inf", "-3", "soon", ""])
def test_a_delay_that_is_none(delay):
    assert parse_robots(f"user-agent: *\ncrawl-delay: {delay}".encode(), "x").delay == 0


def test_a_pattern_that_would_make_a_regex_explode():
    robots = parse_robots(b"user-agent: *\ndisallow: /" + b"*a" * 5_000 + b"$", "headwater")
    assert robots.allows("/" + "a" * 4_000 + "b")


def test_bytes_that_are_no_robots_txt_forbid_nothing():
    assert parse_robots(b"\x00\xff" * 500 + b"<html>", "headwater").allows("/")


def test_a_sitemap_of_pages_with_other_elements():
    found = parse_sitemap(
        b"""<?xml version="1.0" encoding="UTF-8"?>
        <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
                xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
          <!-- a comment -->
          <url><loc> https://x.test/a?b=1&amp;c=2 </loc><lastmod>2026-01-02</lastmod>
            <image:image><image:loc>https://x.test/a.png</image:loc></image:image></url>
          <url><priority>1</priority></url>
          <url><loc>https://x.test/b</loc></url>
        </urlset>"""
    )
    assert found.pages == (("https://x.test/a?b=1&c=2", "2026-01-02"), ("https://x.test/b", ""))
    assert found.sitemaps == ()


def test_an_index_and_a_text():
    index = b"<sitemapindex><sitemap><loc>https://x.test/1.xml</loc></sitemap></sitemapindex>"
    assert parse_sitemap(index).sitemaps == ("https://x.test/1.xml",)
    text = b"\xef\xbb\xbfhttps://x.test/a\r\nhttps://x.test/b\r\n"
    assert parse_sitemap(text).pages == (("https://x.test/a", ""), ("https://x.test/b", ""))


LAUGHS = b"""<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<urlset><url><loc>&b;</loc></url></urlset>"""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not found",
        b"<html><body>not found</body></html>",
        b"<urlset><url><loc>https://x.test/a</loc></url>",
        b'<!DOCTYPE urlset SYSTEM "file:///etc/passwd"><urlset/>',
        LAUGHS,
        b"<" * 10_000,
        b'<?xml version="1.0" encoding="nonsense"?><urlset/>',
    ],
)
def test_what_is_no_sitemap(content):
    with pytest.raises(ReadError) as error:
        parse_sitemap(content)
    assert error.value.reason == "bad_sitemap"
