"""Watches a canary from inside the endpoint: feeds the judge, and acts on what it says.

Knows outcomes of requests and the traffic; not how a request is answered.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.records import short
from headwater.release import traffic
from headwater.release.canary import (
    RECENT,
    CanaryPolicy,
    Judge,
    Judgement,
    Outcome,
    as_mapping,
)
from headwater.release.traffic import Arm, Traffic
from headwater.settings import Settings

log = logging.getLogger("headwater")

#: Times an endpoint may die with a canary loaded: once may be somebody's kill.
_DEATHS = 2


class CanaryWatch:
    """Judges the canary in force, if there is one, and ends it.

    Args:
        settings: where the traffic lies.
        policy: see canary.yaml.
        ended: called once the canary's end is in force on the disk.
    """

    def __init__(
        self, settings: Settings, policy: CanaryPolicy, *, ended: Callable[[], object]
    ) -> None:
        self._settings, self.policy, self._ended = settings, policy, ended
        self._lock = threading.Lock()
        self._canary: str | None = None
        self._judge = Judge(policy)
        self._usual_seconds: deque[float] = deque(maxlen=RECENT)
        self._weight = 0.0

    def judgement(self, now: Traffic) -> Judgement | None:
        """What the evidence on the canary in force shows; None without one.

        A request that began before its canary's end may be heard of after it.
        """
        with self._lock:
            in_force = now.canary is not None and now.canary == self._canary
            return self._judge.judgement() if in_force else None

    def champion_took(self, seconds: float) -> None:
        """The champion has answered while there was no canary; by this a canary is slow or not."""
        with self._lock:
            self._usual_seconds.append(seconds)

    def observe(self, now: Traffic, arm: Arm, release: str, outcome: Outcome) -> None:
        """Take in what a request has shown, and promote the canary or take it back if that decides.

        Args:
            now: the traffic in force when the request ended.
            arm, release: what answered it.
        """
        if now.canary is None or arm == "shadow":
            return
        with self._lock:
            if now.canary != self._canary:
                self._canary, self._weight = now.canary, now.weight
                self._judge = Judge(self.policy, self._usual_seconds)
            if release not in (now.canary, now.champion):
                return  # it began before the canary did
            self._judge.add(outcome, canary=arm == "canary")
            if not now.judged:
                return
            found = self._judge.judgement()
            if found.verdict == "continue":
                self._raise_weight(found)
                return
            canary, self._canary = self._canary, None
        self._end(canary, "promoted" if found.verdict == "promote" else "taken_back", found)

    def cannot_load(self, release: str, error: HeadwaterError) -> None:
        """Take a canary back that the endpoint cannot load."""
        if traffic.end_canary(
            self._settings, release, "taken_back", reason=f"it cannot be loaded: {error.what}"
        ):
            log.error("canary: release %s is taken back: %s", short(release), error.what)

    def _raise_weight(self, found: Judgement) -> None:
        canary = self._canary
        if canary is not None and found.weight > self._weight:
            self._weight = found.weight
            if traffic.set_weight(self._settings, canary, found.weight):
                log.info("canary: %s to %.0f %% of users", short(canary), 100 * found.weight)

    def _end(self, canary: str, outcome: traffic.Outcome, found: Judgement) -> None:
        evidence: dict[str, Any] = as_mapping(found)
        if traffic.end_canary(
            self._settings, canary, outcome, reason=found.reason, evidence=evidence
        ):
            log.warning("canary: release %s %s: %s", short(canary), outcome, found.reason)
            self._ended()


class Deaths:
    """Counts how often an endpoint has died with a canary in memory, across its restarts.

    An error of an answer is judged like any other; a process that dies leaves no outcome behind,
    only this note.

    Args:
        path: of the note; there is none while no canary is in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def before_load(self, canary: str) -> int:
        """Note that the canary is about to be loaded; how often a process has died with it."""
        known = read_json(self._path)
        same = known is not None and known["canary"] == canary
        deaths = known["deaths"] + (known["pid"] != os.getpid()) if same else 0
        write_json(self._path, {"canary": canary, "deaths": deaths, "pid": os.getpid()})
        return int(deaths)

    def forget(self) -> None:
        """The canary is out of memory, and the process lives."""
        self._path.unlink(missing_ok=True)


def died_too_often(settings: Settings, deaths: Deaths, canary: str) -> bool:
    """Take back a canary that endpoints die with; note the attempt to load it otherwise."""
    count = deaths.before_load(canary)
    if count < _DEATHS:
        return False
    reason = f"the endpoint died {count} times with it in memory"
    traffic.end_canary(settings, canary, "taken_back", reason=reason)
    log.error("canary: release %s is taken back: %s", short(canary), reason)
    deaths.forget()
    return True
