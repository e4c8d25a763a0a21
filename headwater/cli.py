"""The command line. Parses and prints; what a command does is in the stage it belongs to.

`--json` prints one object on the last line of standard output; everything else a person reads
while waiting goes to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate
blocked the release.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from getpass import getuser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from headwater.commands import keys, prompts
from headwater.commands.common import Json, console
from headwater.commands.common import plain as _plain
from headwater.commands.common import print_json as _print_json
from headwater.commands.common import reports_errors as _reports_errors
from headwater.settings import Settings, quiet_libraries

BLOCKED = 3

app = typer.Typer(
    help="Raw documents in, an endpoint that answers questions about them out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
sources_app = typer.Typer(help="Where documents come from.", no_args_is_help=True)
releases_app = typer.Typer(help="What has served, serves and could serve.", no_args_is_help=True)
golden_app = typer.Typer(help="The questions that judge a release.", no_args_is_help=True)
alerts_app = typer.Typer(help="What somebody must look at.", invoke_without_command=True)
app.add_typer(sources_app, name="sources")
app.add_typer(golden_app, name="golden")
app.add_typer(releases_app, name="releases")
app.add_typer(alerts_app, name="alerts")
app.add_typer(prompts.app, name="prompts")
drift_app = typer.Typer(help="Whether production is still asked what it was asked.")
app.add_typer(drift_app, name="drift")
traces_app = typer.Typer(help="What was asked, and what answered it.", no_args_is_help=True)
app.add_typer(traces_app, name="traces")
app.add_typer(keys.app, name="keys")


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


def _orchestrator(name: str) -> Callable[..., dict[str, Any]]:
    """A command that needs Dagster, found by its entry point: see docs/adr/0006."""
    (found,) = entry_points(group="headwater.commands", name=name)
    return found.load()


@app.command()
@_reports_errors
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
        found = _orchestrator("plan")(settings, train=train)
        view.plan(found)
        if as_json:
            _print_json(found)
        return
    result = _orchestrator("build")(settings, train=train, on_event=view)
    view.summary(result)
    if as_json:
        _print_json(result)
    _leave(BLOCKED if result["blocked"] else 0 if result["success"] else 1)


@app.command()
@_reports_errors
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
            console.print(f"\n[bold]{_plain(question)}[/bold]")
            console.print(_plain(reply["answer"]))
            for number, citation in enumerate(reply["citations"], start=1):
                place = f"{citation['uri']} bytes {citation['start']}-{citation['end']}"
                console.print(
                    f"  ({number}) {_plain(citation['heading'])}  [dim]{_plain(place)}[/dim]",
                    soft_wrap=True,
                )
            if as_json:
                _print_json(reply)


@app.command()
@_reports_errors
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
@_reports_errors
def status(*, as_json: Json = False) -> None:
    """The release that serves, how it was judged, and whether the endpoint is well."""
    from headwater.build_view import show_status
    from headwater.serving.status import status as read_status

    found = read_status(Settings())
    show_status(console, found)
    if as_json:
        _print_json(found)


@app.command()
@_reports_errors
def dev() -> None:
    """Run the Dagster UI and daemon, the endpoint and MLflow's UI until Ctrl-C."""
    from headwater.supervisor import supervise

    raise typer.Exit(supervise(Settings(), Path(__file__).parents[1]))


@sources_app.command("add")
@_reports_errors
def sources_add(
    location: Annotated[str, typer.Argument(help="A folder of documents.")],
    *,
    name: Annotated[str | None, typer.Option(help="Name; default is the folder's.")] = None,
    as_json: Json = False,
) -> None:
    """Add a source. The next build reads it."""
    from headwater.documents.sources import add_source, list_items

    settings = Settings()
    added = add_source(
        settings.sources_file, location, name=name, keep_default=settings.sources is None
    )
    documents = len(list_items(added))
    console.print(f"Added {added.name}: {documents} documents. Now `headwater build`.")
    if as_json:
        _print_json({"name": added.name, "kind": added.kind, "documents": documents})


