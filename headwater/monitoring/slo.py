"""How fast the endpoint burns its error budget, from its own request log.

Multiwindow, multi-burn-rate alerting as in the Google SRE Workbook, chapter 5, "Alerting on SLOs":
a burn rate is the share of errors over the share that the objective allows; it fires where a long
window says that much is lost and a short one that it still goes on. Knows the log and arithmetic,
not who is told. The same windows for Prometheus are in deploy/prometheus/headwater.rules.yml.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from headwater.files import read_json, write_json
from headwater.serving.request_log import log_folder
from headwater.settings import Settings

#: How a request ends that the endpoint took on and did not answer as it should.
_BAD = ("error", "deadline")
#: Lasting examples of errors.
_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One rule: fires where both windows (minutes) burn `rate` times as fast as allowed, or more.

    At 14.4 an hour takes 2% of thirty days' budget; at 1 three days take 10%.
    """

    name: Literal["fast", "slow"]
    short: int
    long: int
    rate: float
    severity: Literal["critical", "warning"]


WINDOWS = (
    Window(name="fast", short=5, long=60, rate=14.4, severity="critical"),
    Window(name="slow", short=360, long=4320, rate=1.0, severity="warning"),
)
#: Fewer errors than this in the long window are nobody's page, whatever their share: with little
#: traffic one unlucky request would be.
MINIMUM_ERRORS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """A rule's judgement: burn rates of its two windows, and what was counted in the long one."""

    window: Window
    short_rate: float
    long_rate: float
    requests: int
    errors: int

    @property
    def firing(self) -> bool:
        """Whether somebody must look."""
        enough = self.errors >= MINIMUM_ERRORS
        return enough and min(self.short_rate, self.long_rate) >= self.window.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Answered requests and errors by minute since 1970, and the latest errors.

    A request that its client left is neither: it says nothing about the endpoint.
    """

    minutes: Mapping[int, tuple[int, int]]
    errors: Sequence[Mapping[str, str]]


def burn_rates(traffic: Traffic, *, now: datetime, target: float) -> list[Burn]:
    """Every rule's judgement at a moment; `target` is the share of requests that must be well."""
    minute = _minute(now)
    burns = []
    for window in WINDOWS:
        short = _counts(traffic, minute - window.short, minute)
        requests, errors = _counts(traffic, minute - window.long, minute)
        burns.append(
            Burn(
                window=window,
                short_rate=_share(*short) / (1 - target),
                long_rate=_share(requests, errors) / (1 - target),
                requests=requests,
                errors=errors,
            )
        )
    return burns


def read_traffic(settings: Settings, *, now: datetime) -> Traffic:
    """What the request log holds of the longest window; reads only what was appended since.

    How far each file was read is stored with the counts, in one atomic write, so a kill counts
    nothing twice. Callers must not run at once; the sensor's ticks do not.
    """
    path = settings.root / "monitoring" / "traffic.json"
    state = read_json(path) or {"files": {}, "minutes": {}, "errors": []}
    first = now.astimezone(UTC) - timedelta(minutes=max(window.long for window in WINDOWS) + 1)
    folder = log_folder(settings)
    files = sorted(
        file
        for day in (folder.iterdir() if folder.exists() else ())
        if day.name >= first.date().isoformat()
        for file in day.glob("*.jsonl")
    )
    offsets = {
        name: at
        for name, at in state["files"].items()
        if name.split("/")[0] >= first.date().isoformat()
    }
    minutes = {int(k): v for k, v in state["minutes"].items() if int(k) >= _minute(first)}
    errors = list(state["errors"])
    for file in files:
        name = f"{file.parent.name}/{file.name}"
        rows, offsets[name] = _new_rows(file, offsets.get(name, 0))
        for row in rows:
            _add(row, minutes, errors)
    new = {
        "files": offsets,
        "minutes": {str(key): list(value) for key, value in minutes.items()},
        "errors": errors[-_EXAMPLES:],
    }
    if new != state:
        write_json(path, new)
    return Traffic(
        minutes={key: (value[0], value[1]) for key, value in minutes.items()},
        errors=errors[-_EXAMPLES:],
    )


def _new_rows(file: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole lines after an offset, and the offset after them. A line that a kill tore is skipped."""
    with file.open("rb") as opened:
        opened.seek(offset)
        data = opened.read()
    data = data[: data.rfind(b"\n") + 1]
    rows = []
    for line in data.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows, offset + len(data)


def _add(row: Mapping[str, Any], minutes: dict[int, Any], errors: list[dict[str, str]]) -> None:
    if row.get("status") not in ("ok", *_BAD) or row.get("arm") == "shadow":
        return  # nobody saw what a shadow answered
    minute = _minute(datetime.fromisoformat(row["time"]))
    requests, failed = minutes.get(minute, (0, 0))
    is_error = row["status"] in _BAD
    minutes[minute] = [requests + 1, failed + int(is_error)]
    if is_error:
        errors.append({name: str(row.get(name, "")) for name in ("trace", "time", "release")})


def _counts(traffic: Traffic, first: int, last: int) -> tuple[int, int]:
    """Requests and errors after minute `first`, until the end of minute `last`."""
    rows = [value for minute, value in traffic.minutes.items() if first < minute <= last]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def _share(requests: int, errors: int) -> float:
    return errors / requests if requests else 0.0


def _minute(moment: datetime) -> int:
    return int(moment.timestamp() // 60)
