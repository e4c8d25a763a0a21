"""Against a real MLflow on SQLite."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.records import digest_file
from headwater.release import manifest, registry
from headwater.release.manifest import Release
from headwater.settings import Settings, quiet_libraries

Make = Callable[..., Release]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """One installation for the module (its database takes seconds to make), run from elsewhere."""
    monkeypatch.chdir(tmp_path)
    return Settings(home=home)


def client(settings: Settings) -> object:
    quiet_libraries()
    import mlflow

    return mlflow.MlflowClient(settings.mlflow_uri, settings.mlflow_uri)


def test_a_release_is_registered_once(
    settings: Settings, make_release: Make, tmp_path: Path
) -> None:
    assert registry.champion(settings) is None
    figures = {"retrieval": {"ndcg_at_10": {"fused": 0.9}, "provisional": False}}
    release = manifest.save(settings, make_release(b"one", evaluation=figures))
    first = registry.register(settings, release)
    again = registry.register(settings, release)
    assert first.created
    assert again == replace(first, created=False)
    assert registry.champion(settings) == release.id

    mlflow = client(settings)
    version = mlflow.get_model_version_by_alias("headwater", "champion")
    assert version.tags["adapter"] == release.adapter.id
    saved = Path(version.source.removeprefix("file://")) / "adapter.gguf"
    assert digest_file(saved) == release.adapter.file_digest, "the artifacts are the adapter"
    run = mlflow.get_run(first.run_id)
    assert run.data.metrics == {"retrieval/ndcg_at_10/fused": 0.9}
    prompt = mlflow.load_prompt("prompts:/headwater-prompt@champion")
    filled = prompt.format(context="C", question="Q")
    assert [message["content"] for message in filled] == ["Answer.", "C\nQ"]
    assert list(tmp_path.iterdir()) == [], "nothing is written to the current folder"


def test_a_new_index_shares_adapter_and_prompt(settings: Settings, make_release: Make) -> None:
    releases = [manifest.save(settings, make_release(b"two", index=name)) for name in ("a", "b")]
    one, two = (registry.register(settings, release) for release in releases)
    assert two.model_version == one.model_version + 1
    assert two.prompt_version == one.prompt_version
    mlflow = client(settings)
    sources = {
        mlflow.get_model_version("headwater", str(registered.model_version)).source
        for registered in (one, two)
    }
    assert len(sources) == 1
    back = registry.register(settings, releases[0])
    assert back.model_version == one.model_version
    assert registry.champion(settings) == releases[0].id, "a rollback moves the alias"


def test_a_new_prompt_is_a_new_version(settings: Settings, make_release: Make) -> None:
    release = make_release(b"three")
    old = registry.register(settings, release)
    changed = replace(release, prompt=replace(release.prompt, system="Answer briefly."))
    new = registry.register(settings, changed)
    assert new.prompt_version == old.prompt_version + 1
    assert registry.register(settings, release).prompt_version == old.prompt_version


def test_a_killed_registration_is_completed(
    settings: Settings, make_release: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    release = make_release(b"four")
    for method in ("log_dict", "log_artifacts", "create_model_version"):
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, method, killed)
            with pytest.raises(KeyboardInterrupt):
                registry.register(settings, release)
    registered = registry.register(settings, release)
    assert registered.created
    found = client(settings).search_runs(
        [client(settings).get_experiment_by_name(registry.EXPERIMENT).experiment_id],
        f"tags.`{registry.RELEASE_TAG}` = '{release.id}'",
    )
    assert [run.info.status for run in found] == ["FINISHED"]


def test_a_release_without_an_adapter(settings: Settings, make_release: Make) -> None:
    release = make_release(adapter=None)
    registered = registry.register(settings, release)
    version = client(settings).get_model_version("headwater", str(registered.model_version))
    assert (Path(version.source.removeprefix("file://")) / "manifest.json").is_file()
