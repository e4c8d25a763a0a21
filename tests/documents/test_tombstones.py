"""Tombstones: one for each document that is gone and for no other, written before its rows go."""

import pytest

from headwater.documents import raw, stage
from headwater.documents.accounting import account
from headwater.documents.raw import update_raw
from headwater.documents.removals import allow
from headwater.documents.sources import FolderSource
from headwater.lake import Lake
from headwater.tombstones import Burial, take_out
from tests.documents.examples import SHARDS, Corpus

KEYS = [f"{shard:02x}" for shard in range(8)]


def read(corpus: Corpus, *access: str, shards: int = 4, licence: str = "MIT") -> None:
    source = FolderSource(name="docs", path=corpus.folder, access=access, licence=licence)
    update_raw(corpus.lake, [source], KEYS[:shards], shards, 2**20)


def gone(corpus: Corpus) -> dict[str, str]:
    return {row["uri"].removeprefix("docs:///"): row["reason"] for row in corpus.rows("tombstones")}


class Killed(Exception):
    """A stage ended where it stood."""


def test_a_tombstone_holds_no_content_and_stands_for_what_left_alone(three: Corpus) -> None:
    read(three, "hr")
    version = three.lake.version("tombstones")
    read(three, "hr")
    three.write("plain.txt", "Other text, which is edited and stays.")
    read(three, "hr")
    assert three.lake.version("tombstones") == version and gone(three) == {}
    (three.folder / "notes.md").rename(three.folder / "renamed.md")
    read(three, "hr")
    (row,) = three.rows("tombstones")
    assert row == {
        "uri": "docs:///notes.md", "source": "docs", "shard": row["shard"], "licence": "MIT",
        "access": ["hr"], "reason": "removed",
    }  # fmt: skip
    version = three.lake.version("tombstones")
    read(three, "hr")
    assert three.lake.version("tombstones") == version
    (three.folder / "renamed.md").rename(three.folder / "notes.md")
    read(three)
    assert gone(three) == {"renamed.md": "removed"}


def test_tombstones_are_no_documents_of_the_account(three: Corpus) -> None:
    three.raw()
    (three.folder / "notes.md").unlink()
    three.raw()
    three.clean()
    assert gone(three) == {"notes.md": "removed"}
    (found,) = account(three.lake)
    assert (found.documents, found.indexed, found.unaccounted) == (2, 2, 0)


def test_another_number_of_shards_buries_nobody(three: Corpus) -> None:
    read(three, shards=8)
    read(three, shards=3)
    assert len(three.rows("raw_documents")) == 3 and gone(three) == {}
    read(three, shards=8)
    assert len(three.rows("raw_documents")) == 3 and gone(three) == {}


@pytest.mark.parametrize("at", ["rows", "quarantine"])
def test_a_kill_leaves_the_row_or_the_tombstone(
    three: Corpus, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Every shard is committed by itself, and the stage ends at the first commit or after the last."""
    read(three, "restricted")
    before = {row["uri"] for row in three.rows("raw_documents")}
    for path in three.folder.iterdir():
        path.unlink()
    allow(three.lake, FolderSource(name="docs", path=three.folder), 0)

    def end(*args: object, **kwargs: object) -> None:
        raise Killed

    monkeypatch.setattr(stage, "COMMIT_BYTES", 1)
    with monkeypatch.context() as patched:
        if at == "rows":
            patched.setattr(Lake, "replace_by", end)
        else:
            patched.setattr(raw, "write_quarantine", end)
        with pytest.raises(Killed):
            read(three, "restricted")
    left = {row["uri"] for row in three.rows("raw_documents")}
    buried = {row["uri"] for row in three.rows("tombstones") if row["access"] == ["restricted"]}
    assert left | buried == before and buried
    assert bool(left) == (at == "rows")
    read(three, "restricted")
    assert {f"docs:///{name}" for name in gone(three)} == before


def test_a_kill_before_a_tombstone_is_taken_out_is_put_right(
    three: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(three, "restricted")
    text = (three.folder / "notes.md").read_text()
    (three.folder / "notes.md").unlink()
    read(three, "restricted")
    three.write("notes.md", text)
    with monkeypatch.context() as patched:
        patched.setattr(raw, "take_out", lambda lake, back: None)
        read(three)
    assert gone(three) == {"notes.md": "removed"}
    read(three)
    assert gone(three) == {}


def test_tags_add_up_and_only_what_changed_is_written(corpus: Corpus) -> None:
    lake = corpus.lake
    row = {"uri": "a", "source": "s", "shard": SHARDS[0], "licence": "MIT", "access": ["hr"]}
    burial = Burial(lake)
    burial.add([row, row | {"uri": "b", "shard": SHARDS[1]}], "removed")
    burial.commit()
    version = lake.version("tombstones")
    burial.add([row], "removed")
    burial.commit()
    assert lake.version("tombstones") == version
    burial.add([row | {"access": ["restricted"], "licence": None}], "refused")
    burial.commit()
    burial.commit()
    rows = {each["uri"]: each for each in lake.read("tombstones").to_pylist()}
    assert rows["a"] == row | {"access": ["hr", "restricted"], "reason": "refused"}
    assert rows["b"]["access"] == ["hr"]
    take_out(lake, {"a", "nobody"})
    assert lake.read("tombstones")["uri"].to_pylist() == ["b"]
