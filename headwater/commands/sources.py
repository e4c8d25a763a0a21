"""`headwater sources`: where documents come from. Parses and prints."""

from typing import Annotated

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.settings import Settings

app = typer.Typer(help="Where documents come from.", no_args_is_help=True)


@app.command("add")
@reports_errors
def add(
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
        print_json({"name": added.name, "kind": added.kind, "documents": documents})


@app.command("list")
@reports_errors
def list_(*, as_json: Json = False) -> None:
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
            f"{row['name']}  {row['kind']}  {plain(str(row['location']))}  {row['documents']} documents"
        )
    if as_json:
        print_json({"sources": rows})


@app.command("remove")
@reports_errors
def remove(name: str, *, as_json: Json = False) -> None:
    """Remove a source. The next build drops its documents, all the way to the index."""
    from headwater.documents.sources import remove_source

    remove_source(Settings().sources_file, name)
    console.print(f"Removed {name}. Now `headwater build`.")
    if as_json:
        print_json({"removed": name})
