"""What releases there are, how two differ, and moving production from one to another.

The moves are the pointer's compare-and-set; this module finds the release to move to, and makes
sure that what it names is still there before anything moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from getpass import getuser
from typing import Any

from headwater.embeddings.store import open_store
from headwater.errors import HeadwaterError
from headwater.records import short
from headwater.release import manifest, pointer
from headwater.release.manifest import Release
from headwater.settings import Settings

#: Parts of a release that a person compares, in the order in which they are shown.
PARTS = ("base_model", "adapter", "prompt", "index", "embedding_model", "retrieval", "guardrails")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A part that two releases do not share, as its digest or its plain fields."""

    part: str
    before: Any
    after: Any


def list_releases(settings: Settings) -> list[dict[str, Any]]:
    """Every release, newest first, as plain JSON.

    Returns:
        id, base_model, adapter, prompt, index, created, status, provisional and runnable each.
        `status` is "current", "earlier" (was in production), "blocked" or "ready"; a release that
        is not `runnable` lacks a file or its index, which a build has dropped since.
    """
    current = pointer.current(settings)
    served = {move["release"] for move in pointer.history(settings)}
    indexes = set(open_store(settings).versions())
    rows = []
    for release_id in manifest.list_ids(settings):
        release = manifest.load(settings, release_id)
        rows.append(
            {
                "id": release.id,
                "base_model": release.base_model.name,
                "adapter": release.adapter.id if release.adapter else None,
                "prompt": release.prompt.digest,
                "index": release.index,
                "created": release.created,
                "status": _status(release, current, served),
                "provisional": release.provisional,
                "runnable": not _missing(settings, release, indexes),
            }
        )
    return sorted(rows, key=lambda row: (row["created"], row["id"]), reverse=True)


def show(settings: Settings, release_id: str) -> dict[str, Any]:
    """The manifest of a release with its status and the moves that concern it, as plain JSON."""
    release = manifest.load(settings, release_id)
    moves = pointer.history(settings)
    served = {move["release"] for move in moves}
    return {
        **release.to_json(),
        "status": _status(release, pointer.current(settings), served),
        "missing": _missing(settings, release, set(open_store(settings).versions())),
        "moves": [move for move in moves if release.id in (move["release"], move["previous"])],
    }


def diff(settings: Settings, before: str, after: str) -> list[Difference]:
    """The parts in which two releases differ; none where they are the same release."""
    parts = [_parts(manifest.load(settings, release_id)) for release_id in (before, after)]
    return [
        Difference(part=name, before=parts[0][name], after=parts[1][name])
        for name in PARTS
        if parts[0][name] != parts[1][name]
    ]


def promote(
    settings: Settings, release_id: str, *, expected: str | None = None, reason: str = ""
) -> tuple[str, bool]:
    """Put a release into production.

    Args:
        release_id: an id, or its unambiguous beginning.
        expected: the release that must be current; by default the one that is.

    Returns:
        The release's whole id, and whether the pointer moved.

    Raises:
        PromotionConflict: `expected` is not current.
        HeadwaterError: there is no such release, a gate blocks it, or a part of it is gone.
    """
    release = manifest.load(settings, release_id)
    before = (
        manifest.load(settings, expected).id if expected is not None else pointer.current(settings)
    )
    missing = _missing(settings, release, set(open_store(settings).versions()))
    if missing:
        raise HeadwaterError(
            f"Release {short(release.id)} can't serve: {', '.join(missing)} is gone.",
            mend="Choose one that `headwater releases list` calls runnable.",
        )
    manifest.verify(settings, release)
    moved = pointer.promote(settings, release.id, before, actor=getuser(), reason=reason)
    return release.id, moved


def rollback(settings: Settings, *, reason: str = "") -> tuple[str, str]:
    """Put the release that served before the current one back into production.

    Two rollbacks in a row go two releases back, not to and fro.

    Returns:
        The release that serves now, and the one that was taken back.

    Raises:
        HeadwaterError: there is no earlier release, or it cannot serve any more.
    """
    current = pointer.current(settings)
    earlier = _before(pointer.history(settings))
    if current is None or earlier is None:
        raise HeadwaterError(
            "There is no earlier release to go back to.",
            mend="`headwater releases list` shows what there is; promote one of them.",
        )
    promote(settings, earlier, expected=current, reason=reason or f"rollback of {short(current)}")
    return earlier, current


def _before(moves: list[dict[str, Any]]) -> str | None:
    """What served before the present release, with releases that were taken back left out."""
    stack: list[str] = []
    for move in moves:
        if move["release"] in stack:  # a move back: what came after it is undone
            del stack[stack.index(move["release"]) :]
        stack.append(move["release"])
    return stack[-2] if len(stack) > 1 else None


def _status(release: Release, current: str | None, served: set[str]) -> str:
    if release.id == current:
        return "current"
    if release.blocked:
        return "blocked"
    return "earlier" if release.id in served else "ready"


def _missing(settings: Settings, release: Release, indexes: set[str]) -> list[str]:
    """Parts of a release that are not on the disk any more."""
    files = [file for file in release.files if not (settings.root / file).is_file()]
    return files if release.index in indexes else [*files, f"index {short(release.index)}"]


def _parts(release: Release) -> Mapping[str, Any]:
    value = release.to_json()
    return {
        **value,
        "base_model": release.base_model.digest,
        "adapter": release.adapter and release.adapter.id,
    }
