"""Against a real MLflow on SQLite: what is read without MLflow is what MLflow holds."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headwater.datasets import prompt_registry as registry
from headwater.datasets import prompt_store
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.datasets.prompt_forms import to_messages
from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.settings import Settings

SHOWN = replace(DEFAULT_PROMPT, examples=(("Who?", "Nobody."),), top_k=5)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the default prompt in force; its database takes seconds to make."""
    home = tmp_path_factory.mktemp("home")
    registry.ensure_candidate(Settings(home=home))
    return home


@pytest.fixture
def settings(fresh: Path, tmp_path: Path) -> Settings:
    shutil.copytree(fresh, tmp_path / "home")
    return Settings(home=tmp_path / "home")


@pytest.fixture
def by_hand(settings: Settings) -> Callable[..., Any]:
    """Registers as a person does in MLflow, and puts it in force."""
    client = registry.mlflow_client(settings)

    def write(template: Any, **options: Any) -> Any:
        made = client.register_prompt(registry.NAME, template, **options)
        client.set_prompt_alias(registry.NAME, registry.CANDIDATE, made.version)
        return made

    return write


def test_the_first_version_is_the_default(settings: Settings) -> None:
    found = registry.candidate(settings)
    assert found == registry.ensure_candidate(settings)
    assert (found.number, found.aliases) == (1, ("candidate",))
    assert found.to_prompt() == DEFAULT_PROMPT
    theirs = registry.mlflow_client(settings).load_prompt("prompts:/headwater-prompt@candidate")
    assert theirs.template == found.template == to_messages(DEFAULT_PROMPT)
    assert theirs.version == found.number


def test_before_there_is_a_registry_the_default_is_in_force(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert registry.read_versions(settings) == []
    assert registry.digest_in_force(settings) == DEFAULT_PROMPT.digest
    settings.mlflow_database.parent.mkdir()
    sqlite3.connect(settings.mlflow_database).close()  # as MLflow begins
    assert registry.digest_in_force(settings) == DEFAULT_PROMPT.digest
    with pytest.raises(HeadwaterError, match="no prompt yet"):
        registry.find(settings, "1")


def test_a_broken_database_is_an_error(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings.mlflow_database.parent.mkdir()
    settings.mlflow_database.write_bytes(b"no database" * 100)
    with pytest.raises(HeadwaterError, match="cannot be read"):
        registry.digest_in_force(settings)


def test_a_version_written_in_mlflow_is_in_force(
    settings: Settings, by_hand: Callable[..., Any]
) -> None:
    by_hand(to_messages(SHOWN), commit_message="with an example", tags={"top_k": "5"})
    found = registry.candidate(settings)
    assert (found.number, found.note) == (2, "with an example")
    assert found.to_prompt() == SHOWN
    assert registry.digest_in_force(settings) == SHOWN.digest
    assert registry.find(settings, "1").aliases == ()


def test_a_version_without_settings_has_those_of_the_one_before(
    settings: Settings, by_hand: Callable[..., Any]
) -> None:
    by_hand(to_messages(SHOWN), tags={"top_k": "5"})
    by_hand(to_messages(replace(SHOWN, system="Answer briefly.")))
    registry.register(settings, replace(SHOWN, system="Another.", top_k=9))
    assert registry.candidate(settings).to_prompt() == replace(SHOWN, system="Answer briefly.")


def test_the_same_text_is_not_registered_twice(settings: Settings) -> None:
    first, created = registry.register(settings, SHOWN, note="more passages")
    again, repeated = registry.register(settings, SHOWN)
    assert (created, repeated) == (True, False)
    assert first == again and first.note == "more passages"
    assert registry.candidate(settings).number == 1, "registering moves no alias"
    assert registry.put_in_force(settings, 2).aliases == ("candidate",)
    assert registry.digest_in_force(settings) == SHOWN.digest
    registry.put_in_force(settings, 1)
    assert registry.digest_in_force(settings) == DEFAULT_PROMPT.digest


def test_a_version_that_breaks_a_rule_is_named_and_not_put_in_force(
    settings: Settings, by_hand: Callable[..., Any]
) -> None:
    by_hand("Answer {{question}}")
    found = registry.candidate(settings)
    assert registry.digest_in_force(settings) == found.digest != DEFAULT_PROMPT.digest
    with pytest.raises(HeadwaterError, match="Prompt version 2 is no chat"):
        found.to_prompt()
    registry.put_in_force(settings, 1)
    with pytest.raises(HeadwaterError, match="Prompt version 2"):
        registry.put_in_force(settings, 2)
    assert registry.candidate(settings).number == 1


def test_a_deleted_version_is_gone(settings: Settings, by_hand: Callable[..., Any]) -> None:
    by_hand(to_messages(SHOWN))
    registry.mlflow_client(settings).delete_prompt_version(registry.NAME, "2")
    assert [version.number for version in registry.read_versions(settings)] == [1]
    assert registry.candidate(settings) is None
    assert registry.ensure_candidate(settings).number == 1


def test_looking_does_not_load_mlflow(settings: Settings) -> None:
    look = (
        "import sys\nfrom headwater.datasets.prompt_registry import *\n"
        "from headwater.settings import Settings\n"
        f"assert ensure_candidate(Settings(home={str(settings.home)!r})).number == 1\n"
        "assert 'mlflow' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_killed_writer_does_not_keep_us_from_reading(settings: Settings) -> None:
    """What it left half done is rolled back, which a read-only connection could not do."""
    write = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('BEGIN IMMEDIATE')\n"
        "database.execute(\"UPDATE model_version_tags SET value = 'torn' || hex(zeroblob(9000))\")\n"
        "database.execute('CREATE TABLE more AS SELECT hex(zeroblob(90000)) AS text')\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", write, str(settings.mlflow_database)], check=False)
    journal = settings.mlflow_database.with_name("mlflow.db-journal")
    assert journal.stat().st_size > 0, "the writer was killed in its transaction"
    assert registry.digest_in_force(settings) == DEFAULT_PROMPT.digest


def test_what_a_build_took_is_read_back(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(HeadwaterError, match="headwater build"):
        prompt_store.current_prompt(settings)
    for prompt in (DEFAULT_PROMPT, SHOWN):
        prompt_store.publish_prompt(settings, prompt)
        assert prompt_store.current_prompt(settings) == prompt
    assert prompt_store.load_prompt(settings, DEFAULT_PROMPT.digest) == DEFAULT_PROMPT
    file = settings.prompts / f"{SHOWN.digest}.json"
    write_json(file, {**read_json(file), "system": "Altered."})
    with pytest.raises(IntegrityError):
        prompt_store.current_prompt(settings)
