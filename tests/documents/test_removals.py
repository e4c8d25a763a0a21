"""A source that lost its documents is not taken for one whose documents were deleted."""

import json

import pytest

from headwater.documents import removals
from headwater.documents.kinds.mail import MailSource
from headwater.documents.kinds.table import TableSource
from headwater.documents.raw import update_raw
from headwater.documents.sources import FolderSource, list_items
from headwater.errors import HeadwaterError
from headwater.lake import Lake

KEYS = ["00", "01"]
_MESSAGE = "From x Thu Jan  1 00:00:00 2026\nMessage-ID: <{}@x>\nSubject: Tides\n\nHigh at six.\n\n"


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def folder(tmp_path, names, **fields) -> FolderSource:
    """A folder that holds these documents and no others."""
    path = tmp_path / "docs"
    path.mkdir(exist_ok=True)
    for file in path.iterdir():
        file.unlink()
    for name in names:
        (path / f"{name}.txt").write_text(f"Document {name}.")
    return FolderSource(name="docs", path=path, **fields)


def build(lake, *sources, keys=KEYS):
    return update_raw(lake, sources, keys, len(KEYS), 2**20)


def held(lake) -> int:
    return lake.read("raw_documents", columns=["uri"]).num_rows


def test_an_empty_folder_is_refused_until_that_is_allowed(tmp_path, lake):
    other = TableSource(name="faq", path=tmp_path / "faq.jsonl")
    other.path.write_text('{"id": "a", "text": "x"}\n')
    build(lake, folder(tmp_path, range(3)), other)
    unmounted = folder(tmp_path, [])
    with pytest.raises(HeadwaterError, match="'docs' lists no document where it had 3") as told:
        build(lake, unmounted, other)
    assert "headwater sources allow docs" in told.value.mend
    assert held(lake) == 4
    assert build(lake, folder(tmp_path, range(3)), other).removed == 0

    unmounted = folder(tmp_path, [])
    assert removals.allow(lake, unmounted, 0) == 3
    assert build(lake, unmounted, other).removed == 3
    assert removals._entries(lake) == {}
    # The permission is used up: the same does not happen unseen later.
    build(lake, folder(tmp_path, range(3)), other)
    with pytest.raises(HeadwaterError, match="lists no document"):
        build(lake, folder(tmp_path, []), other)


def test_an_emptied_file_is_refused(tmp_path, lake):
    box, rows = tmp_path / "list.mbox", tmp_path / "faq.jsonl"
    box.write_text("".join(map(_MESSAGE.format, range(2))))
    rows.write_text(json.dumps({"id": "a", "text": "x"}))
    mail, faq = MailSource(name="mail", path=box), TableSource(name="faq", path=rows)
    assert build(lake, mail, faq).processed == 3
    before = box.read_text()
    box.write_text("")
    with pytest.raises(HeadwaterError, match="'mail' lists no document where it had 2"):
        build(lake, mail, faq)
    box.write_text(before)
    rows.write_text("")
    with pytest.raises(HeadwaterError, match="'faq' lists no document where it had 1"):
        build(lake, mail, faq)


@pytest.mark.parametrize(
    "case",
    [
        (20, 1, 0.5, False),
        (21, 10, 0.5, True),
        (21, 11, 0.5, False),
        (21, 11, 0.1, True),
        (21, 1, 1, False),
        (21, 20, 0, True),
    ],
)
def test_how_many_may_go(tmp_path, lake, case):
    had, left, share, refused = case
    build(lake, folder(tmp_path, range(had)))
    entry = folder(tmp_path, range(left), most_removed=share)
    if refused:
        with pytest.raises(HeadwaterError, match=f"lists only {left} documents where it had {had}"):
            build(lake, entry)
        assert held(lake) == had
    else:
        assert build(lake, entry).removed == had - left


def test_documents_that_have_moved_are_not_lost(tmp_path, lake):
    build(lake, folder(tmp_path, range(30)))
    assert build(lake, folder(tmp_path, range(30, 60))).removed == 30


def test_a_source_that_is_removed_goes_with_its_documents(tmp_path, lake):
    build(lake, folder(tmp_path, range(30)))
    assert build(lake).removed == 30


def test_a_permission_is_for_what_was_seen(tmp_path, lake):
    build(lake, folder(tmp_path, range(30)))
    entry = folder(tmp_path, range(10))
    assert removals.allow(lake, entry, len(list_items(entry))) == 20
    with pytest.raises(HeadwaterError, match="lists only 9"):
        build(lake, folder(tmp_path, range(9)))
    assert build(lake, folder(tmp_path, range(11))).removed == 19
    assert removals.allow(lake, entry, 11) is None


def test_a_permission_ends_when_the_documents_are_back_and_after_a_day(tmp_path, lake, monkeypatch):
    build(lake, folder(tmp_path, range(30)))
    entry = folder(tmp_path, [])
    removals.allow(lake, entry, 0)
    build(lake, folder(tmp_path, range(31)))
    with pytest.raises(HeadwaterError):
        build(lake, folder(tmp_path, []))
    monkeypatch.setattr(removals, "STANDS", -1.0)
    removals.allow(lake, entry, 0)
    with pytest.raises(HeadwaterError):
        build(lake, folder(tmp_path, []))


def test_runs_of_single_shards_are_counted_together(tmp_path, lake):
    build(lake, folder(tmp_path, range(40)))
    entry = folder(tmp_path, range(3))
    for key in KEYS:
        with pytest.raises(HeadwaterError, match="only 3 documents where it had 40"):
            build(lake, entry, keys=[key])
    removals.allow(lake, entry, 3)
    build(lake, entry, keys=["00"])
    build(lake, entry, keys=["01"])
    assert held(lake) == 3
    assert removals._entries(lake) == {}


def test_a_held_table_refuses_nothing(tmp_path, lake):
    build(lake, folder(tmp_path, range(30)))
    lake.set_holds({"raw_documents": {"version": 1, "since": "", "why": ""}})
    assert build(lake, folder(tmp_path, [])).removed == 0
    assert removals.refusals(lake, [folder(tmp_path, [])], {"docs": 0}) == {}
