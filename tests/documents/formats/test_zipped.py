import io
import struct
import zipfile

import pytest

from headwater.documents.formats import zipped
from headwater.documents.parsed import Rejected


def archive(members, compression=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def reason(content):
    with pytest.raises(Rejected) as error:
        zipped.open_bounded(content, "docx")
    return error.value.reason


def test_a_sound_archive_opens_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    members = {"../../escape.xml": "<x/>", "/absolute": b"1", "a/b": b"2"}
    with zipped.open_bounded(archive(members), "docx") as opened:
        assert opened.read("a/b") == b"2"
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_is_refused_by_its_ratio_whatever_it_declares():
    content = archive({"a": bytes(8 * 2**20)})
    assert reason(content) == "zip_bomb"
    # The directory at the end says that it inflates to 9 bytes.
    at = content.rindex(b"PK\x01\x02")
    lying = content[: at + 24] + struct.pack("<I", 9) + content[at + 28 :]
    assert reason(lying) in ("zip_bomb", "damaged_docx")


def test_many_small_bombs_are_refused_by_their_sum(monkeypatch):
    monkeypatch.setattr(zipped, "MAX_INFLATED", 2**20)
    members = {str(number): bytes(2**16) for number in range(17)}
    assert reason(archive(members)) == "zip_bomb"
    monkeypatch.setattr(zipped, "MAX_MARKUP", 2**16)
    assert reason(archive({"a.xml": b"<x>" * 2**15}, zipfile.ZIP_STORED)) == "too_large"


def test_too_many_members(monkeypatch):
    monkeypatch.setattr(zipped, "MAX_MEMBERS", 10)
    assert reason(archive({str(number): b"" for number in range(11)})) == "zip_bomb"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_no_sound_archive():
    content = archive({"a": b"text" * 99, "b": b"more"})
    assert reason(b"PK\x03\x04 nothing") == "damaged_docx"
    assert reason(content[: len(content) // 2]) == "damaged_docx"
    flipped = bytearray(content)
    flipped[40] ^= 0xFF
    assert reason(bytes(flipped)) == "damaged_docx"
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("a", b"1")
        file.writestr("a", b"2")
    assert reason(twice.getvalue()) == "damaged_docx"


def test_members_that_overlap_are_refused():
    """Each entry of the directory names the same stored bytes."""
    content = archive({"a": b"x" * 500, "b": b"y" * 500}, zipfile.ZIP_STORED)
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    same = content[: second + 42] + struct.pack("<I", 0) + content[second + 46 :]
    assert reason(same) == "damaged_docx"


def test_encrypted_is_told_from_broken():
    assert reason(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)) == "encrypted_docx"
    content = bytearray(archive({"a": b"secret"}, zipfile.ZIP_STORED))
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    assert reason(bytes(content)) == "encrypted_docx"
