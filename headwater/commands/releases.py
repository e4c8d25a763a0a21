"""`headwater releases`: what has served, serves and could serve. Parses and prints."""

from dataclasses import asdict
from getpass import getuser
from typing import Annotated

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="What has served, serves and could serve.", no_args_is_help=True)


@app.command("list")
@reports_errors
def list_(*, as_json: Json = False) -> None:
    """Every release with its parts; the current one is marked."""
    from headwater.build_view import show_releases
    from headwater.release.catalog import list_releases

    rows = list_releases(Settings())
    show_releases(console, rows)
    if as_json:
        print_json({"releases": rows})


@app.command("show")
@reports_errors
def show(
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
        print_json(found)


@app.command("diff")
@reports_errors
def diff(
    before: Annotated[str, typer.Argument(help="An id, or its beginning.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    *,
    as_json: Json = False,
) -> None:
    """The parts in which two releases differ."""
    from headwater.release.catalog import diff

    found = diff(Settings(), before, after)
    for each in found:
        console.print(f"{each.part}\n  [red]- {plain(str(each.before))}[/red]")
        console.print(f"  [green]+ {plain(str(each.after))}[/green]")
    if not found:
        console.print("They are the same release.")
    if as_json:
        print_json({"differences": [asdict(each) for each in found]})


@app.command("promote")
@reports_errors
def promote(
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
        print_json({"release": promoted, "moved": moved})


@app.command("rollback")
@reports_errors
def rollback(
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
        print_json({"release": serves, "taken_back": taken_back})


@app.command("canary")
@reports_errors
def canary(
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
        print_json(asdict(found))


@app.command("shadow")
@reports_errors
def shadow(
    release: Annotated[str | None, typer.Argument(help="An id; none ends it.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Have a release answer as well, unseen; its answers are in the request log."""
    from headwater.release import traffic

    found = traffic.set_shadow(Settings(), release, actor=getuser())
    console.print(f"shadow: {(found.shadow or 'none')[:12]}")
    if as_json:
        print_json(asdict(found))


@app.command("stop")
@reports_errors
def stop(
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
        print_json({"stopped": canary if stopped else None})


@app.command("traffic")
@reports_errors
def traffic(*, as_json: Json = False) -> None:
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
        print_json(found)


def _follow(settings: Settings, release: str) -> None:
    """Wait until a running endpoint serves the release."""
    from headwater.serving.client import find_endpoint, wait_for_release
    from headwater.serving.credentials import operator_key

    running = find_endpoint(settings)
    if running is not None:
        wait_for_release(running.url, release, key=operator_key(settings, running.url))
