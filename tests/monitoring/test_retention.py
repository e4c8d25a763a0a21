"""Old versions go; those that a release in use was made from stay, and so do the last days."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.monitoring import lake_retention
from headwater import versions
from headwater.lake import Lake
from headwater.monitoring.retention import WATTS_PER_TB, retain
from headwater.release import manifest, pointer
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource
from tests.documents.examples import PROSE, Corpus
from tests.release.conftest import PROMPT, write_base

LATER = timedelta(days=40)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    return Settings(home=tmp_path)


@pytest.fixture
def corpus(settings: Settings, tmp_path: Path) -> Corpus:
    folder = tmp_path / "documents"
    folder.mkdir()
    return Corpus(folder, Lake(settings.lake))


def make_release(settings: Settings, **fields: str) -> manifest.Release:
    values = {"index": "index0", "embedding_model": "e" * 64} | fields
    base = manifest.pin_base(settings, write_base(settings))
    return manifest.Release(base_model=base, adapter=None, prompt=PROMPT, retrieval={}, **values)


def built(corpus: Corpus, words: str) -> None:
    corpus.write("guide.md", f"# Guide\n\n{PROSE * 5}{words}\n")
    corpus.build()
    corpus.lake.ensure()


def readable(lake: Lake, table: str) -> list[int]:
    return [
        commit.version
        for commit in lake.history(table)
        if all((lake.path(table) / path).exists() for path in lake.files(table, commit.version))
    ]


def test_what_a_release_was_made_from_stays(corpus: Corpus, settings: Settings) -> None:
    for number in range(4):
        built(corpus, f"Edition {number}.")
        if number == 1:
            versions.note_index(corpus.lake, "index1")
            released = manifest.save(settings, make_release(settings, index="index1"))
            pointer.promote(settings, released.id, None)
    noted = versions.of_index(corpus.lake, "index1")
    assert noted is not None
    lake, now = corpus.lake, datetime.now(UTC)
    newest, rows = lake.version("raw_documents"), lake.read("raw_documents").to_pylist()
    files = set(lake.files("raw_documents", noted["raw_documents"]))

    assert retain(lake, settings, days=30, now=now).freed_bytes == 0, "all of it is young"
    planned = retain(lake, settings, days=30, now=now + LATER, dry_run=True)
    assert planned.freed_bytes > 0
    assert len(readable(lake, "raw_documents")) == 5, "a dry run deletes nothing"

    done = retain(lake, settings, days=30, now=now + LATER)
    assert done.freed_bytes == planned.freed_bytes
    left = readable(lake, "raw_documents")
    assert {newest, noted["raw_documents"]} <= set(left) and 1 not in left
    assert lake.read("raw_documents").to_pylist() == rows
    for table, version in noted.items():
        assert version in readable(lake, table), table
    assert versions.of_index(lake, "index1") == noted
    versions.restore(lake, noted, why="test")
    assert set(lake.files("raw_documents")) == files
    assert b"Edition 1." in lake.read("raw_documents").to_pylist()[0]["content"]


def test_an_older_release_is_known_by_its_time(corpus: Corpus, settings: Settings) -> None:
    built(corpus, "Edition 0.")
    at_first = corpus.lake.version("raw_documents")
    created = (corpus.lake.history("raw_documents")[0].time).isoformat(timespec="seconds")
    release = manifest.save(settings, make_release(settings, created=created))
    pointer.promote(settings, release.id, None)
    built(corpus, "Edition 1.")
    retain(corpus.lake, settings, days=0, now=datetime.now(UTC) + LATER)
    assert at_first in readable(corpus.lake, "raw_documents")


def test_the_asset_says_what_it_takes(corpus: Corpus, settings: Settings) -> None:
    for number in range(3):
        built(corpus, f"Edition {number}.")
    on_disk = sum(
        path.stat().st_size
        for path in settings.lake.rglob("*.parquet")
        if "_delta_log" not in path.parts
    )
    result = dg.materialize(
        [lake_retention],
        resources={
            "settings": SettingsResource(home=str(settings.root)),
            "lake": LakeResource(path=str(settings.lake)),
        },
    )
    (event,) = result.get_asset_materialization_events()
    said = {name: value.value for name, value in event.materialization.metadata.items()}
    assert said["live_bytes"] + said["history_bytes"] == on_disk and said["freed_bytes"] == 0
    assert said["history_bytes"] > 0 and said["retain_days"] == 30
    # Everything was written within the shortest time that growth is told from, a day.
    assert said["yearly_growth_bytes"] == pytest.approx(on_disk * 365.25, rel=1e-6)
    assert said["yearly_kwh"] == pytest.approx(on_disk / 1e12 * WATTS_PER_TB * 8.766)
    assert said["yearly_kg_co2e"] == pytest.approx(said["yearly_kwh"] * 0.475)
