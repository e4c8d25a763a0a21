"""Files that are whole or absent, and what killed writers leave beside them."""

import os
import time
from pathlib import Path

from headwater.files import ABANDONED_S, write_atomic


def test_what_a_killed_writer_left_is_removed_a_day_later(tmp_path: Path) -> None:
    old, young = tmp_path / ".a[1].json.x1.partial", tmp_path / ".a[1].json.x2.partial"
    others = [tmp_path / ".b.json.x3.partial", tmp_path / ".a[1].json.lock"]
    for path in (old, young, *others):
        path.write_text("half")
    ago = time.time() - ABANDONED_S - 60
    for path in (old, *others):
        os.utime(path, (ago, ago))
    write_atomic(tmp_path / "a[1].json", "whole")
    assert not old.exists() and young.exists()
    assert all(path.exists() for path in others), "another file's, and a lock"
    assert (tmp_path / "a[1].json").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cache_is_whole_and_not_forced_to_disk(tmp_path: Path, monkeypatch) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    write_atomic(tmp_path / "cache", "before", durable=False)
    write_atomic(tmp_path / "cache", "now", durable=False)
    assert (tmp_path / "cache").read_text() == "now" and not forced
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    write_atomic(tmp_path / "state", "now")
    assert len(forced) == 2  # the file, and its name in the folder
