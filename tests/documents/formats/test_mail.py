from email.message import EmailMessage

import pytest

from headwater.documents.formats import mail
from headwater.documents.parsed import Block, Rejected

BODY = """The harbour opens at six.

> When does it open?
> Ada

Fees apply.
--\x20
Harbour office
"""


def message(body=BODY, **headers) -> EmailMessage:
    written = EmailMessage()
    written["Subject"] = headers.get("subject", "Opening hours — März")
    written["From"] = "Ada <ada@example.org>"
    written["Date"] = "Fri, 01 May 2026 10:00:00 +0000"
    written.set_content(body)
    return written


def reason(content, max_chars=10_000):
    with pytest.raises(Rejected) as error:
        mail.blocks(content, max_chars)
    return error.value.reason


def said(content):
    return [block for block in mail.blocks(content, 10_000)[1] if block.text]


def test_what_the_sender_wrote():
    title, found = mail.blocks(message().as_bytes(), 10_000)
    assert title == "Opening hours — März"
    assert [block for block in found if block.text] == [
        Block("Opening hours — März", 1),
        Block("From: Ada <ada@example.org>\nDate: Fri, 01 May 2026 10:00:00 +0000"),
        Block("The harbour opens at six."),
        Block("Fees apply."),
    ]


def test_a_page_is_read_where_there_is_no_plain_text_and_attachments_are_not():
    written = message()
    written.set_content("<p>On the <b>pier</b></p><script>x</script>", subtype="html")
    written.add_attachment(b"canary", maintype="text", subtype="plain", filename="a.txt")
    assert said(written.as_bytes())[2:] == [Block("On the pier")]
    written = message()
    written.add_alternative("<p>the same as a page</p>", subtype="html")
    assert Block("Fees apply.") in said(written.as_bytes())


def test_encodings_that_are_unknown_or_wrong():
    head = b"Subject: a\nContent-Type: text/plain; charset=%b\n\n"
    for charset in (b"no-such", b"ascii", b"utf-8"):
        assert said(head % charset + "Größe".encode("cp1252"))[-1] == Block("Größe")


def test_reasons():
    assert reason(b"no header at all") == "damaged_mail"
    assert reason(message("> all of it is quoted\n").as_bytes()) == "no_text"
    assert reason(message("word " * 99).as_bytes(), max_chars=99) == "too_large"
    encrypted = b"Subject: a\nContent-Type: multipart/encrypted; boundary=x\n\n--x\n\nsecret\n--x--"
    assert reason(encrypted) == "encrypted_mail"


def test_deep_nesting_is_refused():
    parts = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(1000)
    )
    with pytest.raises(Rejected) as error:
        mail.blocks(b"Subject: a\n" + parts + b"\ntext", 10_000)
    assert error.value.reason in ("too_deep", "no_text")


@pytest.mark.parametrize(
    "header",
    [
        b"From: =?utf-8?q?=80?= <\xff@[>",
        b"Subject: =?utf-8?b?////?=",
        b"From: " + b"(" * 500,
        b"Date: 99",
        b"Content-Type: text/plain; charset*0*=x''%",
        b"Content-Type: text/html; charset=unicode_escape",
    ],
)
def test_hostile_headers_end_accepted_or_rejected(header):
    try:
        mail.blocks(b"X: y\n" + header + b"\n\nBody \\ud800 text.", 10_000)
    except Rejected as error:
        assert error.detail
