"""Documents with planted personal data, made by code: the same ones every time.

Each document is a page of Python's language reference with one value in it, in one of the ways in
which people write such values. Numbers are valid in their plans and have their checksums; nobody is
known to own them. Knows writings, not how they are found.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics

SEED = 20261121
FIRST = "Amelia Bruno Chidi Dorothea Emeka Fatima Gustav Hannah Ignacio Johanna Katarina Lorenzo"
LAST = "Albrecht Bianchi Castellano Dimitriou Eriksson Fitzgerald Gonzalez Hoffmann Ivanov Jansen"
HOSTS = (
    "example.org", "mail.example.co.uk", "beispiel.de", "corp.internal", "xn--mller-kva.example.net",
    "uni-harbour.edu", "m\u00fcller.de", "sub.domain.example.com.br",
)  # fmt: skip
#: Sentences that say nothing about what the value is.
PLAIN = (
    "Please note {value} in the minutes.",
    "It was {value}, as far as we know.",
    "The form says {value} twice; see the annex.",
    "{value}",
    "- {value}",
    "Ask Ada ({value}) about it.",
    "Nobody knew whose it was: {value}.",
    "| Name | Value | Day |\n| --- | --- | --- |\n| Ada | {value} | Tuesday |",
    "## Ada, {value}\n\nNothing else is known.",
    "```\nrecord = ['Ada', '{value}']\n```",
)
PHONE = (
    "Phone: {value}",
    "Tel. {value}, weekdays only.",
    "You can call me on {value} after six.",
    "Fax {value}",
    "Mobil: {value}",
    "Reach us at {value} in emergencies.",
    "| Name | Telephone | Room |\n| --- | --- | --- |\n| Ada | {value} | 12 |",
    "## Office\n\n- Telefon {value}",
)
SSN = (
    "SSN: {value}",
    "Her social security number is {value}.",
    "| Name | SSN |\n| --- | --- |\n| Ada | {value} |",
)
IBANS = {
    "DE": "d18", "GB": "LLLLd14", "FR": "d20Ld2", "NL": "LLLLd10", "ES": "d20", "AT": "d16",
    "CH": "d17", "BE": "d12", "IT": "Ld22", "PL": "d24", "SE": "d20", "NO": "d11", "DK": "d14",
    "FI": "d14", "PT": "d21", "IE": "LLLLd14",
}  # fmt: skip
#: Where numbers are dialled as these regions do they are found with a word beside them; with a plus,
#: all are.
NATIONAL = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
ABROAD = ("JP", "AU", "ZA", "PL", "ES", "IT", "NL", "SE", "CH", "AT", "MX", "KR", "NG", "DE", "US")

Make = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A way to write a kind, and the sentences that it is put into."""

    kind: str
    name: str
    make: Make
    frames: Sequence[str] = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A Markdown document that holds one value."""

    kind: str
    form: str
    value: str
    text: str


def planted(per_form: int, forms: Sequence[Form] | None = None) -> Iterator[Planted]:
    """Documents for each form, in turn through its sentences.

    Args:
        forms: default all of `FORMS`.
    """
    hosts = _paragraphs()
    for form in FORMS if forms is None else forms:
        chance = random.Random(f"{SEED} {form.kind} {form.name}")
        for number in range(per_form):
            value = form.make(chance)
            frame = form.frames[number % len(form.frames)]
            before, after = chance.sample(hosts, 2)
            text = f"# Notes\n\n{before}\n\n{frame.format(value=value)}\n\n{after}\n"
            yield Planted(kind=form.kind, form=form.name, value=value, text=text)


@cache
def _paragraphs() -> tuple[str, ...]:
    """Prose of the reference, as it would stand in Markdown."""
    found = (part for name in sorted(topics) for part in topics[name].split("\n\n"))
    return tuple(part for part in found if part[:1].isalpha() and 200 < len(part) < 900)


def name(chance: random.Random) -> str:
    """A first and a last name."""
    return f"{chance.choice(FIRST.split())} {chance.choice(LAST.split())}"


def _mail(pattern: str) -> Make:
    def make(chance: random.Random) -> str:
        first, last = name(chance).lower().split()
        host = chance.choice(HOSTS)
        return pattern.format(first=first, last=last, host=host, number=chance.randrange(10, 99))

    return make


def _spelled(at: str, dot: str) -> Make:
    def make(chance: random.Random) -> str:
        first, last = name(chance).lower().split()
        host = chance.choice(HOSTS[:3]).replace(".", dot)
        return f"{first}.{last}{at}{host}"

    return make


def _phone(regions: Sequence[str], style: str) -> Make:
    """Numbers of a country's plan: its published example with other last digits."""

    def make(chance: random.Random) -> str:
        import phonenumbers
        from phonenumbers import PhoneNumberFormat, PhoneNumberType

        region = chance.choice(regions)
        kind = chance.choice([PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE])
        example = phonenumbers.example_number_for_type(region, kind)
        assert example is not None and example.national_number is not None, region
        while True:
            last = chance.randrange(10**4)
            number = phonenumbers.PhoneNumber(
                country_code=example.country_code,
                national_number=example.national_number // 10**4 * 10**4 + last,
                italian_leading_zero=example.italian_leading_zero,
            )
            if phonenumbers.is_valid_number(number):
                break
        whole = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
        national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        return {
            "international": whole,
            "compact": phonenumbers.format_number(number, PhoneNumberFormat.E164),
            "dashes": whole.replace(" ", "-"),
            "dots": whole.replace(" ", ".").replace("-", "."),
            "no-break": whole.replace(" ", "\u00a0").replace("-", "\u2011"),
            "brackets": "({}) {}".format(*whole.split(" ", 1)),
            "zeros": whole.replace("+", "00", 1),
            "national": national,
            "digits": "".join(char for char in national if char.isdigit()),
            "extension": f"{whole} ext. {chance.randrange(10, 9999)}",
        }[style]

    return make


