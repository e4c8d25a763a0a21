"""Personal data in documents, found by the real Presidio; nothing of it is left below the cleaning."""

from pydoc_data.topics import topics

import deltalake
import pytest

from benchmarks.document_pii import LEAST_RECALL, measure
from headwater.documents import clean, personal
from headwater.documents.accounting import personal_data
from headwater.documents.parse import parse
from headwater.documents.parsed import MAX_HEADING, Parsed, Rejected
from headwater.documents.personal import (
    PATTERNED,
    PersonalPolicies,
    PersonalPolicy,
    find,
    policies_of,
    policy_of,
    redacted,
    screen,
)
from headwater.errors import HeadwaterError
from headwater.records import Heading
from tests.documents.examples import PROSE, Corpus

REDACT, REPORT = PersonalPolicy(redact=True), PersonalPolicy(redact=False)
SECRETS = ("ada@example.org", "+49 30 901820", "4111 1111 1111 1111", "219-09-9999")
LETTER = f"""# Contact ada@example.org

{PROSE}

Write to <ada@example.org> or call +49 30 901820; the card is 4111 1111 1111 1111.

## Größe der Müller-Akte

{PROSE}

## SSN 219-09-9999

{PROSE}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail ada@example.org.", "Mail <EMAIL_ADDRESS>."),
        ("Mail ada@example.org.Then wait.", "Mail <EMAIL_ADDRESS>.Then wait."),
        ("ada (at) example (dot) org, please", "<EMAIL_ADDRESS>, please"),
        ("(+49) 30 901820 or (212) 345-0123.", "<PHONE_NUMBER> or <PHONE_NUMBER>."),
        ("Call us (+49 30 901820) today", "Call us (<PHONE_NUMBER>) today"),
        ("Tel.030/901820 ext. 12", "Tel.<PHONE_NUMBER>"),
        ("Phones: 212-345-0123 212-345-0124", "Phones: <PHONE_NUMBER> <PHONE_NUMBER>"),
        ("+49\u00a030\u00a0901820", "<PHONE_NUMBER>"),
        ("5555\u20115555\u20115555\u20114444", "<CREDIT_CARD>"),
        ("2223 0031 2200 3222 12/29", "<CREDIT_CARD> 12/29"),
        ("DE89 3704 0044 0532 0130 00 EUR", "<IBAN_CODE> EUR"),
        ("BE68 5390 0754 7034 BANK OF THE NORTH", "<IBAN_CODE> BANK OF THE NORTH"),
        ("SSN: 219 09 9999", "SSN: <US_SSN>"),
        ("to 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2!", "to <CRYPTO>!"),
        ("seen at 81.2.69.142:443", "seen at <IP_ADDRESS>:443"),
        ("host 8.8.8.8", "host <IP_ADDRESS>"),
        ("2a00:1450:4001:81b::200e: no route", "<IP_ADDRESS>: no route"),
    ],
)
def test_found_and_nothing_beside_it(text: str, expected: str):
    assert redacted(text, PATTERNED) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2147483647 and 4294967295 and 79228162514264337593543950336",
        "The number 2125550123 is prime, or is it?",
        "+3.1415926535 -1.7976931348623157 3.14159265358979",
        "From 2010-07-04 12:00 to 2011-01-01; see pages 211-227 (2003).",
        "Order 4111 1111 1111 1112 has no checksum",
        "a@b.T, x @ y.z, git@github.com:org/repo, @property.setter",
        "127.0.0.1, 192.168.1.10, 10.0.0.138, version 81.2.69.142, see 2.3.1.4",
        "x[1::2], ::1, fe80::1, 2024:10:05 12:30",
        "hosts 192.0.2.130, 198.51.100.44 and 203.0.113.77, or 2001:db8::1 and 2001:DB8:ff::2a",
        "DE89 3704 0044 0532 0130 01 and 3fa9beb99e4029ad5a6615399e7bbae21356086b",
        "219 09 9999 and 219099999",
        "ISBN 978-3-16-148410-0",
    ],
)
def test_numbers_are_not_personal_for_their_length(text: str):
    assert find(text, PATTERNED) == []


def test_the_head_of_a_column_says_what_its_numbers_are():
    table = "Name | Phone | Order\n\nAda | 2123450123 | 2123450124\n\nBo | 2123450125 | 7"
    kept = "Name | Phone | Order\n\nAda | <PHONE_NUMBER> | 2123450124\n\nBo | <PHONE_NUMBER> | 7"
    assert redacted(table, PATTERNED) == kept
    assert redacted(f"{PROSE}\n\nAda | 2123450123 | 2123450124", PATTERNED).count("<") == 0


def test_only_the_kinds_that_are_asked_for():
    text = "ada@example.org at 81.2.69.142"
    assert redacted(text, ("IP_ADDRESS",)) == "ada@example.org at <IP_ADDRESS>"
    assert policy_of("redact", "ip_address, EMAIL_ADDRESS") == PersonalPolicy(
        redact=True, kinds=("EMAIL_ADDRESS", "IP_ADDRESS")
    )
    assert policy_of("report") == REPORT
    assert policy_of("off") is None
    with pytest.raises(HeadwaterError, match="PASSPORT, which is no kind") as error:
        policy_of("off", "PASSPORT")
    assert "EMAIL_ADDRESS" in str(error.value.mend)


def test_names_are_found_where_they_are_asked_for():
    kinds = (*PATTERNED, "PERSON")
    text = "The contract was signed by Hannah Eriksson, hannah@example.org."
    assert redacted(text, PATTERNED) == text.replace("hannah@example.org", "<EMAIL_ADDRESS>")
    assert redacted(text, kinds) == "The contract was signed by <PERSON>, <EMAIL_ADDRESS>."
    assert "Eriksson" in redacted(text, kinds, "sv"), "the model knows English"


def test_title_headings_and_their_offsets_follow():
    done, counts = screen(parse(LETTER.encode(), "text/markdown", "docs:///a.md"), REDACT, "en")
    assert {each.kind: each.count for each in counts} == {
        "CREDIT_CARD": 1, "EMAIL_ADDRESS": 2, "PHONE_NUMBER": 1, "US_SSN": 1,
    }  # fmt: skip
    assert done.title == "Contact <EMAIL_ADDRESS>"
    names = [heading.text for heading in done.headings]
    assert names == ["Contact <EMAIL_ADDRESS>", "Größe der Müller-Akte", "SSN <US_SSN>"]
    for heading in done.headings:
        block = done.text.encode()[heading.start :].split(b"\n\n")[0].decode()
        assert block == heading.text
    assert not any(secret in done.text for secret in SECRETS)


def test_a_label_that_was_cut_in_the_middle_of_an_address():
    long = "x" * (MAX_HEADING - 8) + " ada@example.org"
    parsed = parse(f"# {long}\n\n{PROSE}".encode(), "text/markdown", "docs:///a.md")
    assert parsed.headings[0].text.endswith("ada@ex…")
    done, _ = screen(parsed, REDACT, "en")
    assert "ada" not in done.headings[0].text + done.title


def test_a_title_and_a_label_of_their_own():
    heading = Heading(start=0, level=1, text="Ask ada@example.org")
    parsed = Parsed(title="From ada@example.org", text=PROSE, headings=(heading,))
    done, counts = screen(parsed, REDACT, "en")
    assert (done.title, done.headings[0].text) == ("From <EMAIL_ADDRESS>", "Ask <EMAIL_ADDRESS>")
    assert (done.text, counts) == (PROSE, ())
    assert screen(parsed, REPORT, "en") == (parsed, ())


def test_presidio_is_not_asked_about_a_text_without_places(monkeypatch):
    """So the default corpus is cleaned without loading it."""

    def loaded(*_, **__):
        raise AssertionError("Presidio was asked")

    monkeypatch.setattr(personal, "analyze", loaded)
    for name, text in topics.items():
        parsed = parse(text.encode(), "text/plain", f"pydoc://topics/{name}")
        assert screen(parsed, REDACT, "en") == (parsed, ())


def tables(corpus: Corpus) -> str:
    """All that is stored below the raw documents."""
    return str([corpus.rows(name) for name in ("clean_documents", "document_shards", "quarantine")])


def test_what_is_redacted_is_in_no_table_but_the_raw_documents(corpus: Corpus):
    corpus.write("letter.md", LETTER)
    corpus.write("plain.txt", PROSE)
    corpus.raw()
    corpus.clean(personal=PersonalPolicies(common=REDACT))
    corpus.chunk()
    assert not any(secret in tables(corpus) for secret in SECRETS)
    assert any(b"ada@example.org" in row["content"] for row in corpus.rows("raw_documents"))
    held = {row["uri"]: row["personal_data"] for row in corpus.rows("clean_documents")}
    assert held["docs:///plain.txt"] == []
    assert {"kind": "EMAIL_ADDRESS", "count": 2} in held["docs:///letter.md"]
    assert personal_data(corpus.lake)[0] == {
        "source": "docs", "kind": "EMAIL_ADDRESS", "documents": 1, "finds": 2,
    }  # fmt: skip
    headings = {row["heading"] for row in corpus.rows("document_shards")}
    assert any("<EMAIL_ADDRESS>" in heading for heading in headings)


def test_the_policy_is_part_of_what_a_document_is_made_from(corpus: Corpus):
    corpus.write("letter.md", LETTER)
    corpus.write("plain.txt", PROSE)
    corpus.raw()
    off, chunks = corpus.clean(), corpus.chunk()
    assert {row["personal_data"] for row in corpus.rows("clean_documents")} == {None}

    # A report changes no text: nothing is split again.
    report = corpus.clean(personal=PersonalPolicies(common=REPORT))
    assert (report.processed, corpus.chunk().processed) == (2, 0)
    assert report.digest != off.digest
    assert corpus.clean(personal=PersonalPolicies(common=REPORT)).processed == 0

    redact = corpus.clean(personal=PersonalPolicies(common=REDACT))
    again = corpus.chunk()
    assert (redact.processed, again.processed) == (2, 1), "the letter alone has another text"
    assert again.digest != chunks.digest
    corpus.write("plain.txt", f"{PROSE}{PROSE}")
    corpus.raw()
    assert corpus.clean(personal=PersonalPolicies(common=REDACT)).processed == 1
    fewer = PersonalPolicy(redact=True, kinds=("US_SSN",))
    assert corpus.clean(personal=PersonalPolicies(common=fewer)).processed == 2
    assert "ada@example.org" in tables(corpus)

    assert corpus.clean().processed == 2
    corpus.chunk()
    assert {row["personal_data"] for row in corpus.rows("clean_documents")} == {None}


def test_a_source_may_choose_for_itself(corpus: Corpus):
    corpus.write("letter.md", LETTER)
    corpus.raw()
    redact = corpus.clean(personal=policies_of("redact", "", {"docs": None}))
    kept = policies_of("redact", "", {"docs": "report", "others": "redact"})
    assert corpus.clean(personal=kept).processed == 1
    (row,) = corpus.rows("clean_documents")
    assert "ada@example.org" in row["text"] and row["personal_data"]
    assert corpus.clean(personal=kept).processed == 0
    elsewhere = corpus.clean(personal=policies_of("redact", "", {"others": "off"}))
    assert (elsewhere.processed, elsewhere.digest) == (1, redact.digest)
    assert policies_of("off", "", {"docs": "off", "others": None}).digest == ""
    assert kept.digest != policies_of("redact", "", {"docs": None}).digest


def test_a_refusal_that_quotes_the_document_is_redacted_too(corpus: Corpus, monkeypatch):
    corpus.write("letter.md", LETTER)
    corpus.raw()
    quoted = Rejected("parser_crashed", "ValueError: bad line 'To: ada@example.org'")
    monkeypatch.setattr(clean, "_outcomes", lambda documents, _: [quoted for _ in documents])
    corpus.clean(personal=PersonalPolicies(common=REDACT))
    assert corpus.rows("quarantine")[0]["detail"] == "ValueError: bad line 'To: <EMAIL_ADDRESS>'"


def test_a_table_from_before_gets_the_column(corpus: Corpus):
    corpus.write("letter.md", LETTER)
    corpus.raw()
    before = corpus.clean()
    rows = corpus.lake.read("clean_documents").drop_columns(["personal_data"])
    deltalake.write_deltalake(
        str(corpus.lake.path("clean_documents")), rows,
        mode="overwrite", schema_mode="overwrite", partition_by=["shard"],
    )  # fmt: skip
    after = corpus.clean()
    assert (after.processed, after.digest) == (0, before.digest)
    corpus.clean(personal=PersonalPolicies(common=REPORT))
    assert len(corpus.rows("clean_documents")[0]["personal_data"]) == 4


def test_planted_data_is_found_and_the_reference_holds_none():
    found = measure(per_form=2)
    assert found["planted"] >= 90
    assert found["recall"] >= LEAST_RECALL, found["missed"]
    assert found["exact"] >= LEAST_RECALL
    assert all(kind["recall"] >= 0.9 for kind in found["by_kind"].values()), found["by_kind"]
    assert found["reference"]["finds"] == {}, found["reference"]["examples"]