@sources_app.command("list")
@_reports_errors
def sources_list(*, as_json: Json = False) -> None:
    """Every source with the number of its documents."""
    from headwater.documents.sources import list_items, load_sources

    rows = [
        {
            "name": source.name,
            "kind": source.kind,
            "location": str(source.path) if source.kind == "folder" else source.package,
            "documents": len(list_items(source)),
        }
        for source in load_sources(Settings().sources_file)
    ]
    for row in rows:
        console.print(
            f"{row['name']}  {row['kind']}  {_plain(str(row['location']))}  {row['documents']} documents"
        )
    if as_json:
        _print_json({"sources": rows})


@sources_app.command("remove")
@_reports_errors
def sources_remove(name: str, *, as_json: Json = False) -> None:
    """Remove a source. The next build drops its documents, all the way to the index."""
    from headwater.documents.sources import remove_source

    remove_source(Settings().sources_file, name)
    console.print(f"Removed {name}. Now `headwater build`.")
    if as_json:
        _print_json({"removed": name})


@releases_app.command("list")
@_reports_errors
def releases_list(*, as_json: Json = False) -> None:
    """Every release with its parts; the current one is marked."""
    from headwater.build_view import show_releases
    from headwater.release.catalog import list_releases

    rows = list_releases(Settings())
    show_releases(console, rows)
    if as_json:
        _print_json({"releases": rows})


@releases_app.command("show")
@_reports_errors
def releases_show(
    release: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    as_json: Json = False,
) -> None:
    """One release: its parts, gates and moves."""
    from headwater.build_view import show_release
    from headwater.release.catalog import show

    found = show(Settings(), release)
    show_release(console, found)
    if as_json:
        _print_json(found)


@releases_app.command("diff")
@_reports_errors
def releases_diff(
    before: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    *,
    as_json: Json = False,
) -> None:
    """The parts in which two releases differ."""
    from headwater.release.catalog import diff

    found = diff(Settings(), before, after)
    for each in found:
        console.print(f"{each.part}\n  [red]- {_plain(str(each.before))}[/red]")
        console.print(f"  [green]+ {_plain(str(each.after))}[/green]")
    if not found:
        console.print("They are the same release.")
    if as_json:
        _print_json({"differences": [asdict(each) for each in found]})


