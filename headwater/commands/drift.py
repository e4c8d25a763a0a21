"""`headwater drift`: whether production is still asked what it was asked. Parses and prints."""

import typer

from headwater.commands.common import Json, console, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="Whether production is still asked what it was asked.")


@app.callback(invoke_without_command=True)
@reports_errors
def drift(context: typer.Context, *, as_json: Json = False) -> None:
    """The evidence for drift by panel, and what was decided about it."""
    if context.invoked_subcommand is None:
        _show_drift(as_json=as_json)


@app.command("status")
@reports_errors
def status(*, as_json: Json = False) -> None:
    """The same as `headwater drift`."""
    _show_drift(as_json=as_json)


def _show_drift(*, as_json: bool) -> None:
    from headwater.build_view import show_drift
    from headwater.monitoring.status import drift_status as read_drift

    found = read_drift(Settings())
    show_drift(console, found)
    if as_json:
        print_json(found)
