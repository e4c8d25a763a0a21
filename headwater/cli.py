"""The command line. Parses and prints; what a command does is in the stage it belongs to.

`--json` prints one object on the last line of standard output; everything else a person reads
while waiting goes to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate
blocked the release.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headwater.commands import (
    alerts,
    data,
    drift,
    golden,
    keys,
    metrics,
    prompts,
    releases,
    search,
    sources,
    traces,
)
from headwater.commands.common import Json, console, orchestrator, plain, print_json, reports_errors
from headwater.settings import Settings, quiet_libraries

BLOCKED = 3

app = typer.Typer(
    help="Raw documents in, an endpoint that answers questions about them out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for name, group in {
    "sources": sources,
    "data": data,
    "golden": golden,
    "prompts": prompts,
    "releases": releases,
    "traces": traces,
    "drift": drift,
    "alerts": alerts,
    "keys": keys,
}.items():
    app.add_typer(group.app, name=name)
app.command("metrics")(metrics.metrics)
app.command("search")(search.search)


@app.callback()
def _setup(
    verbose: Annotated[bool, typer.Option(help="Show the libraries' logs too.")] = False,
) -> None:
    quiet_libraries()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("    %(message)s"))
    log = logging.getLogger("headwater")
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    if not verbose:
        warnings.simplefilter("ignore")
        # Also of the helper process that multiprocessing starts, which says what `_leave` left.
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        logging.getLogger().setLevel(logging.ERROR)


def _leave(code: int) -> NoReturn:
    """End at once: DuckDB's bindings print a page of leaked types when an interpreter shuts down.

    Everything that must be durable was synced when it was written.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@app.command()
@reports_errors
def build(
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what is stale and why; change nothing.")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="Retrain, even where the adapter could serve on.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring everything up to date: what is stale, in order, with progress.

    Does work in proportion to what changed. A changed document goes through to a new release
    with the same adapter; training waits for a decision (`--train`, or drift) unless there is no
    adapter yet. A gate that blocks the release ends with exit code 3.
    """
    from headwater.build_view import BuildView

    settings = Settings()
    view = BuildView(console)
    if plan:
        found = orchestrator("plan")(settings, train=train)
        view.plan(found)
        if as_json:
            print_json(found)
        return
    result = orchestrator("build")(settings, train=train, on_event=view)
    view.summary(result)
    if as_json:
        print_json(result)
    _leave(BLOCKED if result["blocked"] else 0 if result["success"] else 1)


@app.command()
@reports_errors
def ask(
    questions: Annotated[list[str], typer.Argument(help="One question, or several.")],
    *,
    as_json: Json = False,
) -> None:
    """Ask the current release; answers carry their citations.

    Asks the running endpoint, or answers in this process where none runs.
    """
    from headwater.serving.client import ask as ask_endpoint
    from headwater.serving.connect import connect
    from headwater.serving.credentials import client_key

    settings = Settings()
    with connect(settings) as (url, _):
        key = client_key(settings, url)
        for question in questions:
            reply = ask_endpoint(url, question, key=key)
            console.print(f"\n[bold]{plain(question)}[/bold]")
            console.print(plain(reply["answer"]))
            for number, citation in enumerate(reply["citations"], start=1):
                place = f"{citation['uri']} bytes {citation['start']}-{citation['end']}"
                console.print(
                    f"  ({number}) {plain(citation['heading'])}  [dim]{plain(place)}[/dim]",
                    soft_wrap=True,
                )
            if as_json:
                print_json(reply)


@app.command()
@reports_errors
def serve(
    *,
    port: Annotated[int | None, typer.Option(help="Port; default is HEADWATER_PORT.")] = None,
) -> None:
    """Serve the current release in the foreground, OpenAI-compatible.

    Follows the release pointer: a new release is loaded beside the old one and takes over
    without a dropped request. Ctrl-C ends it.
    """
    from headwater.serving.server import run_server

    settings = Settings()
    run_server(settings, port if port is not None else settings.port)


@app.command()
@reports_errors
def status(*, as_json: Json = False) -> None:
    """The release that serves, how it was judged, and whether the endpoint is well."""
    from headwater.build_view import show_status
    from headwater.serving.status import status as read_status

    found = read_status(Settings())
    show_status(console, found)
    if as_json:
        print_json(found)


@app.command()
@reports_errors
def dev() -> None:
    """Run the Dagster UI and daemon, the endpoint and MLflow's UI until Ctrl-C."""
    from headwater.supervisor import supervise

    raise typer.Exit(supervise(Settings(), Path(__file__).parents[1]))


def main() -> None:
    """Run the command line; `python -m headwater.cli` is the same as `headwater`."""
    app(prog_name="headwater")


if __name__ == "__main__":
    main()
