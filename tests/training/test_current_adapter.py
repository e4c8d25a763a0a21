"""Which adapter a build goes on with, after a canary has taken one back."""

from dataclasses import replace

import pytest

from headwater.files import write_json
from headwater.records import Prompt
from headwater.release import manifest, pointer, traffic
from headwater.release.manifest import Release, pin_adapter, pin_base
from headwater.settings import Settings
from tests.release.conftest import write_adapter, write_base
from training import adapter


@pytest.fixture
def two(tmp_path, monkeypatch) -> tuple[Settings, Release, Release]:
    """A champion, and a canary that differs in its adapter, which the last training made."""
    settings = Settings(home=tmp_path)
    folders = [write_adapter(settings, content) for content in (b"good", b"bad")]
    champion = Release(
        base_model=pin_base(settings, write_base(settings)),
        adapter=pin_adapter(settings, folders[0]),
        prompt=Prompt(system="s", user="{context}{question}", max_context_tokens=9, top_k=1),
        index="i",
        embedding_model="e" * 64,
        retrieval={},
    )
    canary = replace(champion, adapter=pin_adapter(settings, folders[1]))
    for release in (champion, canary):
        manifest.save(settings, release)
    pointer.promote(settings, champion.id, None)
    write_json(settings.adapters / adapter.CURRENT, {"id": folders[1].name})
    # The files here are too small to be read; which folder is chosen is what counts.
    monkeypatch.setattr(adapter, "load_adapter", lambda folder: folder.name)
    return settings, champion, canary


def test_an_adapter_that_was_taken_back_gives_way_to_the_champions(two):
    settings, champion, canary = two
    assert adapter.current_adapter(settings) == canary.adapter.id
    traffic.start_canary(settings, canary.id, 0.1)
    assert adapter.current_adapter(settings) == canary.adapter.id
    traffic.end_canary(settings, canary.id, "taken_back", reason="slow")
    assert adapter.current_adapter(settings) == champion.adapter.id


def test_a_person_who_promotes_it_overrules_the_canary(two):
    settings, champion, canary = two
    traffic.start_canary(settings, canary.id, 0.1)
    traffic.end_canary(settings, canary.id, "taken_back", reason="slow")
    pointer.promote(settings, canary.id, champion.id, actor="somebody")
    assert adapter.current_adapter(settings) == canary.adapter.id
