"""The alert inbox as a page: HTML that needs no script, no network and no other file.

Knows alerts, not how they came about. Details and examples may be document text or a user's words,
so all of it is escaped, and only links to http and https are links.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from headwater.files import write_atomic
from headwater.monitoring.alerts import Alert
from headwater.settings import Settings

_STYLE = """:root{color-scheme:light dark}body{font:16px/1.5 system-ui;margin:2rem auto;
max-width:60rem;padding:0 1rem}article{border-left:4px solid #888;padding:.2rem 1rem;
margin:1.5rem 0}article.critical{border-color:#c22}article.warning{border-color:#d80}
article.resolved{border-color:#393;opacity:.75}h2{font-size:1.1rem;margin:.2rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere}table{border-collapse:collapse}
td,th{padding:.1rem .8rem .1rem 0;text-align:left;vertical-align:top;overflow-wrap:anywhere}
.quiet{opacity:.7}"""


def alerts_page(alerts: Sequence[Alert], runbooks: str = "") -> str:
    """Open alerts first, then the latest resolved ones.

    Args:
        alerts: newest first, as the inbox lists them.
        runbooks: address below which the repository's files are shown; empty shows paths only.
    """
    waiting = [alert for alert in alerts if alert.state == "open"]
    past = [alert for alert in alerts if alert.state == "resolved"][:50]
    heading = f"{len(waiting)} open alert{'' if len(waiting) == 1 else 's'}"
    articles = "".join(_article(alert, runbooks) for alert in [*waiting, *past])
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>{heading}</title>
<style>{_STYLE}</style><h1>{heading}</h1>
{articles or "<p>Nothing is waiting for anybody.</p>"}</html>
"""


def write_page(settings: Settings, alerts: Sequence[Alert]) -> Path:
    """Keep the page as `alerts/index.html`, which a browser opens as it lies; returns its path."""
    path = settings.alerts / "index.html"
    page = alerts_page(alerts)
    if not path.exists() or path.read_text("utf-8") != page:
        write_atomic(path, page)
    return path


def _article(alert: Alert, runbooks: str) -> str:
    state = "resolved" if alert.state == "resolved" else alert.severity
    ended = f", resolved {_time(alert.resolved)}" if alert.resolved else ""
    times = "once" if alert.count == 1 else f"{alert.count} times"
    runbook = _link(f"{runbooks.rstrip('/')}/{alert.runbook}" if runbooks else "", alert.runbook)
    well = f" since it was well, {_time(alert.last_well)}" if alert.last_well else ""
    place = f" · {_link(alert.place, 'where it happened')}" if alert.place else ""
    return f"""<article class="{state}" id="{escape(alert.id)}">
<h2>{escape(alert.title)}</h2>
<p class="quiet">{escape(alert.id)} · {state} · seen {times}, first {_time(alert.first_seen)}, last
{_time(alert.last_seen)}{ended} · owner {escape(alert.owner)}{_acknowledged(alert)}</p>
<pre>{escape(alert.detail)}</pre>
{_table(f"Changed{well}", alert.changed)}{_table("Examples", alert.examples)}
<p>{_link(alert.link, "In the Dagster UI")}{place} · runbook {runbook}</p></article>
"""


def _acknowledged(alert: Alert) -> str:
    return f" · looked after by {escape(alert.acknowledged)}" if alert.acknowledged else ""


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_cell, map(row.get, columns))) + "</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return f"<td>{escape('' if value is None else str(value))}</td>"


def _link(url: str, text: str) -> str:
    if not url.startswith(("http://", "https://")):
        return escape(text)
    return f'<a href="{escape(url)}" rel="noreferrer">{escape(text)}</a>'


def _time(moment: str) -> str:
    return f'<time datetime="{escape(moment)}">{escape(moment[:19].replace("T", " "))}</time>'
