"""What a person sees of a build and of the present state: lines, tables, no logic."""

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headwater.monitoring.alerts import Alert
from headwater.warehouse.metrics import Metric

#: Counts worth a word in the line of a finished stage, as (metadata key, words).
_COUNTS = {
    "processed": "processed",
    "embedded": "embedded",
    "removed": "removed",
    "quarantined": "quarantined",
    "duplicates": "duplicates",
    "points": "points",
    "dagster/row_count": "rows",
    "steps": "steps",
}


#: Characters of a whole request in a waterfall.
_BAR = 32


class BuildView:
    """Prints a build's events as they come: one line a stage, one a failed check."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = time.monotonic()

    def __call__(self, kind: str, name: str, details: dict[str, Any]) -> None:
        clock = f"[dim]{time.monotonic() - self.started:6.1f} s[/dim]"
        if kind == "plan":
            self.console.print(f"{len(details['stale'])} assets are stale; building them in order.")
        elif kind == "waiting":
            self.console.print(f"Waiting for run {details['run'][:8]} of {name} to end …")
        elif kind == "start":
            self.console.print(f"{clock}  [cyan]…[/cyan] {escape(name)}")
        elif kind == "done":
            seconds = f"{details['seconds']:.1f} s"
            counts = _counts(details)
            self.console.print(f"{clock}  [green]✓[/green] {escape(name)}  {seconds}  {counts}")
        elif kind == "check" and not details["passed"]:
            said = escape(details["description"] or "")
            mark = "[yellow]![/yellow]" if details["warning"] else "[red]✗[/red]"
            self.console.print(f"{clock}  {mark} check {escape(name)} failed  {said}")
        elif kind == "failed":
            self.console.print(f"{clock}  [red]✗[/red] {escape(name)}: {escape(details['error'])}")

    def plan(self, found: dict[str, Any]) -> None:
        """What `build --plan` says to a person."""
        if not found["stale"]:
            self.console.print("Nothing is stale.")
        for name in found["stale"]:
            reason = found["reasons"].get(name, "an input may change")
            self.console.print(f"  {escape(name)}  [dim]{escape(reason)}[/dim]")
        for error in found["refused"].values():
            self.console.print(f"[red]The build will stop[/red]: {escape(error)}")
        self._deferred(found)

    def summary(self, result: dict[str, Any]) -> None:
        """The last lines of a build."""
        if not result["stale"]:
            self.console.print("Nothing is stale; nothing was done.")
        self._deferred(result)
        for name, version in result["held"].items():
            self.console.print(
                f"[yellow]{name} is held[/yellow] at version {version}: its inputs are not looked at."
                f" `headwater data follow {name}` ends that."
            )
        documents, chunks = result["documents"], result["chunks"]
        self.console.print(
            f"documents {documents['seen']} seen, {documents['processed']} processed, "
            f"{documents['quarantined']} quarantined, {documents['duplicates']} duplicates, "
            f"{documents['removed']} removed; "
            f"chunks {chunks['total']}, {chunks['embedded']} embedded; "
            f"training {result['training']['steps']} steps; {result['seconds']:.1f} s"
        )
        if result["blocked"]:
            gates = ", ".join(result["blocked"])
            self.console.print(
                f"[red]The release is blocked by {escape(gates)}[/red]; the endpoint goes on with "
                "the release it has. The report assets in the UI show value, threshold, examples."
            )
        elif not result["success"]:
            self.console.print(
                "[red]The build failed[/red]; what was done is kept, the next build goes on there."
            )
        else:
            self.console.print(f"release [bold]{(result['release'] or 'none')[:12]}[/bold] serves")

    def _deferred(self, found: dict[str, Any]) -> None:
        if found["deferred"]:
            self.console.print(
                "[yellow]Training waits[/yellow]: its inputs changed and the adapter serves on. "
                "`headwater build --train` retrains now."
            )


def _counts(details: dict[str, Any]) -> str:
    return ", ".join(
        f"{details[key]:,} {word}" for key, word in _COUNTS.items() if details.get(key) is not None
    )


def show_status(console: Console, found: dict[str, Any]) -> None:
    """The tables of `headwater status`."""
    release = found["release"]
    if release is None:
        console.print("No release yet. Run `headwater build`.")
        return
    provisional = (
        "  [yellow]judged by provisional questions[/yellow]" if found["provisional"] else ""
    )
    console.print(f"\nrelease [bold]{release['id'][:12]}[/bold]{provisional}")
    for part in ("base_model", "adapter", "prompt", "index"):
        console.print(f"  {part:<11} {escape(str(release[part])[:40])}")
    _evaluation_tables(console, found["evaluation"])
    endpoint = found["endpoint"]
    state = "ready" if endpoint["ready"] else "not running; `headwater serve` or `make dev`"
    console.print(f"endpoint {endpoint['url'] or '-'}  {state}")


def show_drift(console: Console, found: dict[str, Any]) -> None:
    """The tables of `headwater drift`."""
    console.print(f"\ndrift: [bold]{found['status']}[/bold]")
    if found["panels"]:
        console.print(
            f"  evidence {found['evidence']:.3g} after {found['windows']} windows;"
            f" {found['threshold']:.0f} is a drift (false alarms at most {found['alpha']:.0%})"
        )
        table = Table()
        for column in ("panel", "evidence", "p_value", "reference", "current"):
            table.add_column(column)
        for name, panel in found["panels"].items():
            shown = [panel[key] for key in ("evidence", "p_value", "reference", "current")]
            table.add_row(name, *("-" if value is None else f"{value:.3g}" for value in shown))
        console.print(table)
    for example in found["examples"]:
        console.print(f"  {escape(example['question'])}  [dim]{example['trace']}[/dim]")
    decision = found["decision"]
    if decision is not None:
        console.print(
            f"decision: [bold]{decision['verdict']}[/bold]  [dim]{decision['time']}[/dim]"
        )
        for reason in decision["reasons"]:
            console.print(f"  {escape(reason)}")


def show_releases(console: Console, rows: list[dict[str, Any]]) -> None:
    """The table of `headwater releases list`."""
    if not rows:
        console.print("No release yet. Run `headwater build`.")
        return
    table = Table()
    for column in ("release", "status", "created", "adapter", "prompt", "index"):
        table.add_column(column)
    for row in rows:
        status = row["status"] if row["runnable"] else f"{row['status']}, not runnable"
        mark = "[bold green]" if row["status"] == "current" else ""
        parts = [str(row[part] or "-")[:8] for part in ("adapter", "prompt", "index")]
        table.add_row(f"{mark}{row['id'][:12]}", status, row["created"], *parts)
    console.print(table)


def show_release(console: Console, found: dict[str, Any]) -> None:
    """The lines of `headwater releases show`."""
    console.print(f"release [bold]{found['id']}[/bold]  {found['status']}")
    if found["missing"]:
        console.print(f"[yellow]not runnable[/yellow]: {escape(', '.join(found['missing']))}")
    adapter = found["adapter"]
    parts = {
        "base model": f"{found['base_model']['name']}  {found['base_model']['digest'][:12]}",
        "adapter": adapter["id"] if adapter else "none",
        "index": found["index"],
        "guardrails": found["guardrails"],
        "retrieval": ", ".join(f"{name} {value}" for name, value in found["retrieval"].items()),
        "system": found["prompt"]["system"],
        "made by": f"run {found['run_id'][:8]}, commit {found['commit'][:12] or '-'}, {found['created']}",
    }
    for name, value in parts.items():
        console.print(f"  {name:<11} {escape(str(value))}", soft_wrap=True)
    table = Table(title="Gates", title_justify="left")
    for column in ("gate", "passed", "threshold", "found"):
        table.add_column(column)
    for gate in found["gates"]:
        passed = "[green]yes[/green]" if gate["passed"] else "[red]no[/red]"
        table.add_row(gate["name"], passed, escape(gate["threshold"]), escape(gate["detail"]))
    console.print(table)
    for move in found["moves"]:
        what = "went live" if move["release"] == found["id"] else "was replaced"
        why = f": {move['reason']}" if move.get("reason") else ""
        console.print(f"  {move['time']}  {what}, by {escape(move['actor'] + why)}")


def show_traces(console: Console, rows: list[dict[str, Any]]) -> None:
    """The lines of `headwater traces tail`."""
    for row in rows:
        note = "refused" if row["refused"] else row["status"]
        console.print(
            f"{row['time'][11:19]}  {row['trace'][:12]}  {row['release'][:8] or '-'} {row['arm']:<8} "
            f"{note:<8} {row['total_ms'] / 1000:5.1f} s {_cost(row['cost'])}  {escape(row['question'][:60])}",
            soft_wrap=True,
        )
    if not rows:
        console.print("No request was logged yet.")


def _cost(cost: float | None) -> str:
    return f"{'-' if cost is None else f'{cost:.2g}':>8}"


def show_trace(console: Console, found: dict[str, Any]) -> None:
    """The lines of `headwater traces show`."""
    console.print(f"trace [bold]{found['trace']}[/bold]  {found['time']}  {found['status']}")
    console.print(f"  question  {escape(found['question'])}", soft_wrap=True)
    console.print(f"  answer    {escape(found['answer'])}", soft_wrap=True)
    chunks = zip(found["uris"], found["scores"], found["chunk_ids"], strict=True)
    for uri, score, chunk in chunks:
        console.print(
            f"  passage   {escape(uri)}  {score:.3f}  [dim]{escape(chunk)}[/dim]", soft_wrap=True
        )
    if found["key"]:
        console.print(f"  key       {escape(found['key'])}")
    for name, value in found["parts"].items():
        console.print(f"  {name:<9} {escape(str(value))}", soft_wrap=True)
    console.print(
        f"  took      {found['total_ms']:.0f} ms: retrieval {found['retrieve_ms']:.0f}, "
        f"generation {found['generate_ms']:.0f}; tokens {found['prompt_tokens']} in, "
        f"{found['completion_tokens']} out"
    )
    if found["energy_wh"] is not None:
        console.print(f"  energy    {found['energy_wh']:.4g} Wh, cost {found['cost']:.4g}")
    for decision in found["guard"]:
        console.print(f"  guard     {escape(decision)}")
    for said in found["feedback"]:
        text = said["correction"] or said["thumb"] or said["preferred"] or ", ".join(said["tags"])
        console.print(f"  feedback  {escape(str(text))}", soft_wrap=True)
    _waterfall(console, found)


def _waterfall(console: Console, found: dict[str, Any]) -> None:
    """The spans of a trace, each under what it is a part of, on the request's time."""
    total = max(found["total_ms"], 1e-3)
    depths: dict[str, int] = {}
    for span in found["spans"]:
        depth = depths[span["id"]] = depths.get(span["parent"], -1) + 1
        # What was not over when the line was written lasted at least until then.
        ms = total - span["start_ms"] if span["ms"] is None else span["ms"]
        first = min(_BAR - 1, int(span["start_ms"] / total * _BAR))
        length = min(_BAR - first, max(1, round(ms / total * _BAR)))
        bar = f"{' ' * first}{'━' * length}{' ' * (_BAR - first - length)}"
        colour = "red" if span["error"] else "cyan"
        name = f"{'  ' * depth}{span['name']}"
        took = "…" if span["ms"] is None else f"{ms:.1f} ms"
        console.print(
            f"  {name:<17} [{colour}]{bar}[/{colour}] {took:>10}  {escape(_about(span))}",
            soft_wrap=True,
        )
        for link in span["links"]:
            console.print(f"  {'':<17} [dim]belongs to {link}[/dim]", soft_wrap=True)
    if not found["spans"]:
        console.print("  [dim]It was logged before requests had spans.[/dim]")


