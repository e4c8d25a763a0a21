"""Prompts in MLflow's registry: the versions, which of them is in force, and moving that.

In force is what the alias `candidate` names: the next release is made with it. The alias `champion`
is the last release's. Reads MLflow's SQLite tables itself, since a build that has nothing to do must
not wait two seconds for MLflow to load; whatever is written, MLflow writes.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.datasets.prompt_forms import from_messages, to_messages
from headwater.errors import HeadwaterError
from headwater.records import Prompt, digest_of
from headwater.settings import Settings, quiet_libraries

NAME = "headwater-prompt"
CANDIDATE, CHAMPION = "candidate", "champion"
#: Tags of a version. One that has none (it was written in MLflow's UI) has those of the one before.
SETTINGS = ("top_k", "max_context_tokens")
#: Tags in which MLflow keeps a version's template, and whether it is a chat.
_TEXT, _TYPE, _CHAT = "mlflow.prompt.text", "_mlflow_prompt_type", "chat"

_VERSIONS = """
SELECT versions.version, versions.creation_time, versions.description, tags.key, tags.value
FROM model_versions AS versions
JOIN model_version_tags AS tags ON tags.name = versions.name AND tags.version = versions.version
WHERE versions.name = ? AND versions.current_stage != 'Deleted_Internal'
ORDER BY versions.version
"""
_ALIASES = "SELECT version, alias FROM registered_model_aliases WHERE name = ? ORDER BY alias"
_TABLES = "SELECT count(*) FROM sqlite_master WHERE name IN ('model_versions', \
'model_version_tags', 'registered_model_aliases')"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVersion:
    """A version as the registry holds it, whether or not it makes a prompt."""

    number: int
    template: Any  # messages, or one text
    settings: Mapping[str, str]
    aliases: tuple[str, ...]
    note: str
    created: str  # ISO 8601, UTC

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"Prompt version {self.number}"

    def to_prompt(self) -> Prompt:
        """The prompt.

        Raises:
            HeadwaterError: the version breaks a rule, which the error names with the mend.
        """
        return from_messages(self.template, **self.settings, where=self.title)

    @property
    def digest(self) -> str:
        """The prompt's, or of what is there instead of one."""
        try:
            return self.to_prompt().digest
        except HeadwaterError:
            return digest_of(self.template, dict(self.settings))


def read_versions(settings: Settings) -> list[PromptVersion]:
    """Every version, oldest first; none where the registry has none, or is not there yet.

    Raises:
        HeadwaterError: the database is not one of the MLflow that Headwater is locked to.
    """
    database = settings.mlflow_database
    if not database.exists():
        return []
    try:
        # Not read-only: what a killed writer left half done is rolled back first.
        with closing(
            sqlite3.connect(
                f"{database.as_uri()}?mode=rw", uri=True, timeout=20, isolation_level=None
            )
        ) as connection:
            connection.execute("BEGIN")  # one state of the registry for all that is read
            (tables,) = connection.execute(_TABLES).fetchone()
            if tables < 3:  # MLflow is making them
                return []
            rows = connection.execute(_VERSIONS, (NAME,)).fetchall()
            aliases = connection.execute(_ALIASES, (NAME,)).fetchall()
    except sqlite3.DatabaseError as error:
        raise HeadwaterError(
            f"The prompts in {database} cannot be read: {error}.",
            mend=f"If it is of another MLflow, run `mlflow db upgrade {settings.mlflow_uri}`.",
        ) from error
    return _versions(rows, aliases)


def candidate(settings: Settings) -> PromptVersion | None:
    """The version in force, or None where none is yet."""
    return _named(read_versions(settings), CANDIDATE)


def digest_in_force(settings: Settings) -> str:
    """Names the content in force: another version with the same content has the same digest."""
    found = candidate(settings)
    return DEFAULT_PROMPT.digest if found is None else found.digest


def find(settings: Settings, which: str) -> PromptVersion:
    """The version of a number or an alias.

    Raises:
        HeadwaterError: there is none.
    """
    versions = read_versions(settings)
    for version in versions:
        if which == str(version.number) or which in version.aliases:
            return version
    if not versions:
        raise HeadwaterError(
            "The registry has no prompt yet.", mend="Run `headwater build`, which registers one."
        )
    known = ", ".join(str(version.number) for version in versions)
    raise HeadwaterError(f"There is no prompt version {which}.", mend=f"Choose one of {known}.")


def ensure_candidate(settings: Settings) -> PromptVersion:
    """The version in force; where none is, the default prompt is registered and put in force."""
    found = candidate(settings)
    if found is not None:
        return found
    registered, _ = register(settings, DEFAULT_PROMPT, note="Headwater's default")
    return put_in_force(settings, registered.number)


def register(settings: Settings, prompt: Prompt, *, note: str = "") -> tuple[PromptVersion, bool]:
    """The version with this content, and whether it is new; no alias is moved."""
    known = _with_digest(read_versions(settings), prompt.digest)
    if known is not None:
        return known, False
    registered = mlflow_client(settings).register_prompt(
        NAME,
        to_messages(prompt),
        commit_message=note or None,
        tags={name: str(getattr(prompt, name)) for name in SETTINGS},
    )
    return find(settings, str(registered.version)), True


def put_in_force(settings: Settings, number: int) -> PromptVersion:
    """Let the next build take this version.

    Raises:
        HeadwaterError: there is no such version, or it breaks a rule.
    """
    version = find(settings, str(number))
    version.to_prompt()
    if CANDIDATE not in version.aliases:
        mlflow_client(settings).set_prompt_alias(NAME, CANDIDATE, number)
    return find(settings, str(number))


def page(settings: Settings, number: int) -> str:
    """Address of a version's page in MLflow's UI."""
    return f"http://{settings.host}:{settings.mlflow_port}/#/prompts/{NAME}?promptVersion={number}"


def mlflow_client(settings: Settings) -> Any:
    """MLflow on this installation's database."""
    quiet_libraries()
    import mlflow

    settings.mlflow_database.parent.mkdir(parents=True, exist_ok=True)
    return mlflow.MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def _versions(
    rows: Sequence[tuple[int, int, str | None, str, str]], aliases: Sequence[tuple[int, str]]
) -> list[PromptVersion]:
    """Versions from rows of their tags, in order of number."""
    tags: dict[int, dict[str, str]] = {}
    about: dict[int, tuple[int, str | None]] = {}
    for number, created, note, key, value in rows:
        tags.setdefault(number, {})[key] = value
        about[number] = (created, note)
    found = []
    inherited = {name: str(getattr(DEFAULT_PROMPT, name)) for name in SETTINGS}
    for number, own in tags.items():
        inherited = {name: own.get(name, inherited[name]) for name in SETTINGS}
        created, note = about[number]
        found.append(
            PromptVersion(
                number=number,
                template=_template(own),
                settings=inherited,
                aliases=tuple(alias for version, alias in aliases if version == number),
                note=note or "",
                created=datetime.fromtimestamp(created / 1000, UTC).isoformat(timespec="seconds"),
            )
        )
    return found


def _template(tags: Mapping[str, str]) -> Any:
    text = tags.get(_TEXT, "")
    if tags.get(_TYPE) != _CHAT:
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # which is no chat, and is refused as such


def _named(versions: Sequence[PromptVersion], alias: str) -> PromptVersion | None:
    return next((version for version in versions if alias in version.aliases), None)


def _with_digest(versions: Sequence[PromptVersion], digest: str) -> PromptVersion | None:
    """The version with this content: the one in force before others, older before newer."""
    same = [version for version in versions if version.digest == digest]
    return _named(same, CANDIDATE) or (same[0] if same else None)
