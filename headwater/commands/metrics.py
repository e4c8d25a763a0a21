"""`headwater metrics`: the figures that the warehouse defines. Parses and prints."""

from typing import Annotated, Any

import typer

from headwater.commands.common import Json, console, print_json, reports_errors
from headwater.settings import Settings


@reports_errors
def metrics(
    name: Annotated[str | None, typer.Argument(help="One metric; without, all of them.")] = None,
    *,
    by: Annotated[
        str | None, typer.Option("--by", help="A dimension, or day, week, month, quarter, year.")
    ] = None,
    since: Annotated[
        int | None, typer.Option("--since", min=1, help="Days to look at, today being one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Corpus, quality, requests, feedback and cost, as dbt's definitions count them."""
    from headwater.build_view import show_metric, show_metrics
    from headwater.errors import HeadwaterError
    from headwater.warehouse.metrics import ask
    from headwater.warehouse.metrics import metrics as defined

    settings = Settings()
    known = defined()
    if name is not None:
        rows = ask(settings, name, by=by, since=since)
        show_metric(console, known[name], rows, by)
        if as_json:
            print_json({"metric": name, "by": by, "since": since, "rows": rows})
        return
    if by is not None:
        raise HeadwaterError("All metrics have no dimension in common.", mend="Name one metric.")
    found: list[dict[str, Any]] = [
        {
            "metric": each.name,
            "label": each.label,
            "value": ask(settings, each.name, since=since)[0]["value"],
            "by": list(each.dimensions),
        }
        for each in known.values()
    ]
    show_metrics(console, found)
    if as_json:
        print_json({"since": since, "metrics": found})