def _american(pattern: str) -> Make:
    def make(chance: random.Random) -> str:
        area = chance.choice(["212", "415", "617", "312", "206", "713"])
        line = f"{chance.randrange(10**4):04d}"
        return pattern.format(area, chance.choice(["226", "345", "781", "962"]), line)

    return make


def _trunk_zero(chance: random.Random) -> str:
    return f"+49 (0)30 {chance.randrange(2 * 10**6, 10**7)}"


def _card(first: str, length: int, groups: Sequence[int] = (), by: str = "") -> Make:
    def make(chance: random.Random) -> str:
        digits = [*map(int, first)]
        digits += [chance.randrange(10) for _ in range(length - 1 - len(first))]
        total = sum(
            digit if place % 2 else sum(divmod(2 * digit, 10))
            for place, digit in enumerate(reversed(digits))
        )
        return _grouped("".join(map(str, [*digits, -total % 10])), groups, by)

    return make


def _grouped(text: str, groups: Sequence[int], by: str) -> str:
    if not groups:
        return text
    parts, at = list[str](), 0
    for size in groups:
        parts.append(text[at : at + size])
        at += size
    return by.join(part for part in [*parts, text[at:]] if part)


def _iban(by: str | None) -> Make:
    def make(chance: random.Random) -> str:
        country = chance.choice(sorted(IBANS))
        account = _account(IBANS[country], chance)
        as_digits = "".join(str(int(char, 36)) for char in f"{account}{country}00")
        text = f"{country}{98 - int(as_digits) % 97:02d}{account}"
        return text if by is None else _grouped(text, [4] * 8, by)

    return make


