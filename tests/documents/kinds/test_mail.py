import mailbox
from email.message import EmailMessage

import pytest

from headwater.documents.kinds import listings, mail
from headwater.documents.kinds.base import ReadError, Remembered
from headwater.documents.kinds.mail import MailSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import add_source, list_items, listing_digest, read_items
from headwater.errors import HeadwaterError
from tests.documents.examples import PROSE, Corpus


def message(id="<a@host>", body=PROSE) -> EmailMessage:
    written = EmailMessage()
    if id:
        written["Message-ID"] = id
    written["Subject"], written["From"] = "Opening hours", "Ada <ada@example.org>"
    written.set_content(body)
    return written


def archive(path, *messages, kind=mailbox.mbox) -> MailSource:
    box = kind(path)
    for each in messages:
        box.add(each)
    box.close()
    return MailSource(name="list", path=path)


def names(items):
    return [item.uri.removeprefix("list:///") for item in items]


@pytest.mark.parametrize("kind", [mailbox.mbox, mailbox.Maildir])
def test_a_message_is_a_document_called_by_its_id(tmp_path, kind):
    entry = archive(tmp_path / "box", message(), message("<b/c@host>", "From here on."), kind=kind)
    items = list_items(entry)
    assert names(items) == ["a%40host", "b/c%40host"]
    found = [content for _, content in read_items(entry, items, 2**20)]
    assert all(b"Subject: Opening hours" in content for content in found)
    assert [item.size for item in items] == [len(content) for content in found]


def test_messages_without_an_id_and_with_one_that_is_taken(tmp_path):
    same, other = message(), message(body="Another text with the same id.")
    entry = archive(tmp_path / "box", same, same, other, message(""), message("no brackets <x y>"))
    found = names(list_items(entry))
    assert len(found) == 4
    assert found[0] == "a%40host"
    assert found[1].startswith("a%40host?copy=")
    assert all(name.startswith("digest-") for name in found[2:])
    assert all(
        isinstance(content, bytes) for _, content in read_items(entry, list_items(entry), 9999)
    )


def test_a_message_that_comes_or_is_too_large(tmp_path):
    entry = archive(tmp_path / "box", message())
    digest = listing_digest(list_items(entry))
    archive(tmp_path / "box", message("<new@host>"))
    items = list_items(entry)
    assert len(items) == 2
    assert listing_digest(items) != digest
    assert {content.reason for _, content in read_items(entry, items, 20)} == {"too_large"}


def test_a_message_that_vanished_after_it_was_listed(tmp_path):
    entry = archive(tmp_path / "box", message(), kind=mailbox.Maildir)
    items = list_items(entry)
    next((tmp_path / "box" / "new").iterdir()).unlink()
    ((_, content),) = read_items(entry, items, 2**20)
    assert isinstance(content, ReadError)
    assert content.reason == "missing"


def test_subfolders_of_a_maildir_and_links_out_of_it(tmp_path):
    entry = archive(tmp_path / "box", message(), kind=mailbox.Maildir)
    archive(tmp_path / "box" / ".old", message("<old@host>"), kind=mailbox.Maildir)
    (tmp_path / "box" / ".other").mkdir()
    (tmp_path / "secret").write_text("Message-ID: <canary@host>\n\ncanary")
    (tmp_path / "box" / "cur" / "1.link").symlink_to(tmp_path / "secret")
    assert names(list_items(entry)) == ["a%40host", "old%40host"]


def test_a_listing_is_made_again_only_when_the_archive_has_changed(tmp_path, monkeypatch):
    entry = archive(tmp_path / "box", message())
    first = list_items(entry)
    monkeypatch.setattr(mail, "_list", lambda *_: pytest.fail("the archive was read again"))
    assert list_items(entry) == first


def test_a_new_message_of_a_maildir_is_read_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(listings, "FEWEST", 3)
    some = [message(f"<{number}@host>") for number in range(3)]
    entry = archive(tmp_path / "box", *some, message("<1@host>", "Other."), kind=mailbox.Maildir)
    entry = entry.model_copy(update={"name": "maildir-listing"})
    first = list_items(entry)
    assert len(first) == 4 and sum("?copy=" in item.uri for item in first) == 1
    reads = []
    real = mail._bytes
    monkeypatch.setattr(mail, "_bytes", lambda box, key: reads.append(key) or real(box, key))
    for number, other_process in ((3, False), (4, True)):
        if other_process:
            monkeypatch.setattr(mail, "_remembered", Remembered())
        archive(tmp_path / "box", message(f"<{number}@host>"), kind=mailbox.Maildir)
        read = next((tmp_path / "box" / "new").iterdir())
        read.rename(tmp_path / "box" / "cur" / f"{read.name}:2,S")  # its key stays
        found = list_items(entry)
        assert len(found) == number + 2 and len(reads) == 1
        assert set(first) <= set(found)
        reads.clear()
    assert all(isinstance(each, bytes) for _, each in read_items(entry, found, 2**20))


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.mbox").write_text("no mail")
    for name in ("a.mbox", "gone.mbox", "."):
        with pytest.raises(HeadwaterError, match="mbox"):
            list_items(MailSource(name="list", path=tmp_path / name))


def test_an_archive_is_indexed_like_a_folder(tmp_path, corpus: Corpus):
    archive(tmp_path / "list.mbox", message(), message("<q@host>", "> all of it is quoted\n"))
    added = add_source(tmp_path / "sources.yaml", str(tmp_path / "list.mbox"))
    assert (added.kind, added.name) == ("mail", "list")
    update_raw(corpus.lake, [added], corpus.keys(), corpus.shards, 2**20)
    corpus.clean()
    corpus.chunk()
    (row,) = corpus.rows("clean_documents")
    assert (row["uri"], row["title"]) == ("list:///a%40host", "Opening hours")
    assert corpus.reasons() == {"list:///q%40host": "no_text"}
    assert len(corpus.rows("document_shards")) >= 1