def _about(span: dict[str, Any]) -> str:
    """What is worth a word of a span's attributes."""
    said = span["attributes"]
    words = [span["error"]] if span["error"] else []
    words += said.get("headwater.guard", [])
    if "headwater.chunks" in said:
        words.append(f"passages {len(said['headwater.chunks'])}")
    if "headwater.similarity" in said:
        words.append(f"similarity {said['headwater.similarity']:.3f}")
    if "headwater.rerank_ms" in said:
        words.append(f"reranked in {said['headwater.rerank_ms']:.1f} ms")
    if "gen_ai.usage.output_tokens" in said:
        words.append(f"tokens {said['gen_ai.usage.input_tokens']} in")
        words.append(f"{said['gen_ai.usage.output_tokens']} out")
        words.append(f"engine {said['headwater.engine_ms']:.1f} ms")
    return ", ".join(words)


def show_traffic(console: Console, found: dict[str, Any]) -> None:
    """The lines of `headwater releases traffic`."""
    console.print(f"champion  {(found['champion'] or 'none')[:12]}")
    if found["canary"]:
        how = "judged by the endpoint" if found["judged"] else "A/B test"
        console.print(
            f"canary    {found['canary'][:12]}  {found['weight']:.0%} of users since "
            f"{found['since']}, {how}"
        )
    if found["shadow"]:
        console.print(f"shadow    {found['shadow'][:12]}")
    judgement = found["judgement"]
    if judgement:
        console.print(f"evidence  {escape(judgement['reason'])}")
        for signal, values in judgement["evidence"].items():
            console.print(
                f"  {signal:<11} e-value of harm {values['harm']:.3g}, "
                f"of harmlessness {values['harmless']:.3g}"
            )
    for event in found["events"][-10:]:
        who = f"{event['actor']}{': ' + event['reason'] if event['reason'] else ''}"
        release = (event["release"] or "-")[:12]
        console.print(f"{event['time']}  {event['change']:<10} {release}  {escape(who)}")