def _account(shape: str, chance: random.Random) -> str:
    """By a shape: L is a letter, d18 eighteen digits."""
    found, at = "", 0
    while at < len(shape):
        if shape[at] == "L":
            found += chance.choice("ABCDEFGHJKLMNPRSTUVWXYZ")
            at += 1
            continue
        end = at + 1
        while end < len(shape) and shape[end].isdigit():
            end += 1
        found += "".join(str(chance.randrange(10)) for _ in range(int(shape[at + 1 : end] or "1")))
        at = end
    return found


def _ssn(by: str) -> Make:
    def make(chance: random.Random) -> str:
        area = chance.choice([*range(101, 666), *range(667, 900)])
        return by.join(
            (str(area), f"{chance.randrange(10, 99)}", f"{chance.randrange(1001, 9999)}")
        )

    return make


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _coin(version: int) -> Make:
    """Base58Check of a random hash, as Bitcoin's older addresses are."""

    def make(chance: random.Random) -> str:
        body = bytes([version]) + chance.randbytes(20)
        whole = body + hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4]
        number, text = int.from_bytes(whole), ""
        while number:
            number, digit = divmod(number, 58)
            text = _BASE58[digit] + text
        return "1" * (len(whole) - len(whole.lstrip(b"\0"))) + text

    return make


def _segwit(chance: random.Random) -> str:
    """Bech32 of a random hash (BIP 173)."""
    bits = f"{int.from_bytes(chance.randbytes(20)):0160b}"
    data = [0, *(int(bits[at : at + 5], 2) for at in range(0, 160, 5))]
    prefix = [*(ord(char) >> 5 for char in "bc"), 0, *(ord(char) & 31 for char in "bc")]
    rest = _polymod([*prefix, *data, 0, 0, 0, 0, 0, 0]) ^ 1
    check = [(rest >> 5 * (5 - place)) & 31 for place in range(6)]
    return "bc1" + "".join(_BECH32[value] for value in [*data, *check])


def _polymod(values: Sequence[int]) -> int:
    rest = 1
    for value in values:
        top = rest >> 25
        rest = (rest & 0x1FFFFFF) << 5 ^ value
        for place, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            rest ^= term if (top >> place) & 1 else 0
    return rest


def _ipv4(chance: random.Random) -> str:
    parts = [
        chance.choice([51, 62, 80, 93, 141, 185, 203]),
        *(chance.randrange(256) for _ in "abc"),
    ]
    return ".".join(map(str, parts))


def _ipv6(full: bool) -> Make:
    def make(chance: random.Random) -> str:
        groups = [f"{chance.randrange(4096, 65536):x}" for _ in range(8)]
        groups[0] = chance.choice(["2001", "2003", "2600", "2a00", "2a02"])
        groups[1] = f"{chance.randrange(4096, 65536):x}"
        return ":".join(groups) if full else f"{':'.join(groups[:3])}::{groups[7]}"

    return make


