"""Where a text may hold personal data: how each kind is written, and what must stand around it.

Knows writings and words beside them. Whether a number or an address is one (checksums, numbering
plans, public suffixes) is Presidio's to say, which is asked about these places alone: so a text
without any costs one pass a kind, and no run of digits is a telephone number for its length only.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address, ip_address, ip_network

from headwater.personal_data import Entity

#: Characters before and after a place in which a word may say what it is.
_BEFORE, _AFTER = 60, 20
#: Spaces and dashes that typography and word processors put into numbers; one character each.
_PLAIN = {
    **dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " "),
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE63, 0xFF0D), "-"),
}
_CELLS = " | "

_AT = re.compile(r"(?<=[\w+'%~-])@(?=\w[\w-]{0,62}\.\w)")
_LOCAL = re.compile(r"\w[\w.+'%~-]{0,63}\Z")
_HOST = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
#: Of `git@host:path`: the name of a service, not of a person.
_SERVICES = {"git", "hg", "svn"}
#: `ada [at] example (dot) org`.
_SPELLED_AT = re.compile(r" ?[\[({<] ?(?:at|@) ?[\])}>] ?", re.IGNORECASE)
_DOT = r"(?:\.| ?[\[({<] ?(?:dot|\.) ?[\])}>] ?)"
_SPELLED_HOST = re.compile(rf"[\w-]{{1,63}}(?:{_DOT}[\w-]{{1,63}}){{1,8}}", re.IGNORECASE)
_SPELLED_DOT = re.compile(r" ?[\[({<] ?(?:dot|\.) ?[\])}>] ?", re.IGNORECASE)

#: Digits as telephone numbers are grouped; 7 to 19, which leaves room for prefixes.
_NUMBER = re.compile(r"(?<!\w)(?<!\d[.,])\(?(?:\+ ?)?\(?\d(?:[ ().\-/]{0,3}\d){6,18}(?![^\WxX])")
_EXTENSION = re.compile(r"[ ,;]{0,2}(?:extension|ext\.?|x|#)[ .:]{0,2}\d{1,7}\b", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"\(?\+ ?\(?[1-9]")
#: A signed decimal number; `+1.2125550123` is how registries write a telephone number.
_DECIMAL = re.compile(r"\+(?:[02-689]|\d{4,})\.\d+")
#: `(030) 901820`, `212-555-0123`, `1.212.555.0123`: nothing else is written like that.
_WRITTEN = re.compile(
    r"\(0?\d{2,4}\) ?\d{3,4}[ -]?\d{3,4}(?!\d)"
    r"|(?<!\d)(?:1[-. ])?[2-9]\d{2}([-.])[2-9]\d{2}\1\d{4}(?!\d)"
)
_PHONE_WORDS = re.compile(
    r"\b(?:(?:tele|mobile |cell ?|smart)?phones?|tel|fon|telefon|telefono|tel[eé]fono"
    r"|t[eé]l[eé]phone|mobil|mobiltelefon|mobile|handy|m[oó]vil|cellulare|celular|cell|fax|telefax"
    r"|hotline|whatsapp|sms|rufnummer|durchwahl)(?:nummer|no|nr)?\b",
    re.IGNORECASE,
)
_CALL = re.compile(
    r"\b(?:call|dial|ring|text|reach|reached)\b\W{1,3}(?:\w+\W{1,2}){0,3}\W{0,3}$", re.IGNORECASE
)

_CARD = re.compile(
    r"(?<!\w)(?<!\d[.,-])(?:2[2-7]|3\d|4\d|5[1-5]|6\d)\d{2}[- ]?\d{3,4}[- ]?\d{3,4}[- ]?\d{3,5}"
    r"(?!\w|[.,]\d)"
)
#: Lengths and first digits that issuers use: Visa, Mastercard, American Express, Diners, JCB,
#: Discover and UnionPay.
_ISSUED = re.compile(
    r"4\d{12}(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}"
    r"|6\d{15}"
)
_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)
_SSN = re.compile(r"(?<![\w.-])\d{3}([- .]?)\d{2}\1\d{4}(?![\w-]|\.\d)")
_SSN_WORDS = re.compile(r"\bssns?\b|\bsocial security\b|\bsoc\.? sec\b", re.IGNORECASE)
_COIN = re.compile(
    r"(?<![A-Za-z0-9])(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[ac-hj-np-z02-9]{25,59})(?![A-Za-z0-9])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)")
#: Addresses that are given out (2000::/3).
_IPV6 = re.compile(
    r"(?<![\w:])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{0,33}(?:[0-9A-Fa-f]|(?<=:):)(?!\w|:\w)"
)
#: Networks that say nothing about anybody outside of them, and those that are set aside for texts
#: (RFC 5737, 3849, 9637) and tests (RFC 2544), of which technical texts are full.
_NOBODYS = [
    ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "2001:db8::/32", "3fff::/20",
    )
]  # fmt: skip
#: Where all four parts are smaller it may be the number of a section or version.
_LARGE_PART = 32
_VERSIONED = re.compile(
    r"(?:\bv|\bversion|\brelease|\bbuild|\bsection|\bchapter|\bfigure|\btable|§)\W{0,2}$",
    re.IGNORECASE,
)
_ADDRESS_WORDS = re.compile(r"\b(?:ip|ipv4|address|host|server|client|login|from)\b", re.IGNORECASE)

Span = tuple[int, int]


class Surroundings:
    """A text as it is searched, and what stands around a place in it.

    `text` has plain spaces and dashes, and every offset of the original.
    """

    def __init__(self, text: str) -> None:
        self.text = text if text.isascii() else text.translate(_PLAIN)

    @cached_property
    def blocks(self) -> list[Span]:
        """Where each block begins and ends."""
        found, at = list[Span](), 0
        for block in self.text.split("\n\n"):
            found.append((at, at + len(block)))
            at += len(block) + 2
        return found

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.blocks]

    @cached_property
    def _headers(self) -> list[str]:
        """For each block that is the row of a table, the table's first row; else ""."""
        found, header = list[str](), ""
        for start, end in self.blocks:
            row = self.text.find(_CELLS, start, end) >= 0
            header = (header or self.text[start:end]) if row else ""
            found.append(header)
        return found

    def before(self, start: int) -> str:
        """What stands before a place, in its block."""
        return self.text[max(0, start - _BEFORE) : start].rpartition("\n\n")[2]

    def after(self, end: int) -> str:
        """What stands after a place, in its block."""
        return self.text[end : end + _AFTER].partition("\n\n")[0]

    def header(self, start: int) -> str:
        """What the head of a table's column says, or, where cells are missing, the whole head."""
        at = bisect_right(self._starts, start) - 1
        header = self._headers[at]
        if not header:
            return ""
        first, end = self.blocks[at]
        heads = header.split(_CELLS)
        if self.text.count(_CELLS, first, end) + 1 != len(heads):
            return header
        return heads[self.text.count(_CELLS, first, start)]

    def around(self, start: int, end: int) -> str:
        """All of it."""
        return f"{self.header(start)}\n{self.before(start)}\n{self.after(end)}"


