"""What every command shares: where it prints, and how it fails. Knows nothing of any stage."""

import functools
import json
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from headwater.errors import HeadwaterError

P = ParamSpec("P")
R = TypeVar("R")

#: For people; standard output is kept for what a script reads.
console = Console(stderr=True, highlight=False)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")]


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show a user's error as two lines, what and mend, and exit with 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except HeadwaterError as error:
            _fail(error, as_json=bool(kwargs.get("as_json")))

    return run


def orchestrator(name: str) -> Callable[..., Any]:
    """A command that needs Dagster, found by its entry point: see docs/adr/0006."""
    (found,) = entry_points(group="headwater.commands", name=name)
    return found.load()  # type: ignore[no-any-return]


def plain(text: str) -> str:
    """Text as it is: square brackets are not markup."""
    return text.replace("[", "\\[")


def print_json(value: Any) -> None:
    """Print one JSON object on a line of standard output."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def _fail(error: HeadwaterError, *, as_json: bool) -> NoReturn:
    console.print(f"[red]error:[/red] {plain(error.what)}\n  mend: {plain(error.mend)}")
    if as_json:
        print_json({"error": error.what, "mend": error.mend})
    raise typer.Exit(1)
