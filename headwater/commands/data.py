"""`headwater data`: the versions of the tables, and going back to one. Parses and prints."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from headwater.commands.common import (
    Json,
    console,
    orchestrator,
    plain,
    print_json,
    reports_errors,
)
from headwater.errors import HeadwaterError
from headwater.settings import Settings

app = typer.Typer(help="Versions of the tables, and going back to one.", no_args_is_help=True)
#: Longer values are cut on a screen; --json has them whole.
_CELL = 80


@app.command("log")
@reports_errors
def log(
    tables: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="Versions of each table.")] = 20,
    as_json: Json = False,
) -> None:
    """The versions of each table, newest first: when, what, by which run."""
    from headwater import versions

    lake = _lake()
    found = {
        name: [versions.as_row(commit) for commit in lake.history(name, limit)]
        for name in versions.existing(lake, tables or ())
    }
    holds = lake.holds()
    for name, rows in found.items():
        held = f"  [yellow]held at {holds[name]['version']}[/yellow]" if name in holds else ""
        console.print(f"\n[bold]{name}[/bold]{held}")
        for row in rows:
            run = row["run"][:8] or "-"
            console.print(
                f"  {row['version']:>4}  {row['time'][:19]}  {run:<8}  "
                f"{row['operation']}  [dim]{plain(row['words'])}[/dim]"
            )
    if as_json:
        print_json(found)


@app.command("diff")
@reports_errors
def diff(
    table: str,
    *,
    before: Annotated[str, typer.Option("--from", help="A version or a time.")],
    after: Annotated[str | None, typer.Option("--to", help="Default: the newest.")] = None,
    limit: Annotated[int, typer.Option(help="Rows of each kind that are shown.")] = 20,
    as_json: Json = False,
) -> None:
    """Rows that were added, removed or changed between two versions, by key and digest."""
    from headwater import versions

    lake = _lake()
    last = after if after is not None else str(lake.version(table))
    found = versions.diff(
        lake, table, versions.find(lake, table, before), versions.find(lake, table, last)
    )
    console.print(f"{table}: version {found.before} to {found.after}")
    for sign, colour, rows in (
        ("+", "green", found.added),
        ("-", "red", found.removed),
        ("~", "yellow", found.changed),
    ):
        for row in rows[:limit]:
            digests = " → ".join(row[name][:12] for name in ("before", "after") if name in row)
            console.print(
                f"  [{colour}]{sign}[/{colour}] {plain(row['key'])}  [dim]{plain(digests)}[/dim]",
                soft_wrap=True,
            )
    console.print(
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed,"
        f" in {len(found.partitions)} partitions"
    )
    if as_json:
        print_json(asdict(found))


@app.command("show")
@reports_errors
def show(
    table: str,
    *,
    as_of: Annotated[str, typer.Option("--as-of", help="A version or a time.")],
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE; may be given more than once.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Rows of a table as they were."""
    from headwater import versions

    lake = _lake()
    version = versions.find(lake, table, as_of)
    rows = versions.show(lake, table, version, _conditions(where or []), limit)
    for row in rows:
        console.print()
        for name, value in row.items():
            text = _text(value)
            cut = text if len(text) <= _CELL else text[: _CELL - 1] + "…"
            console.print(f"  {name:<13} {plain(cut)}", soft_wrap=True)
    console.print(f"{len(rows)} rows of {table} as of version {version}")
    if as_json:
        told = [{name: _plain_value(value) for name, value in row.items()} for row in rows]
        print_json({"table": table, "version": version, "rows": told})


@app.command("restore")
@reports_errors
def restore(
    table: Annotated[str | None, typer.Argument(help="One table; it is held there.")] = None,
    version: Annotated[str | None, typer.Argument(help="A version or a time.")] = None,
    *,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="All document tables as of a time.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="... as this run left them.")] = None,
    release: Annotated[str | None, typer.Option(help="... as this release was made from.")] = None,
    as_json: Json = False,
) -> None:
    """Put documents back; what is downstream becomes stale. Now `headwater build`.

    A restored table is held: builds leave it as it is, until `headwater data follow TABLE`.
    """
    settings = Settings()
    targets, why = _targets(settings, table, version, as_of=as_of, run=run, release=release)
    restored = orchestrator("restore")(settings, targets, why=why)
    for each in restored:
        held = "  held; `headwater data follow` ends that" if each["held"] else ""
        console.print(
            f"{each['table']} has the content of version {each['source']}"
            f" as version {each['version']}{held}"
        )
    console.print("Now `headwater build`.")
    if as_json:
        print_json({"restored": restored})


@app.command("follow")
@reports_errors
def follow(table: str, *, as_json: Json = False) -> None:
    """Let a held table follow its inputs again, from the next build on."""
    orchestrator("follow")(Settings(), table)
    console.print(f"{table} follows its inputs again. Now `headwater build`.")
    if as_json:
        print_json({"table": table, "held": False})


@app.command("vacuum")
@reports_errors
def vacuum(
    *,
    retain: Annotated[
        int | None, typer.Option(min=0, help="Days; default is HEADWATER_RETAIN_DAYS.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete versions that are old and that no release in use was made from."""
    from headwater.monitoring.retention import retain as apply

    settings = Settings()
    days = settings.retain_days if retain is None else retain
    found = apply(_lake(), settings, days=days, dry_run=dry_run)
    shown = Table()
    for column in ("table", "versions", "kept", "live", "history", "frees" if dry_run else "freed"):
        shown.add_column(column)
    for each in found.tables:
        sizes = (each.live_bytes, each.history_bytes, each.freed_bytes)
        cells = [str(each.versions), str(each.kept), *(f"{size:,}" for size in sizes)]
        shown.add_row(escape(each.table), *cells)
    console.print(shown)
    console.print(
        f"{found.freed_bytes:,} bytes {'would be ' if dry_run else ''}freed;"
        f" the rest takes {found.kwh:.2g} kWh a year"
    )
    if as_json:
        print_json(found.to_json())


def _lake() -> Any:
    from headwater.lake import Lake

    return Lake(Settings().lake)


def _targets(
    settings: Settings,
    table: str | None,
    version: str | None,
    *,
    as_of: str | None,
    run: str | None,
    release: str | None,
) -> tuple[dict[str, int], str]:
    """The version for each table to restore, and what was asked for in words."""
    from headwater import versions
    from headwater.release import manifest

    lake = _lake()
    if sum(each is not None for each in (table, as_of, run, release)) != 1 or (
        (table is None) != (version is None)
    ):
        raise HeadwaterError(
            "It is not clear what to restore.",
            mend="Give TABLE VERSION, or one of --as-of, --run and --release.",
        )
    if table is not None and version is not None:
        versions.existing(lake, [table])
        versions.check_alone(table)
        return {table: versions.find(lake, table, version)}, f"version {version}"
    if as_of is not None:
        return versions.as_of(lake, versions.parse_time(as_of)), f"as of {as_of}"
    if run is not None:
        return versions.of_run(lake, run), f"run {run}"
    found = manifest.load(settings, release or "")
    noted = versions.of_index(lake, found.index)
    made = noted or versions.as_of(lake, versions.parse_time(found.created))
    return made, f"release {found.id}"


def _conditions(where: list[str]) -> dict[str, str]:
    found = {}
    for each in where:
        column, equals, value = each.partition("=")
        if not equals:
            raise HeadwaterError(
                f"{each!r} is no condition.",
                mend="Give COLUMN=VALUE, for example uri=docs:///a.md.",
            )
        found[column] = value
    return found


def _plain_value(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _text(value: Any) -> str:
    return " ".join(str(_plain_value(value)).split())