@releases_app.command("promote")
@_reports_errors
def releases_promote(
    release: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    expected: Annotated[
        str | None, typer.Option(help="Move only if this release is current.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Json = False,
) -> None:
    """Put a release into production; a running endpoint follows within a second."""
    from headwater.release.catalog import promote

    settings = Settings()
    promoted, moved = promote(settings, release, expected=expected, reason=reason)
    _follow(settings, promoted)
    console.print(f"release [bold]{promoted[:12]}[/bold] {'serves' if moved else 'served already'}")
    if as_json:
        _print_json({"release": promoted, "moved": moved})


@releases_app.command("rollback")
@_reports_errors
def releases_rollback(
    *,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Json = False,
) -> None:
    """Go back to the release that served before the current one."""
    from headwater.release.catalog import rollback

    settings = Settings()
    serves, taken_back = rollback(settings, reason=reason)
    _follow(settings, serves)
    console.print(
        f"release [bold]{serves[:12]}[/bold] serves again; {taken_back[:12]} is taken back"
    )
    if as_json:
        _print_json({"release": serves, "taken_back": taken_back})


@releases_app.command("canary")
@_reports_errors
def releases_canary(
    release: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    weight: Annotated[float, typer.Option(help="Share of users, 0 to 1.")] = 0.05,
    judge: Annotated[
        bool, typer.Option(help="Let the endpoint promote it or take it back; else an A/B test.")
    ] = True,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Json = False,
) -> None:
    """Give a release a share of the users; each user stays with one release."""
    from headwater.release import traffic

    settings = Settings()
    found = traffic.start_canary(
        settings, release, weight, judged=judge, actor=getuser(), reason=reason
    )
    console.print(f"release [bold]{str(found.canary)[:12]}[/bold] answers {weight:.0%} of users")
    if as_json:
        _print_json(asdict(found))


@releases_app.command("shadow")
@_reports_errors
def releases_shadow(
    release: Annotated[str | None, typer.Argument(help="An id; none ends it.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Have a release answer as well, unseen; its answers are in the request log."""
    from headwater.release import traffic

    found = traffic.set_shadow(Settings(), release, actor=getuser())
    console.print(f"shadow: {(found.shadow or 'none')[:12]}")
    if as_json:
        _print_json(asdict(found))


@releases_app.command("stop")
@_reports_errors
def releases_stop(
    *,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Json = False,
) -> None:
    """End the canary or A/B test; the champion answers everybody again."""
    from headwater.release import traffic

    settings = Settings()
    canary = traffic.read(settings).canary
    stopped = canary is not None and traffic.end_canary(
        settings, canary, "stopped", actor=getuser(), reason=reason
    )
    console.print(f"stopped {str(canary)[:12]}" if stopped else "No canary runs.")
    if as_json:
        _print_json({"stopped": canary if stopped else None})


@releases_app.command("traffic")
@_reports_errors
def releases_traffic(*, as_json: Json = False) -> None:
    """Who answers whom now, what the canary shows, and what was changed when and why."""
    from headwater.build_view import show_traffic
    from headwater.release import traffic
    from headwater.serving.client import canary_judgement, find_endpoint
    from headwater.serving.credentials import operator_key

    settings = Settings()
    running = find_endpoint(settings)
    found = {
        **asdict(traffic.read(settings)),
        "judgement": running
        and canary_judgement(running.url, key=operator_key(settings, running.url)),
        "events": traffic.events(settings),
    }
    show_traffic(console, found)
    if as_json:
        _print_json(found)


def _follow(settings: Settings, release: str) -> None:
    """Wait until a running endpoint serves the release."""
    from headwater.serving.client import find_endpoint, wait_for_release
    from headwater.serving.credentials import operator_key

    running = find_endpoint(settings)
    if running is not None:
        wait_for_release(running.url, release, key=operator_key(settings, running.url))


@alerts_app.callback()
@_reports_errors
def alerts(context: typer.Context, *, as_json: Json = False) -> None:
    """What somebody must look at; without a command, the list."""
    if context.invoked_subcommand is None:
        _alerts_list(only_open=False, as_json=as_json)


@alerts_app.command("list")
@_reports_errors
def alerts_list(
    *,
    only_open: Annotated[bool, typer.Option("--open", help="Leave out what is resolved.")] = False,
    as_json: Json = False,
) -> None:
    """Every alert, newest first."""
    _alerts_list(only_open=only_open, as_json=as_json)


def _alerts_list(*, only_open: bool, as_json: bool) -> None:
    from headwater.build_view import show_alerts
    from headwater.monitoring.alerts import open_inbox
    from headwater.monitoring.alerts_page import write_page

    settings = Settings()
    everything = open_inbox(settings).list()
    found = [alert for alert in everything if not only_open or alert.state == "open"]
    show_alerts(console, found)
    console.print(f"page: {write_page(settings, everything)}", soft_wrap=True)
    if as_json:
        _print_json({"alerts": [asdict(alert) for alert in found]})


@alerts_app.command("show")
@_reports_errors
def alerts_show(
    alert: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    as_json: Json = False,
) -> None:
    """One alert: what changed, examples, where to look and what to do."""
    from headwater.build_view import show_alert
    from headwater.monitoring.alerts import open_inbox

    found = open_inbox(Settings()).show(alert)
    show_alert(console, found)
    if as_json:
        _print_json(asdict(found))


@alerts_app.command("ack")
@_reports_errors
def alerts_ack(
    alert: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    as_json: Json = False,
) -> None:
    """Say that you look after it. It stays open until its cause is gone."""
    from headwater.monitoring.alerts import open_inbox

    found = open_inbox(Settings()).acknowledge(alert)
    console.print(f"{found.id} is looked after by {_plain(found.acknowledged)}")
    if as_json:
        _print_json(asdict(found))


@alerts_app.command("resolve")
@_reports_errors
def alerts_resolve(
    alert: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    as_json: Json = False,
) -> None:
    """Close it by hand, where no later success can: the job or asset is gone."""
    from headwater.monitoring.alerts import open_inbox

    inbox = open_inbox(Settings())
    found = inbox.show(alert)
    inbox.well(found.kind, found.subject, cause=found.cause)
    console.print(f"{found.id} is resolved")
    if as_json:
        _print_json(asdict(inbox.show(found.id)))


@alerts_app.command("deliver")
@_reports_errors
def alerts_deliver(*, as_json: Json = False) -> None:
    """Send what waits to the receivers of HEADWATER_ALERT_URLS, as the sensor does."""
    from headwater.monitoring.alerts import open_inbox
    from headwater.monitoring.outbox import deliver
    from headwater.monitoring.receivers import receivers

    settings = Settings()
    told = receivers(settings)
    done = deliver(open_inbox(settings), told)
    if not told:
        console.print("No receiver is configured (HEADWATER_ALERT_URLS); the inbox holds them.")
    elif done.busy:
        console.print("The sensor is delivering at this moment.")
    else:
        waiting = ", ".join(f"{count} wait for {name}" for name, count in done.waiting.items())
        console.print(f"{done.sent} sent" + (f"; {waiting}" if waiting else ""))
    if as_json:
        _print_json(asdict(done))


@traces_app.command("tail")
@_reports_errors
def traces_tail(
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
        _print_json({"traces": found})


@traces_app.command("show")
@_reports_errors
def traces_show(
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
        _print_json(found)


@golden_app.command("add")
@_reports_errors
def golden_add(
    question: Annotated[str, typer.Option(prompt=True)],
    reference: Annotated[str, typer.Option(prompt=True, help="The right answer.")],
    uri: Annotated[str, typer.Option(prompt=True, help="URI of the document that holds it.")],
    *,
    as_json: Json = False,
) -> None:
    """Add a question of your own; it judges every later release."""
    from headwater.datasets.golden import add, document_sources
    from headwater.lake import Lake

    settings = Settings()
    known = document_sources(Lake(settings.lake))
    item = add(settings.golden_file, question, reference, uri, known=known)
    console.print(f"Added {item.id}. Now `headwater build`.")
    if as_json:
        _print_json({"id": item.id})


@golden_app.command("review")
@_reports_errors
def golden_review(
    *,
    accept_all: Annotated[bool, typer.Option("--accept-all", help="Accept all that wait.")] = False,
    as_json: Json = False,
) -> None:
    """Go through the provisional questions: accept, edit or reject each."""
    from headwater.datasets.golden import accept, pending, reject
    from headwater.lake import Lake

    settings = Settings()
    waiting = pending(Lake(settings.lake))
    counts = {"waiting": len(waiting), "accepted": 0, "rejected": 0}
    if not waiting:
        console.print("No provisional question waits for review.")
    for item in waiting:
        console.print(f"\n[bold]{_plain(item.question)}[/bold]  [dim]{_plain(item.uris[0])}[/dim]")
        console.print(_plain(item.reference))
        choice = (
            "a" if accept_all else typer.prompt("[a]ccept, [r]eject, [s]kip, [q]uit", "s", err=True)
        )
        if choice == "a":
            accept(settings.golden_file, item)
            counts["accepted"] += 1
        elif choice == "r":
            reject(settings.golden_file, item.id)
            counts["rejected"] += 1
        elif choice == "q":
            break
    if as_json:
        _print_json(counts)


@drift_app.callback(invoke_without_command=True)
@_reports_errors
def drift(context: typer.Context, *, as_json: Json = False) -> None:
    """The evidence for drift by panel, and what was decided about it."""
    if context.invoked_subcommand is None:
        _show_drift(as_json=as_json)


@drift_app.command("status")
@_reports_errors
def drift_status(*, as_json: Json = False) -> None:
    """The same as `headwater drift`."""
    _show_drift(as_json=as_json)


def _show_drift(*, as_json: bool) -> None:
    from headwater.build_view import show_drift
    from headwater.monitoring.status import drift_status as read_drift

    found = read_drift(Settings())
    show_drift(console, found)
    if as_json:
        _print_json(found)


def main() -> None:
    """Run the command line; `python -m headwater.cli` is the same as `headwater`."""
    app(prog_name="headwater")


if __name__ == "__main__":
    main()