@dataclass(frozen=True, slots=True)
class Writing:
    """A way in which a kind is written.

    `find` gives the next place at or after an offset, `reads` whether it is worth asking about,
    `asked` what Presidio is asked where that is not the place itself. Where nothing is found in a
    place, `cut` says where it may end earlier.
    """

    kind: Entity
    find: Callable[[str, int], Span | None]
    reads: Callable[[Surroundings, int, int], bool]
    asked: Callable[[str], str] | None = None
    cut: re.Pattern[str] | None = None


def _by(pattern: re.Pattern[str]) -> Callable[[str, int], Span | None]:
    def find(text: str, at: int) -> Span | None:
        match = pattern.search(text, at)
        return match.span() if match else None

    return find


def _always(around: Surroundings, start: int, end: int) -> bool:
    return True


def _address(text: str, at: int) -> Span | None:
    return _around_at(text, at, _AT, _HOST)


def _spelled_address(text: str, at: int) -> Span | None:
    return _around_at(text, at, _SPELLED_AT, _SPELLED_HOST)


def _around_at(
    text: str, at: int, sign: re.Pattern[str], host: re.Pattern[str]
) -> Span | None:  # from the sign outwards: a pattern from the left would try every word
    for found in sign.finditer(text, at):
        local = _LOCAL.search(text, max(at, found.start() - 64), found.start())
        name = host.match(text, found.end())
        if local and name:
            return local.start(), name.end()
    return None


def _as_address(spelled: str) -> str:
    return _SPELLED_DOT.sub(".", _SPELLED_AT.sub("@", spelled, count=1))


def _is_persons(around: Surroundings, start: int, end: int) -> bool:
    return around.text[start:end].partition("@")[0].casefold() not in _SERVICES


def _number(text: str, at: int) -> Span | None:
    match = _NUMBER.search(text, at)
    if match is None:
        return None
    start, end = match.span()
    while text[start] == "(" and text.count("(", start, end) > text.count(")", start, end):
        start += 1  # of the sentence, not of the number
    extension = _EXTENSION.match(text, end)
    return start, extension.end() if extension else end


def _reads_as_phone(around: Surroundings, start: int, end: int) -> bool:
    if _INTERNATIONAL.match(around.text, start):
        return _DECIMAL.fullmatch(around.text[start:end].partition(" ")[0]) is None
    if _WRITTEN.search(around.text, start, end) or _CALL.search(around.before(start)):
        return True
    return _PHONE_WORDS.search(around.around(start, end)) is not None


def _reads_as_card(around: Surroundings, start: int, end: int) -> bool:
    digits = re.sub(r"\D", "", around.text[start:end])
    return _ISSUED.fullmatch(digits) is not None


def _reads_as_ssn(around: Surroundings, start: int, end: int) -> bool:
    if around.text[start + 3] == "-":
        return True
    return _SSN_WORDS.search(around.around(start, end)) is not None


def _reads_as_ip(around: Surroundings, start: int, end: int) -> bool:
    try:
        address = ip_address(around.text[start:end])
    except ValueError:
        return False
    if any(address in network for network in _NOBODYS):
        return False
    if isinstance(address, IPv6Address):
        return True
    before = around.before(start)
    if _VERSIONED.search(before):
        return False
    large = any(part >= _LARGE_PART for part in address.packed)
    return large or _ADDRESS_WORDS.search(f"{around.header(start)}\n{before}") is not None


#: Every way that is looked for, by kind.
WRITINGS: tuple[Writing, ...] = (
    Writing("EMAIL_ADDRESS", _address, _is_persons, cut=re.compile(r"\.(?=[^.]*$)")),
    Writing("EMAIL_ADDRESS", _spelled_address, _always, asked=_as_address),
    Writing("PHONE_NUMBER", _number, _reads_as_phone),
    Writing("CREDIT_CARD", _by(_CARD), _reads_as_card),
    Writing("IBAN_CODE", _by(_IBAN), _always, cut=re.compile(r"[ -](?=[^ -]*$)")),
    Writing("US_SSN", _by(_SSN), _reads_as_ssn),
    Writing("CRYPTO", _by(_COIN), _always),
    Writing("IP_ADDRESS", _by(_IPV4), _reads_as_ip),
    Writing("IP_ADDRESS", _by(_IPV6), _reads_as_ip),
)
