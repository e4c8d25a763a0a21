"""Who gets which release: the champion, and beside it at most one canary and one shadow.

The champion is the pointer's. What is beside it lies in `traffic.json`, moves under the same lock,
and holds for one champion only: when another release becomes champion, by any way, the canary of
the old one is over. Every change is a line of the pointer's kind in `traffic.jsonl`.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal

from headwater.errors import HeadwaterError
from headwater.files import append_json, read_json, read_lines, write_json
from headwater.release import manifest, pointer
from headwater.settings import Settings

Arm = Literal["champion", "canary", "shadow"]
#: Promotions whose index versions are kept, so that a rollback needs no rebuild.
REVERSIBLE = 10
Outcome = Literal["promoted", "taken_back", "stopped"]


class TrafficConflict(HeadwaterError):
    """Somebody else has changed the traffic since the caller looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The division of requests.

    Attributes:
        champion: answers who does not get the canary; None before the first release.
        canary: answers a share `weight` of users, and at most that share of the requests that
            name none (see `Spread`); None where there is none.
        judged: whether the endpoint may promote or take the canary back by itself; an A/B test
            runs until a person ends it.
        shadow: answers as well, unseen.
    """

    champion: str | None
    canary: str | None = None
    weight: float = 0.0
    judged: bool = True
    shadow: str | None = None
    since: str = ""

    def arm(self, key: str) -> Arm:
        """The arm of a user or session, the same for as long as the canary runs.

        A greater weight only adds users to the canary.
        """
        if self.canary is None:
            return "champion"
        place = hashlib.blake2b(f"{self.canary}\0{key}".encode(), digest_size=8).digest()
        return "canary" if int.from_bytes(place) / 2**64 < self.weight else "champion"


class Spread:
    """Deals out requests that name no user, so that the canary never gets more than its share.

    By chance alone a share of 5 % would often be 10 % of the first hundred requests. Here the gaps
    between two of the canary's requests are drawn from 1 to 1.25 times the reciprocal of the share,
    beginning with a whole gap; so at every moment the canary has had at most its share. Not safe to
    be called from several threads at once.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()
        self._of: tuple[str | None, float] = (None, 0.0)
        self._left = 0

    def arm(self, traffic: Traffic) -> Arm:
        """The arm of the next request."""
        if traffic.canary is None or traffic.weight <= 0:
            return "champion"
        if self._of != (traffic.canary, traffic.weight):
            self._of, self._left = (traffic.canary, traffic.weight), self._gap(traffic.weight)
        self._left -= 1
        if self._left > 0:
            return "champion"
        self._left = self._gap(traffic.weight)
        return "canary"

    def _gap(self, weight: float) -> int:
        least = math.ceil(1 / weight)
        return least + self._random.randrange(least // 4 + 1)


def read(settings: Settings) -> Traffic:
    """The division that is in force."""
    champion = pointer.current(settings)
    beside = read_json(settings.releases / "traffic.json")
    if beside is None or beside["champion"] != champion:
        return Traffic(champion=champion)
    return Traffic(**beside)


def start_canary(
    settings: Settings,
    release_id: str,
    weight: float,
    *,
    judged: bool = True,
    actor: str = "build",
    reason: str = "",
) -> Traffic:
    """Give a release a share of the users.

    Raises:
        TrafficConflict: another canary runs.
        HeadwaterError: there is no champion, or the release is blocked, taken back or current.
    """
    release = manifest.load(settings, release_id)
    if release.blocked:
        raise HeadwaterError(
            f"Release {release.id} is blocked by {release.why_blocked}.",
            mend="See the evaluation report for the examples behind it.",
        )
    if not 0 < weight <= 1:
        raise HeadwaterError(f"{weight} is no share of users.", mend="Give 0 < weight <= 1.")
    with manifest.locked(settings):
        now = read(settings)
        if now.champion is None or now.champion == release.id:
            raise HeadwaterError(
                f"There is no other release that {release.id} could run beside.",
                mend="Promote it, or build another.",
            )
        if now.canary not in (None, release.id):
            raise TrafficConflict(
                f"Release {now.canary} is the canary already.",
                mend="`headwater releases stop` ends it.",
            )
        return _write(
            settings, now, "canary", actor, reason,
            canary=release.id, weight=weight, judged=judged,
        )  # fmt: skip


def set_weight(settings: Settings, canary: str, weight: float) -> bool:
    """Change the canary's share; False where it is not the canary any more."""
    with manifest.locked(settings):
        now = read(settings)
        if now.canary != canary:
            return False
        _write(settings, now, "weight", "canary", "", weight=weight)
        return True


def end_canary(
    settings: Settings,
    canary: str,
    outcome: Outcome,
    *,
    actor: str = "canary",
    reason: str = "",
    evidence: Mapping[str, Any] | None = None,
) -> bool:
    """End a canary; with "promoted" it becomes the champion. False where it had ended already.

    A promotion moves the pointer first, which ends the canary by itself; a kill before the line
    that tells of it loses the line and nothing else.
    """
    with manifest.locked(settings):
        now = read(settings)
        if now.canary != canary:
            return False
        if outcome == "promoted":
            pointer.move(settings, canary, now.champion, actor=actor, reason=reason)
        _write(
            settings, now, outcome, actor, reason,
            evidence=evidence, release=canary, canary=None, weight=0.0, judged=True,
        )  # fmt: skip
    return True


def set_shadow(settings: Settings, release_id: str | None, *, actor: str = "build") -> Traffic:
    """Have a release answer as well, unseen; None ends it.

    Raises:
        HeadwaterError: there is no such release, or no champion.
    """
    shadow = None if release_id is None else manifest.load(settings, release_id).id
    with manifest.locked(settings):
        now = read(settings)
        if now.champion is None:
            raise HeadwaterError("There is no release to shadow.", mend="Run `headwater build`.")
        return _write(settings, now, "shadow", actor, "", shadow=shadow)


def events(settings: Settings) -> list[dict[str, Any]]:
    """Every change of the traffic, oldest first."""
    return read_lines(settings.releases / "traffic.jsonl")


def taken_back(settings: Settings) -> dict[str, str]:
    """Releases that a canary showed to be worse, with the reason; no build offers them again."""
    last = {event["release"]: event for event in events(settings) if event["release"]}
    return {
        release: event["reason"]
        for release, event in last.items()
        if event["change"] == "taken_back"
    }


def rejected_adapters(settings: Settings) -> dict[str, str]:
    """Adapters that came with a release taken back and not with the champion, and that release."""
    champion = pointer.current(settings)
    kept = manifest.load(settings, champion).adapter if champion else None
    rejected = {}
    for release in taken_back(settings):
        adapter = manifest.load(settings, release).adapter
        if adapter is not None and adapter != kept:
            rejected[adapter.id] = release
    return rejected


def releases_in_use(settings: Settings) -> list[manifest.Release]:
    """The canary, the shadow, and the releases one may still roll back to."""
    now = read(settings)
    recent = [move["release"] for move in pointer.history(settings)[-REVERSIBLE:]]
    ids = {each for each in (*recent, now.canary, now.shadow) if each is not None}
    return [manifest.load(settings, each) for each in sorted(ids)]


def indexes_in_use(settings: Settings) -> set[str]:
    """Index versions of the releases in use."""
    return {release.index for release in releases_in_use(settings)}


def _write(
    settings: Settings,
    now: Traffic,
    change: str,
    actor: str,
    reason: str,
    *,
    evidence: Mapping[str, Any] | None = None,
    release: str | None = None,
    **fields: Any,
) -> Traffic:
    """Put a change in force and note it. Called under the lock."""
    time = manifest.now()
    traffic = Traffic(**{**asdict(now), **fields, "since": time})
    event = {
        "time": time,
        "change": change,
        "release": release or traffic.canary or traffic.shadow,
        "champion": now.champion,
        "weight": traffic.weight,
        "actor": actor,
        "reason": reason,
        "evidence": evidence,
    }
    append_json(settings.releases / "traffic.jsonl", event)
    write_json(settings.releases / "traffic.json", asdict(traffic))
    return traffic
