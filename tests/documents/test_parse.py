import random
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.documents.decoding import decode
from headwater.documents.kinds.base import MEDIA_TYPES
from headwater.documents.parse import parse
from headwater.documents.parsed import Rejected, normalise

KINDS = ["text/html", "text/markdown", "text/plain", "text/x-rst"]


def reason(content, media_type="text/plain", **options):
    with pytest.raises(Rejected) as error:
        parse(content, media_type, "docs:///a", **options)
    return error.value.reason


def test_headings_have_byte_offsets_into_normalised_text():
    parsed = parse("# Ä title\n\nÜber\n\n## Zwei\n\nEnde".encode(), "text/markdown", "docs:///a.md")
    assert parsed.title == "Ä title"
    data = parsed.text.encode()
    for heading in parsed.headings:
        assert data[heading.start :].decode().startswith(heading.text)
    assert [heading.level for heading in parsed.headings] == [1, 2]


def test_a_document_without_a_title_is_called_by_its_file():
    assert parse(b"Some text", "text/plain", "docs:///sub/my%20file.txt").title == "my file"
    page = b"<title>Page</title><h1>Heading</h1>"
    assert parse(page, "text/html", "docs:///a.html").title == "Page"


@pytest.mark.parametrize("media_type", KINDS)
def test_an_edit_of_whitespace_changes_nothing(media_type):
    one = "Café au lait  \r\nis good.\r\n\r\n\r\n\r\nMore text\there.\r\n"
    two = unicodedata.normalize("NFD", "\n\nCafé au lait\nis good.   \n\nMore text\there.\n\n\n")
    parsed = [parse(text.encode(), media_type, "docs:///a") for text in (one, two)]
    assert parsed[0] == parsed[1]


@pytest.mark.parametrize("media_type", KINDS)
@given(text=st.text())
@example(text="\0")
@example(text="- \n\n\n+---+\n")
def test_any_text_is_normalised_or_refused(media_type, text):
    try:
        parsed = parse(text.encode("utf-8", "surrogatepass"), media_type, "docs:///a")
    except Rejected as error:
        assert error.reason in ("empty", "undecodable")
        return
    assert parsed.text == unicodedata.normalize("NFC", parsed.text)
    assert not any(line != line.rstrip() for line in parsed.text.split("\n"))
    assert "\n\n\n" not in parsed.text
    assert "\r" not in parsed.text
    data = parsed.text.encode()
    starts = [heading.start for heading in parsed.headings]
    assert starts == sorted(set(starts))
    assert all(0 <= start < len(data) for start in starts)
    assert all(data[start:].decode() for start in starts)
    # What is normalised stays as it is when it is parsed as plain text again.
    if media_type == "text/plain" and not parsed.headings:
        assert parse(data, media_type, "docs:///a").text == parsed.text


@settings(deadline=None)  # the first file of a format loads its library
@given(content=st.binary(max_size=400))
def test_any_bytes_end_with_text_or_a_reason(content):
    for media_type in set(MEDIA_TYPES.values()):
        try:
            assert parse(content, media_type, "docs:///a").text
        except Rejected as error:
            assert error.reason
            assert error.detail


def test_encodings():
    text = "Größe: zwölf — “quoted” naïve café"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"):
        assert decode(text.encode(encoding)) == text, encoding
    page = '<meta charset="windows-1251"><p>Привет</p>'
    assert "Привет" in decode(page.encode("cp1251"), markup=True)
    wrong = '<meta charset="ascii">Größe'
    assert "Größe" in decode(wrong.encode("cp1252"), markup=True)
    assert "Größe" in decode('<meta charset="no-such">Größe'.encode("cp1252"), markup=True)


def test_a_broken_byte_in_sound_utf8_is_repaired():
    content = "Größe und Länge, über alles".encode() + b"\xff" + "äöü".encode()
    assert decode(content) == "Größe und Länge, über alles\ufffdäöü"