#: Measures of the generation report: key, words.
_MEASURES = (
    ("nll", "NLL of references, nats/token"),
    ("rouge_l", "ROUGE-L"),
    ("chrf", "chrF"),
    ("cites_right", "cites the right document"),
)


def show_alerts(console: Console, alerts: Sequence[Alert]) -> None:
    """The table of `headwater alerts`."""
    if not alerts:
        console.print("Nothing is waiting for anybody.")
        return
    table = Table()
    for column in ("alert", "state", "what", "seen", "last", "owner"):
        table.add_column(column)
    for alert in alerts:
        colour = {"critical": "red", "warning": "yellow"}[alert.severity]
        is_open = alert.state == "open"
        state = f"[{colour}]{alert.severity}[/{colour}]" if is_open else "[dim]resolved[/dim]"
        row = (alert.title, str(alert.count), alert.last_seen[:16], alert.owner)
        table.add_row(alert.id, state, *(escape(text) for text in row))
    console.print(table)


def show_alert(console: Console, alert: Alert) -> None:
    """The lines of `headwater alerts show`."""
    console.print(f"alert [bold]{alert.id}[/bold]  {alert.state}, {alert.severity}")
    console.print(escape(alert.title), soft_wrap=True)
    console.print(escape(alert.detail), soft_wrap=True)
    lines = {
        "owner": alert.owner,
        "seen": f"{alert.count} times, {alert.first_seen[:19]} to {alert.last_seen[:19]}",
        "last well": alert.last_well[:19] or "not known",
        "resolved": alert.resolved[:19],
        "looked after": alert.acknowledged,
        "run": alert.run,
        "where": alert.place,
        "look": alert.link,
        "runbook": alert.runbook,
    }
    for name, value in lines.items():
        if value:
            console.print(f"  {name:<13} {escape(value)}", soft_wrap=True)
    for change in alert.changed:
        what = f"{change['what']}: {change['before']} -> {change['after']}"
        console.print(f"  {'changed':<13} {escape(what)}", soft_wrap=True)
    for example in alert.examples:
        what = ", ".join(f"{name}: {value}" for name, value in example.items())
        console.print(f"  {'example':<13} {escape(what)}", soft_wrap=True)