_FOURS = (4, 4, 4)
#: Every way that is to be found.
FORMS: tuple[Form, ...] = (
    *(
        Form(kind="EMAIL_ADDRESS", name=label, make=_mail(pattern))
        for label, pattern in {
            "dotted": "{first}.{last}@{host}",
            "tagged": "{first}+{last}{number}@{host}",
            "underscored": "{first}_{last}{number}@{host}",
            "hyphenated": "{first}-{last}@{host}",
            "one word": "{last}{number}@{host}",
        }.items()
    ),
    Form(
        kind="EMAIL_ADDRESS", name="capitals",
        make=lambda chance: _mail("{first}.{last}@{host}")(chance).upper(),
    ),
    Form(kind="EMAIL_ADDRESS", name="(at) (dot)", make=_spelled(" (at) ", " (dot) ")),
    Form(kind="EMAIL_ADDRESS", name="[at]", make=_spelled(" [at] ", ".")),
    Form(kind="EMAIL_ADDRESS", name="[at][dot]", make=_spelled("[at]", "[dot]")),
    *(
        Form(kind="PHONE_NUMBER", name=style, make=_phone(ABROAD, style))
        for style in (
            "international", "compact", "dashes", "dots", "no-break", "brackets", "extension",
        )
    ),
    *(
        Form(kind="PHONE_NUMBER", name=style, make=_phone(NATIONAL, style), frames=PHONE)
        for style in ("national", "digits")
    ),
    Form(kind="PHONE_NUMBER", name="zeros", make=_phone(["GB", "DE", "FR"], "zeros"), frames=PHONE),
    Form(kind="PHONE_NUMBER", name="trunk zero", make=_trunk_zero),
    *(
        Form(kind="PHONE_NUMBER", name=pattern.format("AAA", "BBB", "CCCC"), make=_american(pattern))
        for pattern in ("({}) {}-{}", "{}-{}-{}", "{}.{}.{}", "1-{}-{}-{}")
    ),
    *(
        Form(kind="CREDIT_CARD", name=f"{issuer}, {label}", make=_card(first, 16, groups, by))
        for issuer, first in {
            "Visa": "4", "Mastercard": "53", "Mastercard 2": "2345", "Discover": "6011",
            "JCB": "3530",
        }.items()
        for label, groups, by in (("digits", (), ""), ("spaces", _FOURS, " "), ("dashes", _FOURS, "-"))
    ),
    Form(kind="CREDIT_CARD", name="American Express, digits", make=_card("37", 15)),
    Form(kind="CREDIT_CARD", name="American Express, spaces", make=_card("34", 15, (4, 6), " ")),
    Form(kind="CREDIT_CARD", name="Diners, spaces", make=_card("36", 14, (4, 6), " ")),
    Form(kind="IBAN_CODE", name="compact", make=_iban(None)),
    Form(kind="IBAN_CODE", name="spaces", make=_iban(" ")),
    Form(kind="IBAN_CODE", name="dashes", make=_iban("-")),
    Form(
        kind="IBAN_CODE", name="before a word", make=_iban(" "),
        frames=("Pay to {value} BANK OF THE NORTH.", "{value} BIC ABCDEFGH", "IBAN {value} EUR 20"),
    ),
    Form(kind="US_SSN", name="dashes", make=_ssn("-")),
    Form(kind="US_SSN", name="spaces", make=_ssn(" "), frames=SSN),
    Form(kind="US_SSN", name="digits", make=_ssn(""), frames=SSN),
    Form(kind="CRYPTO", name="P2PKH", make=_coin(0)),
    Form(kind="CRYPTO", name="P2SH", make=_coin(5)),
    Form(kind="CRYPTO", name="Bech32", make=_segwit),
    Form(kind="IP_ADDRESS", name="IPv4", make=_ipv4),
    Form(kind="IP_ADDRESS", name="IPv6", make=_ipv6(True)),
    Form(kind="IP_ADDRESS", name="IPv6, short", make=_ipv6(False)),
)  # fmt: skip
#: Names of people, which only the language model finds.
NAMES: tuple[Form, ...] = (
    Form(
        kind="PERSON", name="first and last", make=name,
        frames=(
            "The contract was signed by {value} in the presence of a notary.",
            "{value} has been our accountant since spring.",
            "Please send the keys back to {value} before Friday.",
            "My name is {value} and I live next door.",
        ),
    ),
)  # fmt: skip
#: Ways that are known not to be found: nothing tells these from other numbers and words.
BEYOND: tuple[Form, ...] = (
    Form(
        kind="PHONE_NUMBER", name="digits without a word beside them",
        make=_phone(NATIONAL, "digits"), frames=PLAIN[:3],
    ),
    Form(
        kind="US_SSN", name="digits without a word beside them", make=_ssn(""), frames=PLAIN[:3],
    ),
    Form(
        kind="EMAIL_ADDRESS", name="at and dot as bare words", make=_spelled(" at ", " dot "),
        frames=PLAIN[:3],
    ),
    Form(
        kind="IBAN_CODE", name="small letters", make=lambda chance: _iban(" ")(chance).lower(),
        frames=PLAIN[:3],
    ),
)  # fmt: skip
