"""The page of a drift report: HTML that needs nothing but Evidently's page beside it.

Knows the report's JSON, not how it was made. Questions are document text, so they are escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """body{font:16px system-ui;margin:2rem auto;max-width:60rem}
td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"""
_COLUMNS = ["panel", "method", "score", "threshold", "drifted", "reference", "current"]


def page(report: Mapping[str, Any], reference: int, current: int) -> str:
    """The page of a report over windows of `reference` and `current` requests."""
    panels = [{"panel": name, **panel} for name, panel in report["panels"].items()]
    examples = ["trace", "question", "chance_current"]
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Drift report</title>
<style>{_STYLE}</style>
<h1>Drift report: {escape(report["status"])}</h1>
<p>{current} requests against a reference of {reference}; {report["share"]:.0%} of the panels
drifted. A p-value below its threshold is drift, an AUC above. Means where there is one.</p>
{_table(_COLUMNS, panels)}
<h2>Questions least like the reference</h2>
{_table(examples, report["examples"])}
<p><a href="evidently.html">Distributions, by Evidently</a></p></html>
"""


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row[column]) for column in columns)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return f"<td>{escape(text)}</td>"
