"""`headwater golden`: the questions that judge a release. Parses and prints."""

from typing import Annotated

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="The questions that judge a release.", no_args_is_help=True)


@app.command("add")
@reports_errors
def add(
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
        print_json({"id": item.id})


@app.command("review")
@reports_errors
def review(
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
        console.print(f"\n[bold]{plain(item.question)}[/bold]  [dim]{plain(item.uris[0])}[/dim]")
        console.print(plain(item.reference))
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
        print_json(counts)
