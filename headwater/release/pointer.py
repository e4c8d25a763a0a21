"""Which release is in production: a pointer that moves by compare-and-set, and its history.

A move is written to the history first and to `current.json` second, under one number. So a killed
move leaves the old release in force, and its line, of a number not reached, is not history.
"""

from typing import Any

from headwater.errors import HeadwaterError
from headwater.files import append_json, read_json, read_lines, write_json
from headwater.release import manifest
from headwater.settings import Settings


class PromotionConflict(HeadwaterError):
    """Another release became current since the caller looked."""


def current(settings: Settings) -> str | None:
    """Id of the release in production, or None before the first."""
    pointer = read_json(settings.releases / "current.json")
    return pointer and pointer["release"]


def promote(
    settings: Settings,
    release_id: str,
    expected: str | None,
    *,
    actor: str = "build",
    reason: str = "",
) -> bool:
    """Make a release current if `expected` still is; a rollback is a promotion of an earlier one.

    Args:
        expected: the release the caller believes to be current; None for "none yet".
        actor, reason: who asks and why, for the history.

    Returns:
        Whether the pointer moved; it does not where the release is current already.

    Raises:
        PromotionConflict: another release is current.
        HeadwaterError: there is no such release, or a gate blocks it.
    """
    release = manifest.load(settings, release_id)
    if release.blocked:
        raise HeadwaterError(
            f"Release {release.id} is blocked by {release.why_blocked}.",
            mend="See the evaluation report for the examples behind it.",
        )
    with manifest.locked(settings):
        return move(settings, release.id, expected, actor=actor, reason=reason)


def move(
    settings: Settings, release_id: str, expected: str | None, *, actor: str, reason: str
) -> bool:
    """The compare-and-set of `promote`, for a caller that holds `manifest.locked` already."""
    pointer = read_json(settings.releases / "current.json") or {"release": None, "sequence": 0}
    if pointer["release"] == release_id:
        return False
    if pointer["release"] != expected:
        raise PromotionConflict(
            f"Release {pointer['release']} is current, not {expected}.",
            mend="Another build has published meanwhile; build again.",
        )
    line = {
        "sequence": pointer["sequence"] + 1,
        "release": release_id,
        "previous": expected,
        "time": manifest.now(),
        "actor": actor,
        "reason": reason,
    }
    append_json(settings.releases / "history.jsonl", line)
    write_json(settings.releases / "current.json", line)
    return True


def history(settings: Settings) -> list[dict[str, Any]]:
    """Every promotion that took effect, oldest first.

    Keys: sequence, release, previous, time, actor, reason.
    """
    pointer = read_json(settings.releases / "current.json")
    if pointer is None:
        return []
    # Of two with one number, the later took effect; a torn one never did.
    moves = {move["sequence"]: move for move in read_lines(settings.releases / "history.jsonl")}
    return [moves[number] for number in sorted(moves) if number <= pointer["sequence"]]
