"""`headwater alerts`: what somebody must look at. Parses and prints."""

from dataclasses import asdict
from typing import Annotated

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="What somebody must look at.", invoke_without_command=True)


@app.callback()
@reports_errors
def alerts(context: typer.Context, *, as_json: Json = False) -> None:
    """What somebody must look at; without a command, the list."""
    if context.invoked_subcommand is None:
        _alerts_list(only_open=False, as_json=as_json)


@app.command("list")
@reports_errors
def list_(
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
        print_json({"alerts": [asdict(alert) for alert in found]})


@app.command("show")
@reports_errors
def show(
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
        print_json(asdict(found))


@app.command("ack")
@reports_errors
def ack(
    alert: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    *,
    as_json: Json = False,
) -> None:
    """Say that you look after it. It stays open until its cause is gone."""
    from headwater.monitoring.alerts import open_inbox

    found = open_inbox(Settings()).acknowledge(alert)
    console.print(f"{found.id} is looked after by {plain(found.acknowledged)}")
    if as_json:
        print_json(asdict(found))


@app.command("resolve")
@reports_errors
def resolve(
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
        print_json(asdict(inbox.show(found.id)))


@app.command("deliver")
@reports_errors
def deliver(*, as_json: Json = False) -> None:
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
        print_json(asdict(done))