@pytest.mark.parametrize("media_type", ["text/html", "text/markdown"])
def test_mojibake_is_undone_and_offsets_hold(media_type):
    """UTF-8 that was once read as Windows-1252, in a heading and in one paragraph of two."""
    sound = "naïve café — “fine” Brontë…” und ﬁne \uff21"
    broken = "Über die Fähre: zwölf “Größen” — wöchentlich".encode().decode("cp1252", "ignore")
    heading = "Öffnung für Gäste".encode().decode("cp1252")
    page = f"# {heading}\n\n{broken}\n\n{sound}\n\n## Ende\n\nSchluss"
    if media_type == "text/html":
        page = (
            f"<title>{heading}</title><h1>{heading}</h1><p>{broken}</p><p>{sound}</p>"
            "<h2>Ende</h2><p>Schluss</p>"
        )
    parsed = parse(page.encode(), media_type, "docs:///a")
    assert parsed.title == "Öffnung für Gäste"
    paragraphs = parsed.text.split("\n\n")
    assert paragraphs[0] == "Öffnung für Gäste"
    assert paragraphs[1].startswith("Über die Fähre: zwölf “Größen")
    assert paragraphs[2] == unicodedata.normalize("NFC", sound)
    data = parsed.text.encode()
    for each in parsed.headings:
        assert data[each.start :].decode().startswith(each.text)


def test_hidden_characters_go():
    text = "in\u200bvis\u202eible\U000e0041 te\0xt\u2066"
    assert parse(text.encode(), "text/plain", "docs:///a").text == "invisible text"


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("a\u061cb\u180ec\u3164d\uffa0e", "abcde"),
        ("safe" + "".join(chr(0xE0100 + byte) for byte in b"ignore this"), "safe"),
        ("\u845b" + "\U000e0101" * 9 + "\u57ce", "\u845b\U000e0101\u57ce"),  # one chooses a form
        ("pass\u200dword zero\u200c\u200d\u200cwidth \u200c", "password zerowidth"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            None,
        ),  # Persian: two parts of one word
        ("\u0915\u094d\u200d\u0937", None),  # Devanagari: a half form
        ("\U0001f469\u200d\U0001f4bb \u2764\ufe0f\u200d\U0001f525 1\ufe0f\u20e3", None),
    ],
)
def test_marks_without_effect_go_and_scripts_and_pictures_stay(written, seen):
    assert normalise(written) == (written if seen is None else seen)


def test_half_characters_and_heaped_marks_go():
    text = normalise("a\ud800b" + "\u0301" * 50_000 + "\u0316" * 50_000 + " \U0001f600c\u0301")
    assert text == unicodedata.normalize("NFC", "ab" + "\u0301" * 30 + " \U0001f600\u0107")


def test_reasons():
    assert reason(b"") == "empty"
    assert reason(b" \n\0\0") == "empty"
    assert reason(b"<body><script>x</script></body>", "text/html") == "empty"
    assert reason(random.Random(7).randbytes(4000)) == "undecodable"
    assert reason("text".encode("utf-16-le") * 20) == "undecodable"
    assert reason(b"text", "image/gif") == "unsupported"
    assert reason(b"x" * 101, max_chars=100) == "too_large"
    assert reason(b"<p>" + b"x" * 101, "text/html", max_chars=100) == "too_large"


@pytest.mark.parametrize("media_type", KINDS)
@pytest.mark.parametrize("unit", ["x", "word ", "[", "<b>", "*_", "a\u0301", "`", "(x", "| "])
def test_one_line_of_10_mb_is_refused_in_time(media_type, unit):
    content = (unit * (10 * 2**20 // len(unit.encode()))).encode()
    started = time.monotonic()
    try:
        parse(content, media_type, "docs:///a")
    except Rejected as error:
        assert error.reason in ("too_large", "empty", "too_deep")
    assert time.monotonic() - started < 20  # some seconds, on a busy machine
