"""Puts a release before users: at once, or by a canary where there is traffic to judge it by."""

from dataclasses import dataclass

from headwater.errors import HeadwaterError
from headwater.records import short
from headwater.release import canary, catalog, manifest, pointer, traffic
from headwater.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How a release went out; `canary` tells that it is not the champion yet."""

    release: str
    before: str | None
    canary: bool
    why: str


def deploy(settings: Settings, release_id: str, *, recent_answers: int) -> Deployed:
    """Promote a release that passed its gates, or start its canary.

    Args:
        recent_answers: of the champion, as the running endpoint counts them; 0 where none runs.

    Raises:
        HeadwaterError: a canary has taken this release back before.
        PromotionConflict, TrafficConflict: somebody else deploys.
    """
    before = pointer.current(settings)
    if before == release_id:
        return Deployed(release=release_id, before=before, canary=False, why="it served already")
    reason = traffic.taken_back(settings).get(release_id)
    if reason is not None:
        raise HeadwaterError(
            f"Release {short(release_id)} was taken back by its canary: {reason}.",
            mend="Mend what it shows and build again, or `headwater releases promote` it yourself.",
        )
    policy = canary.load_policy()
    changed = [each.part for each in catalog.diff(settings, before, release_id)] if before else []
    needed = canary.need(policy, changed, recent_answers)
    if before is not None and needed.canary:
        _replace_canary(settings, release_id)
        traffic.start_canary(settings, release_id, policy.weights[0], reason=needed.why)
        return Deployed(release=release_id, before=before, canary=True, why=needed.why)
    pointer.promote(settings, release_id, before, reason=needed.why if before else "the first")
    return Deployed(release=release_id, before=before, canary=False, why=needed.why)


def _replace_canary(settings: Settings, release_id: str) -> None:
    """A newer candidate takes the place of one that is still being judged."""
    running = traffic.read(settings)
    if running.judged and running.canary not in (None, release_id):
        newer = f"release {short(manifest.load(settings, release_id).id)} is newer"
        traffic.end_canary(settings, str(running.canary), "stopped", actor="build", reason=newer)
