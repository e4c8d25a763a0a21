from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.release import manifest
from headwater.release.manifest import Release
from headwater.settings import Settings
from tests.release.conftest import write_adapter

Make = Callable[..., Release]


def test_the_id_names_what_serves_and_nothing_else(make_release: Make) -> None:
    release = make_release()
    judged = replace(
        release, evaluation={"x": 1}, gates=({"name": "g", "passed": True},), run_id="run",
        commit="abc", created="2026", provisional=True,
    )  # fmt: skip
    assert judged.id == release.id
    moved = replace(release, base_model=replace(release.base_model, file="elsewhere.gguf"))
    assert moved.id == release.id
    changes = [
        {"weights": b"other"}, {"adapter": None}, {"index": "index2"}, {"embedding_model": "f"},
        {"prompt": replace(release.prompt, top_k=4)}, {"guardrails": "strict/1"},
        {"retrieval": {"rrf_k": 61, "dense_weight": 0.5}},
        {"base_model": replace(release.base_model, file_digest="0")},
    ]  # fmt: skip
    ids = {make_release(**change).id for change in changes}
    assert len(ids | {release.id}) == len(changes) + 1


def test_what_is_saved_is_what_is_loaded(settings: Settings, make_release: Make) -> None:
    gates = ({"name": "recall", "passed": True, "examples": []},)
    release = manifest.save(settings, make_release(gates=gates, evaluation={"retrieval": {"x": 1}}))
    assert release.created.endswith("+00:00")
    assert manifest.load(settings, release.id) == release
    assert manifest.load(settings, release.id[:8]) == release
    assert manifest.list_ids(settings) == [release.id]
    bare = manifest.save(settings, make_release(adapter=None))
    assert manifest.load(settings, bare.id).adapter is None


def test_a_manifest_from_before_examples_is_the_same_release(
    settings: Settings, make_release: Make
) -> None:
    release = manifest.save(settings, make_release())
    path = manifest.manifest_path(settings, release.id)
    old = read_json(path)
    del old["prompt"]["examples"]
    write_json(path, old)
    assert manifest.load(settings, release.id) == release
    before = path.read_bytes()
    assert manifest.save(settings, release) == release
    assert path.read_bytes() == before, "it is left as it is"
    shown = replace(release, prompt=replace(release.prompt, examples=(("Who?", "Me."),)))
    assert manifest.load(settings, manifest.save(settings, shown).id).prompt == shown.prompt
    assert shown.id != release.id


def test_saving_again_keeps_its_birth_and_takes_a_new_judgement(
    settings: Settings, make_release: Make
) -> None:
    first = manifest.save(settings, make_release(run_id="one", created="2026-01-01T00:00:00+00:00"))
    path = manifest.manifest_path(settings, first.id)
    before = path.stat().st_ino
    assert manifest.save(settings, make_release(run_id="two")) == first
    assert path.stat().st_ino == before, "the same again writes nothing"
    judged = manifest.save(settings, make_release(run_id="three", evaluation={"recall": 0.9}))
    assert (judged.created, judged.run_id) == (first.created, "one")
    assert manifest.load(settings, first.id).evaluation == {"recall": 0.9}


def test_verify_finds_changed_and_missing_files(settings: Settings, make_release: Make) -> None:
    release = make_release()
    manifest.verify(settings, release)
    for file in release.files:
        path = settings.root / file
        content = path.read_bytes()
        path.write_bytes(content + b"!")
        with pytest.raises(IntegrityError, match=path.name):
            manifest.verify(settings, release)
        path.unlink()
        with pytest.raises(IntegrityError, match="missing"):
            manifest.verify(settings, release)
        path.write_bytes(content)
    manifest.verify(settings, release)


def test_a_manifest_that_was_edited_is_refused(settings: Settings, make_release: Make) -> None:
    release = manifest.save(settings, make_release())
    path = manifest.manifest_path(settings, release.id)
    for change in ({"index": "another"}, {"unknown": 1}, {"prompt": {"system": "Lie."}}):
        write_json(path, {**release.to_json(), **change})
        with pytest.raises(IntegrityError):
            manifest.load(settings, release.id)
    path.write_text("{")
    with pytest.raises(IntegrityError):
        manifest.load(settings, release.id)


def test_unknown_and_ambiguous_names(settings: Settings, make_release: Make) -> None:
    ids = [manifest.save(settings, make_release(index=str(index))).id for index in range(17)]
    firsts = [name[0] for name in ids]
    ambiguous = max(firsts, key=firsts.count)  # of 17 ids two begin with the same hex digit
    for name in ("", "not-a-release", "../../etc/passwd", ambiguous):
        with pytest.raises(HeadwaterError, match="releases are called"):
            manifest.load(settings, name)


def test_an_adapter_that_is_not_what_it_says(settings: Settings, tmp_path: Path) -> None:
    folder = write_adapter(settings, b"weights")
    (folder / "adapter.gguf").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match=r"adapter\.gguf"):
        manifest.pin_adapter(settings, folder)
    with pytest.raises(HeadwaterError, match="not an adapter"):
        manifest.pin_adapter(settings, tmp_path)


def test_files_outside_the_home_cannot_be_named(
    settings: Settings, make_release: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = Settings(home=tmp_path_factory.mktemp("elsewhere"))
    folder = write_adapter(elsewhere, b"weights")
    with pytest.raises(HeadwaterError, match="outside"):
        manifest.pin_adapter(settings, folder)


def test_blocked_names_the_gates(make_release: Make) -> None:
    gates = ({"name": "a", "passed": True}, {"name": "b", "passed": False})
    assert make_release(gates=gates).blocked == ["b"]


def test_paths_in_the_manifest_are_relative(settings: Settings, make_release: Make) -> None:
    release = manifest.save(settings, make_release())
    text = str(read_json(manifest.manifest_path(settings, release.id)))
    assert str(settings.root) not in text
