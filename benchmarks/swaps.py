"""Requests while releases swap and the endpoint is killed: nothing mixed, lost or falsely whole.

`python -m benchmarks.swaps --json` builds a small home with the tiny model, serves it as a process,
and asks from many clients while two releases change places. In the middle the process is killed
(kill -9) while it streams, and started again. Then every answer is held against the request log.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.homes import (
    QUESTIONS,
    Crowd,
    EndpointProcess,
    endpoint_process,
    make_home,
    make_release,
    promote,
)
from headwater.base_model import TINY
from headwater.release.manifest import Release
from headwater.serving.request_log import logged_days, read_requests
from headwater.settings import Settings, quiet_libraries

PLACES = ("old", "new")
#: Seconds without progress after which the run is given up.
STUCK = 120


@dataclass(kw_only=True)
class Seen:
    """What one client saw of one request.

    `end` is "whole" (a 200, or a stream that came to [DONE]), "cut" (the connection broke),
    "silent" (a stream that ended as if it were whole, without [DONE]) or "refused" (an error reply).
    """

    end: str
    trace: str = ""
    releases: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)


class Clients(Crowd):
    """Ask from several threads until so many requests have ended; every second one is a stream."""

    def __init__(self, url: str, requests: int, clients: int) -> None:
        super().__init__(clients)
        self._url, self._left = url, requests
        self._lock = threading.Lock()
        self.seen: list[Seen] = []
        self.unreachable = 0
        self.streaming = 0

    def run(self, number: int) -> None:
        with httpx.Client(trust_env=False, timeout=STUCK) as client:
            while self._take():
                number += 1
                while (seen := self._ask(client, number)) is None:
                    self.unreachable += 1
                    time.sleep(0.1)
                with self._lock:
                    self.seen.append(seen)

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _ask(self, client: httpx.Client, number: int) -> Seen | None:
        """One request; None where the endpoint could not be reached or was still loading."""
        question = {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}
        body = {"messages": [question], "max_tokens": 4 + number % 16, "stream": number % 2 == 0}
        request = client.build_request("POST", f"{self._url}/v1/chat/completions", json=body)
        try:
            reply = client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return None
        except httpx.TransportError:
            return Seen(end="cut")
        try:
            if reply.status_code == 503:
                return None
            return self._read_stream(reply) if body["stream"] else _read_whole(reply)
        finally:
            reply.close()

    def _read_stream(self, reply: httpx.Response) -> Seen:
        seen = Seen(end="silent", trace=reply.headers["X-Headwater-Trace"])
        seen.releases.add(reply.headers["X-Headwater-Release"])
        with self._lock:
            self.streaming += 1
        try:
            for line in reply.iter_lines():
                if line == "data: [DONE]":
                    seen.end = "whole"
                elif line.startswith("data: {"):
                    _take_in(seen, json.loads(line[6:]))
        except httpx.TransportError:
            seen.end = "cut"
        finally:
            with self._lock:
                self.streaming -= 1
        return seen


def _read_whole(reply: httpx.Response) -> Seen:
    try:
        reply.read()
    except httpx.TransportError:
        return Seen(end="cut", trace=reply.headers["X-Headwater-Trace"])
    if reply.status_code != 200:
        return Seen(end="refused", trace=reply.headers.get("X-Headwater-Trace", ""))
    seen = Seen(end="whole", trace=reply.headers["X-Headwater-Trace"])
    seen.releases.add(reply.headers["X-Headwater-Release"])
    _take_in(seen, reply.json())
    return seen


def _take_in(seen: Seen, message: dict[str, Any]) -> None:
    """What a message says of who answered: the release that made it, and the index it cites."""
    if "error" in message:
        seen.end = "refused"
        return
    seen.releases.add(message["system_fingerprint"])
    seen.places.update(cited["uri"].partition(":")[0] for cited in message.get("citations", ()))


def measure(root: Path, *, requests: int, clients: int, swaps: int) -> dict[str, Any]:
    """Ask, swap and kill; the mapping that `--json` prints.

    `mixed` are answers that more than one release had a part in, by what the client or the log
    says. `untraced` are whole answers without an "ok" in the log, and streams cut by the kill that
    the log knows nothing of. `silent_cuts` are streams that ended falsely as if they were whole.
    """
    settings = make_home(root, TINY, places=PLACES)
    releases = [make_release(settings, index=place) for place in PLACES]
    promote(settings, releases[0])
    began = time.monotonic()
    with endpoint_process(settings) as endpoint:
        with Clients(endpoint.url, requests, clients) as asking:
            killed_streams = _disturb(
                settings, endpoint, asking, releases, requests=requests, swaps=swaps
            )
        seconds = time.monotonic() - began
    logged = {
        row["trace"]: row
        for day in logged_days(settings)[-2:]
        for row in read_requests(settings, day).rows
    }
    place_of = dict(zip((release.id for release in releases), PLACES, strict=True))
    whole = [seen for seen in asking.seen if seen.end == "whole"]
    cut = [seen for seen in asking.seen if seen.end == "cut"]
    return {
        "requests": len(asking.seen),
        "whole": len(whole),
        "cut": len(cut),
        "refused": sum(seen.end == "refused" for seen in asking.seen),
        "swaps": swaps,
        "streams_at_the_kill": killed_streams,
        "unreachable_tries": asking.unreachable,
        "mixed": sum(_mixed(seen, logged.get(seen.trace), place_of) for seen in whole),
        "untraced": sum(logged.get(seen.trace, {}).get("status") != "ok" for seen in whole)
        + sum(bool(seen.trace) and seen.trace not in logged for seen in cut),
        "silent_cuts": sum(seen.end == "silent" for seen in asking.seen),
        "answers_by_release": [
            sum(release.id in seen.releases for seen in whole) for release in releases
        ],
        "logged_as_cut": sum(row["status"] == "aborted" for row in logged.values()),
        "seconds": round(seconds, 1),
        "clients": clients,
    }


def _disturb(
    settings: Settings,
    endpoint: EndpointProcess,
    asking: Clients,
    releases: Sequence[Release],
    *,
    requests: int,
    swaps: int,
) -> int:
    """Swap after every so many answers, and kill at the middle swap; the streams it cut."""
    cut = 0
    for swap in range(1, swaps + 1):
        _wait(lambda swap=swap: len(asking.seen) >= swap * requests // (swaps + 1))
        if swap == (swaps + 1) // 2:
            _wait(lambda: asking.streaming > 0)
            cut = asking.streaming
            endpoint.kill()
            promote(settings, releases[swap % 2])
            endpoint.start_again()
            endpoint.ready()
        else:
            promote(settings, releases[swap % 2])
    return cut


def _wait(until: Any) -> None:
    began = time.monotonic()
    while not until():
        if time.monotonic() - began > STUCK:
            raise RuntimeError(f"nothing has moved for {STUCK} s")
        time.sleep(0.002)


def _mixed(seen: Seen, row: dict[str, Any] | None, place_of: dict[str, str]) -> bool:
    logged = {row["release"]} if row else set()
    places = {uri.partition(":")[0] for uri in row["uris"]} if row else set()
    releases = seen.releases | logged
    return len(releases) != 1 or (seen.places | places) - {place_of[r] for r in releases} != set()


def main() -> None:
    """Run from the command line."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        found = measure(
            Path(root) / "home",
            requests=chosen.requests,
            clients=chosen.clients,
            swaps=chosen.swaps,
        )
    if chosen.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<20} {value}")


if __name__ == "__main__":
    main()
