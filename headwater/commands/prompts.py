"""`headwater prompts`: the versions in the registry, which is in force, and making a new one."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.errors import HeadwaterError
from headwater.settings import Settings

app = typer.Typer(help="What the model is told: versions, examples.", no_args_is_help=True)
Version = Annotated[str, typer.Argument(help="A number, `candidate` or `champion`.")]
Note = Annotated[str, typer.Option("--note", "-m", help="What changed and why, for the registry.")]


@app.command("list")
@reports_errors
def list_(*, as_json: Json = False) -> None:
    """Every version; `candidate` is in force, `champion` is the last release's."""
    from headwater.datasets.prompt_registry import read_versions

    rows = [_row(version) for version in read_versions(Settings())]
    if rows:
        table = Table()
        for column in ("version", "aliases", "created", "examples", "top_k", "digest", "note"):
            table.add_column(column)
        for row in rows:
            wrong = f"[red]{escape(row['error'])}[/red]" if row["error"] else escape(row["note"])
            cells = [row["version"], ", ".join(row["aliases"]), row["created"], row["examples"]]
            table.add_row(*(str(cell) for cell in [*cells, row["top_k"], row["digest"][:8]]), wrong)
        console.print(table)
    else:
        console.print("The registry has no prompt yet. Run `headwater build`.")
    if as_json:
        print_json({"prompts": rows})


@app.command("show")
@reports_errors
def show(version: Version = "candidate", *, as_json: Json = False) -> None:
    """One version, as the YAML that `add` takes."""
    from headwater.datasets import prompt_registry
    from headwater.datasets.prompt_forms import to_messages, to_yaml

    settings = Settings()
    found = prompt_registry.find(settings, version)
    prompt = found.to_prompt()
    aliases = f" ({', '.join(found.aliases)})" if found.aliases else ""
    console.print(f"[bold]version {found.number}[/bold]{aliases}  {plain(found.note)}")
    console.print(f"[dim]{prompt_registry.page(settings, found.number)}[/dim]", soft_wrap=True)
    if as_json:
        print_json(
            {
                **_row(found),
                "messages": to_messages(prompt),
                "max_context_tokens": prompt.max_context_tokens,
            }
        )
    else:
        print(to_yaml(prompt), end="")


@app.command("edit")
@reports_errors
def edit(version: Version = "candidate", *, note: Note = "", as_json: Json = False) -> None:
    """Open a version in $EDITOR; what you save is a new version, and in force.

    The next build evaluates it and makes a release candidate with it.
    """
    from headwater.datasets import prompt_registry
    from headwater.datasets.prompt_forms import to_yaml

    settings = Settings()
    prompt_registry.ensure_candidate(settings)
    before = prompt_registry.find(settings, version)
    text = to_yaml(before.to_prompt())
    file = _edited(text)
    edited = file.read_text("utf-8")
    if edited.strip() == text.strip():
        file.unlink()
        console.print(f"Nothing was changed; version {before.number} stays as it is.")
        if as_json:
            print_json({"version": before.number, "created": False, "changed": False})
        return
    try:
        _add(settings, edited, "The edited prompt", note, as_json=as_json)
    except HeadwaterError as error:
        raise HeadwaterError(
            error.what,
            mend=f"{error.mend} Your text is kept: correct it, and `headwater prompts add {file}`.",
        ) from error
    file.unlink()


@app.command("add")
@reports_errors
def add(
    file: Annotated[Path, typer.Argument(help="YAML, as `headwater prompts show` prints it.")],
    *,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Register a file as a new version, and put it in force."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwaterError(
            f"{file} cannot be read: {error}.", mend="Name a YAML file."
        ) from error
    _add(Settings(), text, str(file), note, as_json=as_json)


@app.command("use")
@reports_errors
def use(
    version: Annotated[str, typer.Argument(help="A number, or `champion`.")],
    *,
    as_json: Json = False,
) -> None:
    """Put a version in force. The next build makes a release candidate with it."""
    from headwater.datasets import prompt_registry

    settings = Settings()
    found = prompt_registry.find(settings, version)
    moved = prompt_registry.CANDIDATE not in found.aliases
    found = prompt_registry.put_in_force(settings, found.number)
    console.print(
        f"Version {found.number} is in force. Now `headwater build`."
        if moved
        else f"Version {found.number} was in force already."
    )
    if as_json:
        print_json({"version": found.number, "moved": moved})


def _add(settings: Settings, text: str, where: str, note: str, *, as_json: bool) -> None:
    from headwater.datasets import prompt_registry
    from headwater.datasets.prompt_forms import from_yaml

    found, created = prompt_registry.register(settings, from_yaml(text, where), note=note)
    prompt_registry.put_in_force(settings, found.number)
    what = "is new" if created else "has this text already"
    console.print(f"Version {found.number} {what}, and is in force. Now `headwater build`.")
    if as_json:
        print_json({"version": found.number, "created": created, "changed": True})


def _edited(text: str) -> Path:
    """A file with a text, after the user's editor has closed it."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    descriptor, name = tempfile.mkstemp(prefix="headwater-prompt-", suffix=".yaml")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        done = subprocess.run([*shlex.split(editor), name], check=False)
    except OSError as error:
        raise HeadwaterError(
            f"The editor {editor!r} does not start: {error.strerror}.",
            mend="Set EDITOR to one that is installed.",
        ) from error
    if done.returncode:
        raise HeadwaterError(
            f"The editor {editor!r} ended with {done.returncode}, so nothing was registered.",
            mend=f"What it wrote is in {name}; `headwater prompts add` takes it.",
        )
    return Path(name)


def _row(version: Any) -> dict[str, Any]:
    """A version as plain JSON; `error` says why it makes no prompt."""
    row = {
        "version": version.number,
        "aliases": list(version.aliases),
        "created": version.created,
        "note": version.note,
        "digest": version.digest,
        "top_k": version.settings["top_k"],
        "examples": 0,
        "error": "",
    }
    try:
        prompt = version.to_prompt()
    except HeadwaterError as error:
        return {**row, "error": str(error)}
    return {**row, "top_k": prompt.top_k, "examples": len(prompt.examples)}
