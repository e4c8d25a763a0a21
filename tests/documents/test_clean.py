import logging

import pytest

from headwater.documents import clean, parse
from headwater.documents.clean import language_of
from tests.documents.examples import PROSE, Corpus, drawn, make_pdf


def test_parsed_documents_with_title_language_and_headings(three: Corpus):
    three.raw()
    stats = three.clean()
    assert (stats.seen, stats.processed, stats.quarantined) == (3, 3, 0)
    rows = {row["uri"]: row for row in three.rows("clean_documents")}
    guide = rows["docs:///guide.html"]
    assert (guide["title"], guide["language"]) == ("Harbour guide", "en")
    assert [heading["text"] for heading in guide["headings"]] == ["Harbour", "Fees", "Weather"]


def test_bad_inputs_are_quarantined_and_their_neighbours_indexed(three: Corpus):
    page = ["The harbour opens at six in the morning.", "Fees apply to all boats."]
    pdf = make_pdf([page] * 20)
    three.write("good.pdf", pdf)
    three.write("empty.txt", b"")
    three.write("truncated.pdf", pdf[: len(pdf) // 2])
    three.write("encrypted.pdf", make_pdf([page], password="secret"))
    three.write(
        "broken-utf8.md", f"# Notes\n\nÄpfel und Öl, größer. {PROSE}".encode() + b"\xff\xfe"
    )
    three.write("binary.txt", bytes(range(256)) * 8 + bytes(9) * 200)
    three.write("line.txt", "harbour " * (10 * 2**20 // 8))
    three.write("not-a.pdf", "plain text")
    three.write("nul.html", b"\0" * 100)

    stats = three.raw(max_bytes=64 * 2**20), three.clean(4 * 2**20), three.chunk()
    assert three.reasons() == {
        "empty.txt": "empty",
        "truncated.pdf": "truncated_pdf",
        "encrypted.pdf": "encrypted_pdf",
        "binary.txt": "undecodable",
        "line.txt": "too_large",
        "not-a.pdf": "damaged_pdf",
        "nul.html": "empty",
    }
    assert stats[1].quarantined == 7
    assert all(row["detail"] for row in three.rows("quarantine"))
    accepted = {row["uri"].removeprefix("docs:///") for row in three.rows("clean_documents")}
    assert accepted == {"guide.html", "notes.md", "plain.txt", "good.pdf", "broken-utf8.md"}
    assert {row["uri"] for row in three.rows("document_shards")} == {
        f"docs:///{name}" for name in accepted
    }
    # A second run parses none of them again.
    again = three.raw(max_bytes=64 * 2**20), three.clean(4 * 2**20), three.chunk()
    assert [stage.processed for stage in again] == [0, 0, 0]
    assert [stage.digest for stage in again] == [stage.digest for stage in stats]
    assert again[1].quarantined == 7


def test_what_a_parser_left_as_it_was_is_said(corpus: Corpus, caplog):
    def draw(canvas):
        canvas.drawString(72, 760, PROSE)
        canvas.grid([5 * at for at in range(100)], [7 * at for at in range(100)])

    corpus.write("map.pdf", drawn(draw))
    corpus.raw()
    with caplog.at_level(logging.WARNING, "headwater"):
        assert corpus.clean().quarantined == 0
    (said,) = [each for each in caplog.messages if "map.pdf" in each]
    assert said.startswith("docs:///map.pdf: not searched for tables: page 1")


def test_another_version_of_a_format_has_its_documents_parsed_again_and_no_others(
    three: Corpus, monkeypatch
):
    three.write("page.pdf", make_pdf([["Fees apply."]]))
    three.raw()
    assert three.clean().processed == 4
    monkeypatch.setitem(parse._FORMAT_VERSIONS, "application/pdf", "pdf/next")
    assert (three.clean().processed, three.clean().processed) == (1, 0)
    monkeypatch.setattr(clean, "PARSER_VERSION", "parse/next")
    assert three.clean().processed == 4


def test_a_line_of_3_mb_is_accepted_and_bounded(corpus: Corpus):
    corpus.write("line.txt", "harbour " * (3 * 2**20 // 8))
    corpus.raw(max_bytes=2**24)
    assert corpus.clean(4 * 2**20).quarantined == 0
    assert corpus.chunk().chunks > 6000


def test_a_mended_document_leaves_quarantine_and_a_broken_one_enters(three: Corpus):
    three.write("plain.txt", b"")
    three.raw()
    assert three.clean().quarantined == 1
    three.write("plain.txt", PROSE)
    three.write("notes.md", b"")
    three.raw()
    stats = three.clean()
    assert (stats.processed, stats.quarantined, stats.removed) == (2, 1, 1)
    assert three.reasons() == {"notes.md": "empty"}
    assert len(three.rows("clean_documents")) == 2


def test_a_quarantined_document_that_is_deleted_leaves_quarantine(three: Corpus):
    three.write("empty.txt", b"")
    three.raw()
    assert three.clean().quarantined == 1
    (three.folder / "empty.txt").unlink()
    three.raw()
    assert three.clean().quarantined == 0
    assert three.reasons() == {}


def test_quarantine_keeps_the_rows_of_both_stages(three: Corpus):
    three.write("empty.txt", b"")
    three.write("big.txt", "x" * 5000)
    for _ in range(2):
        three.raw(max_bytes=4000)
        three.clean()
        stages = {row["uri"]: row["stage"] for row in three.rows("quarantine")}
        assert stages == {"docs:///big.txt": "raw", "docs:///empty.txt": "clean"}


def test_a_lower_limit_of_text_applies_to_what_is_already_there(three: Corpus):
    three.raw()
    three.clean()
    stats = three.clean(max_text_chars=300)
    assert stats.quarantined == 2
    assert three.clean().quarantined == 0


def test_a_kill_between_the_writes_is_made_good(three: Corpus, monkeypatch):
    """The documents' table is written, quarantine not: the next run ends as if undisturbed."""
    three.raw()
    three.clean()
    three.write("plain.txt", b"")
    three.raw()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(clean, "write_quarantine", killed)
    with pytest.raises(KeyboardInterrupt):
        three.clean()
    assert three.reasons() == {}
    monkeypatch.undo()
    stats = three.clean()
    assert three.reasons() == {"plain.txt": "empty"}
    assert stats.quarantined == 1
    fresh = Corpus(three.folder, type(three.lake)(three.lake.root.parent / "fresh"))
    fresh.raw()
    assert fresh.clean().digest == stats.digest


def test_language():
    assert language_of(PROSE) == "en"
    assert language_of("Der Hafen öffnet um sechs Uhr und schließt mit der letzten Fähre.") == "de"
    assert language_of("12 + 30 = 42") == "und"
