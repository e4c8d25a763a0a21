import pytest

from headwater.documents.formats import epub
from headwater.documents.parsed import Block, Rejected
from tests.documents.examples import make_epub, rezip

PAGES = {
    "one.xhtml": "<h1>Harbour</h1><p>It opens at <b>six</b>.</p>",
    "two.xhtml": "<h2>Fees</h2><table><tr><td>berth</td><td>twelve crowns</td></tr></table>",
}


def reason(content, max_chars=10_000):
    with pytest.raises(Rejected) as error:
        epub.blocks(content, max_chars)
    return error.value.reason


def test_pages_along_the_spine():
    title, blocks = epub.blocks(make_epub(PAGES, title="Harbour guide"), 10_000)
    assert title == "Harbour guide"
    assert blocks == [
        Block("Harbour", 1),
        Block("It opens at six."),
        Block("Fees", 2),
        Block("berth | twelve crowns"),
    ]
    reversed_pages = dict(reversed(PAGES.items()))
    assert epub.blocks(make_epub(reversed_pages), 10_000)[1][0] == Block("Fees", 2)


def test_a_page_that_is_missing_or_outside_is_damage():
    content = make_epub(PAGES)
    for place in ("three.xhtml", "../../../../etc/passwd"):
        moved = rezip(
            content,
            "OEBPS/content.opf",
            lambda xml, at=place: xml.replace(b"one.xhtml", at.encode()),
        )
        assert reason(moved) == "damaged_epub"
    assert reason(rezip(content, "META-INF/container.xml", lambda _: b"<x/>")) == "damaged_epub"
    assert reason(rezip(content, "META-INF/container.xml", lambda _: b"<x")) == "damaged_epub"


def test_entities_are_refused_and_not_expanded():
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    content = make_epub(PAGES)
    assert reason(rezip(content, "META-INF/container.xml", lambda _: laughs)) == "xml_entities"
    page = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><html><body><p>a &f; b</p></body></html>'
    _, blocks = epub.blocks(rezip(content, "OEBPS/one.xhtml", lambda _: page), 10_000)
    assert "root:" not in "".join(block.text for block in blocks)


def test_encrypted_pages_are_told_from_encrypted_fonts():
    def encrypted(name):
        return (
            '<encryption xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
            f'<enc:CipherData><enc:CipherReference URI="{name}"/></enc:CipherData>'
            "</enc:EncryptedData></encryption>"
        )

    extra = "META-INF/encryption.xml"
    assert reason(make_epub(PAGES, {extra: encrypted("OEBPS/two.xhtml")})) == "encrypted_epub"
    assert epub.blocks(make_epub(PAGES, {extra: encrypted("OEBPS/font.otf")}), 10_000)[1]


def test_too_much_text():
    assert reason(make_epub(PAGES), max_chars=10) == "too_large"
