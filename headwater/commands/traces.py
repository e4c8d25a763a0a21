"""`headwater traces`: what was asked, and what answered it. Parses and prints."""

from typing import Annotated

import typer

from headwater.commands.common import Json, console, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="What was asked, and what answered it.", no_args_is_help=True)


@app.command("tail")
@reports_errors
def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """The latest requests: when, which release, how long, and how they began."""
    from headwater.build_view import show_traces
    from headwater.monitoring.traces import latest

    found = latest(Settings(), lines)
    show_traces(console, found)
    if as_json:
        print_json({"traces": found})


@app.command("show")
@reports_errors
def show(
    trace: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    as_json: Json = False,
) -> None:
    """One request with everything that answered it."""
    from headwater.build_view import show_trace
    from headwater.monitoring.traces import find

    found = find(Settings(), trace)
    show_trace(console, found)
    if as_json:
        print_json(found)
