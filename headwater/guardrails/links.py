"""The egress filter: what makes a reader's client fetch or follow a foreign address is taken out.

A model that obeys a poisoned document can put what it knows into the address of an image, which a
client fetches unasked. So no address leaves whose host is not on the list, however it is written:
Markdown, HTML, a reference, a bare one, with invisible characters, entities or escapes in it. A
link that stands in a document is no exception, since the document may be the poison.

Works on units of text, which `stream` cuts so that no construct spans two of them.
"""

import re
import unicodedata
from collections.abc import Collection

from headwater.guardrails.plain import strip_invisible, unescape

REMOVED = "[link removed]"

#: Ends of a bare name that make it an address without a scheme. Those that are common as names of
#: attributes in code (.id, .name, .py, .is) are left out: clients don't link them unasked.
_SUFFIXES = "com|net|org|edu|gov|mil|io|co|dev|app|xyz|info|biz|online|site|top|ai|cloud|link|page|tech|store|shop|onion|ru|cn|de|uk|fr|nl|eu|us|ca|au|jp|br|ch|se|pl|es|cz|ua|tk|ml|ga|cf|gq|su"
#: Where an address ends: at whitespace, and at what quotes or brackets it.
_REST = r"[^\s<>\"'`)\]|]*"
_FOUND = re.compile(
    rf"""
    (?P<scheme>
        [a-z][a-z0-9+.\-]{{0,40}}:[/\\]{{2}}                 # any scheme with an authority
      | (?:https?|ftps?|wss?):(?=[\w/\\%\[&])              # browsers mend http:host and http:/host
      | file:[/\\] | (?:java|vb|live)script:(?=\S)
      | (?:mailto|callto|sms|tel|facetime|skype):(?=[\w+%(])
      | data:[\w.+\-]*[/;,](?=\S)
      | (?<=\]\()<?[a-z][a-z0-9+.\-]{{0,40}}:(?=\S)               # as a destination, any scheme at all
    ){_REST}
  | (?:(?:^|(?<=[\s(\[<>"'=|,]))/[/\\] | (?<=\]\()<?[/\\]{{2,}} | (?<=\]:)[/\\]{{2,}})(?=[\w\[%&@]){_REST}
  | (?:^|(?<=[\s(\[<>*_|=,]))\\{{2,}}[\w\-]+\.{_REST}      # a network path of Windows
  | \bwww\d{{0,3}}\.(?=\w){_REST}
  | (?<![\w@.\-/])(?:[\w\-]{{1,63}}\.)+(?:{_SUFFIXES})(?![\w(\-]|\.\w)(?:[:/?\#]{_REST})?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_AUTHORITY = re.compile(r"(?:https?://)?([a-z0-9.\-]+)(?::\d{1,5})?(?=[/?#]|$)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
#: A "<" that a client may read as the start of a tag.
_TAG = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE)
#: ... but for a placeholder or the name of an object, as documentation is full of: <class 'int'>.
_PLACEHOLDER = re.compile(r"</?(?P<name>[a-z][\w.\-]*)(?:\s[^<>=\"/]*)?>", re.IGNORECASE)
#: Elements that do something without an attribute.
_ACTIVE = frozenset(
    ["script", "style", "svg", "math", "iframe", "frame", "frameset", "object", "embed", "applet", "template", "textarea", "title", "xmp", "plaintext", "noscript", "noembed", "noframes", "listing", "form", "base", "meta", "link", "img", "image", "video", "audio", "body", "html", "head", "select"]
)  # fmt: skip
#: A "<" whose ">" is farther away than this is no placeholder.
PLACEHOLDER_CHARS = 80


def remove_links(text: str, allowed_hosts: Collection[str]) -> tuple[str, int]:
    """The text without foreign addresses and live HTML, and how many were taken out.

    Args:
        text: a unit, see `stream.Units`; no construct may continue beyond it.
        allowed_hosts: exact names whose addresses stay.
    """
    if not _suspect(text):
        return text, 0
    allowed = frozenset(host.casefold() for host in allowed_hosts)
    words = re.split(r"(\s+)", text)
    removed = 0
    for index in range(0, len(words), 2):
        words[index], count = _clean_word(words[index], allowed)
        removed += count
    return _without_tags("".join(words), removed)


def has_foreign_link(text: str, allowed_hosts: Collection[str] = ()) -> bool:
    """Whether an address to a host beyond the list is in the text, in any disguise we know."""
    allowed = frozenset(host.casefold() for host in allowed_hosts)
    return any(_foreign(word, allowed) for word in text.split())


def opens_tag(text: str) -> bool:
    """Whether the text ends within what may be a tag, so that a filter must see more of it."""
    start = max((match.start() for match in _TAG.finditer(text)), default=-1)
    return start >= 0 and ">" not in text[start:] and len(text) - start < PLACEHOLDER_CHARS


def _suspect(text: str) -> bool:
    """A cheap test that nearly every unit fails: an address needs one of these characters."""
    return not text.isascii() or any(char in text for char in ":/\\<&.")


def _clean_word(word: str, allowed: frozenset[str]) -> tuple[str, int]:
    """One word: what is found as it stands is cut out; where a disguise remains, all of it goes."""
    if not word:
        return word, 0
    removed = 0

    def cut(match: re.Match[str]) -> str:
        nonlocal removed
        if _is_allowed(match[0], allowed):
            return match[0]
        removed += 1
        rest = match[0].rstrip(".,;:!?*_~")
        return REMOVED + match[0][len(rest) :]

    cleaned = _FOUND.sub(cut, word)
    if any(_foreign(part, allowed) for part in cleaned.split()):
        return REMOVED, max(removed, 1)
    return cleaned, removed


def _foreign(word: str, allowed: frozenset[str]) -> bool:
    return any(
        not _is_allowed(match[0], allowed)
        for reading in _readings(word)
        for match in _FOUND.finditer(reading)
    )


def _readings(word: str) -> set[str]:
    """What a client may make of a word: as it stands, decoded, and with Markdown's escapes gone."""
    decoded = unescape(word)
    shown = unicodedata.normalize("NFKC", strip_invisible(decoded))
    readings = {word, decoded, shown, shown.replace("\u3002", ".")}
    return readings | {_ESCAPED.sub(r"\1", reading) for reading in readings}


def _is_allowed(address: str, allowed: frozenset[str]) -> bool:
    """Whether an address is of the web and its host is on the list; what is odd is not."""
    authority = _AUTHORITY.match(address.rstrip(".,;:!?*_~"))
    return authority is not None and authority[1].casefold() in allowed


def _without_tags(text: str, removed: int) -> tuple[str, int]:
    """The text with a blank after each "<" that could start a live tag, which makes it plain."""

    def part(match: re.Match[str]) -> str:
        nonlocal removed
        placeholder = _PLACEHOLDER.match(text, match.start())
        if (
            placeholder
            and len(placeholder[0]) <= PLACEHOLDER_CHARS
            and placeholder["name"].casefold() not in _ACTIVE
        ):
            return "<"
        removed += 1
        return "< "

    return _TAG.sub(part, text), removed
