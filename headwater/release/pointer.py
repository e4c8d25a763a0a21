"""Which release is in production: a pointer that moves by compare-and-set, and its history.

A move is written to the history first and to `current.json` second, under one number. So a killed
move leaves the old release in force, and its line, of a number not reached, is not history.
"""

import json
import os
from typing import Any

from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.release import manifest
from headwater.settings import Settings

#: Promotions whose index versions are kept, so that a rollback needs no rebuild.
REVERSIBLE = 10


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
            f"Release {release.id} is blocked by {', '.join(release.blocked)}.",
            mend="See the evaluation report for the examples behind it.",
        )
    with manifest.locked(settings):
        pointer = read_json(settings.releases / "current.json") or {"release": None, "sequence": 0}
        if pointer["release"] == release.id:
            return False
        if pointer["release"] != expected:
            raise PromotionConflict(
                f"Release {pointer['release']} is current, not {expected}.",
                mend="Another build has published meanwhile; build again.",
            )
        move = {
            "sequence": pointer["sequence"] + 1,
            "release": release.id,
            "previous": expected,
            "time": manifest.now(),
            "actor": actor,
            "reason": reason,
        }
        _append(settings, move)
        write_json(settings.releases / "current.json", move)
    return True


def history(settings: Settings) -> list[dict[str, Any]]:
    """Every promotion that took effect, oldest first.

    Keys: sequence, release, previous, time, actor, reason.
    """
    pointer = read_json(settings.releases / "current.json")
    path = settings.releases / "history.jsonl"
    if pointer is None or not path.exists():
        return []
    moves: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        try:
            move = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a kill, so it never took effect
        moves[move["sequence"]] = move  # of two with one number, the later took effect
    return [moves[number] for number in sorted(moves) if number <= pointer["sequence"]]


def indexes_in_use(settings: Settings) -> set[str]:
    """Index versions of the releases one may still roll back to: the last `REVERSIBLE`."""
    recent = {move["release"] for move in history(settings)[-REVERSIBLE:]}
    return {manifest.load(settings, release).index for release in recent}


def _append(settings: Settings, move: dict[str, Any]) -> None:
    """Append one line and force it to disk; first end a line that a kill has torn."""
    with (settings.releases / "history.jsonl").open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(move, sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