def _evaluation_tables(console: Console, evaluation: dict[str, Any]) -> None:
    generation, retrieval = evaluation["generation"], evaluation["retrieval"]
    if generation is not None:
        title = f"Base against adapter, {generation['items']} golden questions"
        table = Table(title=title, title_justify="left")
        for column in ("", "base", "adapter", "difference", "95 % interval"):
            table.add_column(column)
        arms = generation["arms"]
        for key, words in _MEASURES:
            delta = generation.get(f"{key}_delta")
            cells = [_figure(arms.get(arm, {}).get(key)) for arm in ("base", "adapter")]
            if delta is not None:
                cells += [f"{delta['mean']:+.3f}", f"{delta['low']:+.3f} to {delta['high']:+.3f}"]
            table.add_row(words, *cells)
        console.print(table)
    if retrieval is not None:
        title = f"Retrieval, {retrieval['items']} golden questions"
        table = Table(title=title, title_justify="left")
        for column in ("", "dense", "bm25", "fused"):
            table.add_column(column)
        ndcg = retrieval["ndcg_at_10"]
        table.add_row("nDCG@10", *(f"{ndcg[mode]:.3f}" for mode in ("dense", "bm25", "fused")))
        table.add_row("recall@5", "", "", f"{retrieval['recall_at_5']:.3f}")
        console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def show_metrics(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Every metric with its value."""
    table = Table("metric", "what", "value", "by", box=None)
    for row in rows:
        table.add_row(
            row["metric"], escape(row["label"]), _measure(row["value"]), ", ".join(row["by"])
        )
    console.print(table)


def show_metric(
    console: Console, metric: Metric, rows: Sequence[dict[str, Any]], by: str | None
) -> None:
    """One metric, broken down where it was asked for so."""
    console.print(f"{escape(metric.label)}: {escape(metric.description)}")
    table = Table(by or "", metric.name, box=None)
    for row in rows:
        table.add_row(escape(str(row.get("key", "all"))), _measure(row["value"]))
    console.print(table)


def _measure(value: float | None) -> str:
    """A value in few digits; nothing to count is not 0."""
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
