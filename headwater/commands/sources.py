"""`headwater sources`: where documents come from. Parses and prints."""

from typing import Annotated, Any

import typer

from headwater.commands.common import Json, console, plain, print_json, reports_errors
from headwater.errors import HeadwaterError
from headwater.settings import Settings

app = typer.Typer(help="Where documents come from.", no_args_is_help=True)


@app.command("add")
@reports_errors
def add(
    location: Annotated[
        str,
        typer.Argument(help="A folder, table, mail archive, repository, package:NAME or URL."),
    ],
    *,
    name: Annotated[str | None, typer.Option(help="Name; default is made of the location.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of its documents.")] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(
            help="Tag of its documents, repeatable; `restricted` never becomes training data."
        ),
    ] = None,
    personal_data: Annotated[
        str | None,
        typer.Option(help="Personal data in its documents: redact (default), report or off."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            help="Glob over paths, repeatable (folder, git, store, site). Default: all documents."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="table, mail or sql, where the location does not tell."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Table: column of ids; default `id`.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Table: column of texts; default `text`.")
    ] = None,
    title_column: Annotated[str | None, typer.Option(help="Table: column of titles.")] = None,
    licence_column: Annotated[str | None, typer.Option(help="Table: column of licences.")] = None,
    access_column: Annotated[str | None, typer.Option(help="Table: column of access tags.")] = None,
    text_format: Annotated[
        str | None, typer.Option(help="Table: plain, markdown or html; default plain.")
    ] = None,
    table_format: Annotated[
        str | None, typer.Option("--format", help="Table: jsonl, csv, parquet or sqlite.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="SQLite, database: the table or view to read.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(help="Database: a SELECT, instead of a table.")
    ] = None,
    version_column: Annotated[
        str | None,
        typer.Option(help="Database: column that changes whenever a row does, such as updated_at."),
    ] = None,
    password_env: Annotated[
        str | None, typer.Option(help="Database: environment variable that holds the password.")
    ] = None,
    ref: Annotated[str | None, typer.Option(help="Git: branch or tag; default HEAD.")] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Git: environment variable that holds a token.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Store: NAME=VALUE for fsspec, repeatable, such as endpoint_url=URL."),
    ] = None,
    sitemap: Annotated[
        str | None, typer.Option(help="Site: URL of a sitemap; default: what robots.txt names.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Site: another host of it, repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Site: glob over paths left out, repeatable.")
    ] = None,
    allow_private: Annotated[
        list[str] | None,
        typer.Option(help="Site, Git: host that may have a private address, repeatable."),
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="Site: URL or address its servers are told.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a source. The next build reads it.

    A folder of documents: `sources add docs/`

    A package's documents: `sources add package:NAME`

    A table, a row a document (JSONL, CSV, Parquet): `sources add faq.jsonl --text-column body`

    A SQLite table: `sources add help.sqlite --table articles --id-column slug`

    A database, by SQLAlchemy's URL: `sources add postgresql://reader@host/help --table articles`

    A mail archive, mbox or Maildir: `sources add list.mbox --access internal`

    A Git repository: `sources add git+/srv/handbook --ref main --include "docs/*"`

    An object store: `sources add s3://bucket/handbook --option endpoint_url=http://127.0.0.1:8333`

    A web site, by its sitemap: `sources add https://docs.example.org/guide/ --contact URL`

    docs/sources.md has the entry of each in sources.yaml, the formats, and what is refused and why. URLs
    need HEADWATER_FETCHING=true.
    """
    from headwater.documents.sources import add_source, list_items

    settings = Settings()
    columns = {
        "id": id_column,
        "text": text_column,
        "title": title_column,
        "licence": licence_column,
        "access": access_column,
    }
    fields = {
        "kind": kind,
        "licence": licence,
        "access": access,
        "personal_data": personal_data,
        "include": include,
        "columns": {key: column for key, column in columns.items() if column} or None,
        "text_format": text_format,
        "format": table_format,
        "table": table,
        "query": query,
        "version": version_column,
        "password_env": password_env,
        "ref": ref,
        "token_env": token_env,
        "options": dict(map(_option, option)) if option else None,
        "sitemap": sitemap,
        "hosts": host,
        "exclude": exclude,
        "allow_private": allow_private,
        "contact": contact,
    }
    added = add_source(
        settings.sources_file,
        location,
        name=name,
        keep_default=settings.sources is None,
        fields={key: value for key, value in fields.items() if value is not None},
    )
    items = list_items(added)
    faults = sum(item.fault is not None for item in items)
    refused = f", {faults} of them for quarantine" if faults else ""
    console.print(f"Added {added.name}: {len(items)} documents{refused}. Now `headwater build`.")
    if as_json:
        print_json(
            {"name": added.name, "kind": added.kind, "documents": len(items), "faults": faults}
        )


@app.command("list")
@reports_errors
def list_(*, as_json: Json = False) -> None:
    """Every source with the number of its documents."""
    from headwater.documents.sources import list_items, load_sources, location_of

    rows: list[dict[str, Any]] = [
        {
            "name": source.name,
            "kind": source.kind,
            "location": location_of(source),
            "licence": source.licence,
            "access": list(source.access),
            "documents": len(list_items(source)),
        }
        for source in load_sources(Settings().sources_file)
    ]
    for row in rows:
        tags = f"  {' '.join(row['access'])}" if row["access"] else ""
        console.print(
            f"{row['name']}  {row['kind']}  {plain(str(row['location']))}  {row['documents']} documents{tags}"
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


@app.command("allow")
@reports_errors
def allow(name: str, *, as_json: Json = False) -> None:
    """Let the next build remove what a source has lost, where that is more than builds remove.

    Once, within a day, and down to what the source lists now. See `most_removed` in docs/sources.md.
    """
    from headwater.documents import removals
    from headwater.documents.sources import find_source, list_items
    from headwater.lake import Lake

    settings = Settings()
    source = find_source(settings.sources_file, name)
    documents = len(list_items(source))
    gone = removals.allow(Lake(settings.lake), source, documents)
    if gone is None:
        console.print(f"{source.name} has not lost more than builds remove; nothing to allow.")
    else:
        console.print(
            f"The next build may remove {gone:,} documents of {source.name}; {documents:,} stay."
            " Now `headwater build`."
        )
    if as_json:
        print_json({"name": source.name, "documents": documents, "removed": gone or 0})


def _option(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=VALUE`; the value as in YAML, so that `true` and `3` are none of text."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise HeadwaterError(f"{text!r} is no option.", mend="Write it as NAME=VALUE.")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise HeadwaterError(f"The value of {text!r} cannot be read.", mend="Quote it.") from error
