"""Mail messages to blocks: subject, sender, date and what the sender wrote.

Quoted lines, signatures and attachments are left out: what is quoted is a message of its own.
"""

import re
from collections.abc import Iterator
from email.message import EmailMessage

from headwater.documents.decoding import decode
from headwater.documents.formats import html, text
from headwater.documents.parsed import Block, Rejected, damaged, fold

#: What the parser of the standard library raises on hostile headers.
_DAMAGE = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)
_QUOTED = re.compile(r"^[ \t]*>.*\n?", re.MULTILINE)
#: Who is quoted: "On 1 May 2026 at 10:00, Ada wrote:" before quoted lines.
_ATTRIBUTION = re.compile(r"^[^\n>]{1,200}:[ \t]*\n(?=[ \t]*\n?[ \t]*>)", re.MULTILINE)


def blocks(content: bytes, max_chars: int) -> tuple[str, list[Block]]:
    """The subject, or "", and the blocks.

    Raises:
        Rejected: `damaged_mail`, `encrypted_mail`, `no_text`, `too_deep`, `too_large`,
            `undecodable`.
    """
    from email import message_from_bytes
    from email.policy import default

    try:
        message = message_from_bytes(content, policy=default)
        if not message.keys():
            raise Rejected("damaged_mail", "it does not begin with the headers of a message")
        subject, head = _header(message, "Subject"), list(_head(message))
        body = list(_body(message, max_chars))
    except RecursionError as error:
        raise Rejected("too_deep", "its parts are nested too deep") from error
    except _DAMAGE as error:
        raise damaged("mail", error) from error
    if not any(block.text.strip() for block in body):
        raise Rejected("no_text", "it holds no text besides quoted lines and attachments")
    title = [Block(subject, 1)] if subject else []
    return subject, [*title, *head, *body]


def _head(message: EmailMessage) -> Iterator[Block]:
    lines = [(name, _header(message, name)) for name in ("From", "Date")]
    yield Block("\n".join(f"{name}: {value}" for name, value in lines if value))


def _header(message: EmailMessage, name: str) -> str:
    value = fold(str(message.get(name, "")))
    return value.encode("utf-8", "replace").decode()[:400]


def _body(message: EmailMessage, max_chars: int) -> Iterator[Block]:
    """The first text in plain form, else as a page."""
    if message.get_content_type() in ("multipart/encrypted", "application/pkcs7-mime"):
        raise Rejected("encrypted_mail", "only its receiver can read it")
    part = message.get_body(("plain", "html"))
    if not isinstance(part, EmailMessage):
        return
    decoded = _decoded(part)
    if len(decoded) > max_chars:
        raise Rejected("too_large", f"more than {max_chars:,} characters of text")
    if part.get_content_type() == "text/html":
        yield from html.blocks(decoded)[1]
        return
    own = _QUOTED.sub("", _ATTRIBUTION.sub("", _SIGNATURE.split(decoded)[0]))
    # A message's headings would be its sections; its subject is above them.
    for block in text.blocks(own):
        yield Block(block.text, min(block.level + 1, 9) if block.level else 0, block.heading)


def _decoded(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset()
    if charset is not None:
        try:
            return content.decode(charset).replace("\r\n", "\n")
        except (LookupError, UnicodeDecodeError):
            pass  # an unknown or a wrong declaration: as if there were none
    return decode(content, markup=part.get_content_type() == "text/html")
