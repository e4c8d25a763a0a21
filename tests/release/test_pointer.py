import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
from headwater.release import manifest, pointer
from headwater.release.manifest import Release
from headwater.settings import Settings

Make = Callable[..., Release]


@pytest.fixture
def three(settings: Settings, make_release: Make) -> list[str]:
    return [manifest.save(settings, make_release(index=name)).id for name in ("1", "2", "3")]


def test_forward_and_back(settings: Settings, three: list[str]) -> None:
    first, second, _ = three
    assert pointer.current(settings) is None
    assert pointer.promote(settings, first, None)
    assert pointer.promote(settings, second, first, actor="build")
    assert pointer.promote(settings, first, second, actor="on-call")
    assert pointer.current(settings) == first
    assert [(m["sequence"], m["release"], m["previous"], m["actor"])
            for m in pointer.history(settings)] == [
        (1, first, None, "build"), (2, second, first, "build"), (3, first, second, "on-call"),
    ]  # fmt: skip


def test_promoting_the_current_one_does_nothing(settings: Settings, three: list[str]) -> None:
    pointer.promote(settings, three[0], None)
    assert not pointer.promote(settings, three[0], None)
    assert not pointer.promote(settings, three[0], three[0])
    assert len(pointer.history(settings)) == 1


def test_a_stale_expectation_is_refused(settings: Settings, three: list[str]) -> None:
    pointer.promote(settings, three[0], None)
    for expected in (None, three[2]):
        with pytest.raises(pointer.PromotionConflict):
            pointer.promote(settings, three[1], expected)
    assert pointer.current(settings) == three[0]


def test_blocked_and_unknown_releases_are_refused(settings: Settings, make_release: Make) -> None:
    gates = ({"name": "recall_at_5", "passed": False},)
    bad = manifest.save(settings, make_release(gates=gates))
    with pytest.raises(HeadwaterError, match="recall_at_5"):
        pointer.promote(settings, bad.id, None)
    with pytest.raises(HeadwaterError, match="0 releases"):
        pointer.promote(settings, "f" * 64, None)
    assert pointer.current(settings) is None


def test_a_move_killed_before_the_pointer_is_no_history(
    settings: Settings, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer.promote(settings, three[0], None)

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pointer, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            pointer.promote(settings, three[1], three[0])
    assert pointer.current(settings) == three[0]
    assert [move["release"] for move in pointer.history(settings)] == [three[0]]
    pointer.promote(settings, three[2], three[0])
    assert [move["release"] for move in pointer.history(settings)] == [three[0], three[2]]


def test_a_torn_line_harms_no_other(settings: Settings, three: list[str]) -> None:
    pointer.promote(settings, three[0], None)
    path = settings.releases / "history.jsonl"
    with path.open("a") as file:
        file.write('{"sequence": 2, "rele')
    pointer.promote(settings, three[1], three[0])
    assert [move["release"] for move in pointer.history(settings)] == three[:2]
    assert len(path.read_text().splitlines()) == 3


def _race(home: Path, release: str, expected: str, start: object, won: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    try:
        moved = pointer.promote(Settings(home=home), release, expected)
    except pointer.PromotionConflict:
        moved = False
    won.put((release, moved))  # type: ignore[attr-defined]


def test_of_racing_processes_one_wins(settings: Settings, make_release: Make) -> None:
    ids = [manifest.save(settings, make_release(index=str(n))).id for n in range(7)]
    pointer.promote(settings, ids[0], None)
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(6), context.Queue()
    racers = [
        context.Process(target=_race, args=(settings.home, name, ids[0], start, won))
        for name in ids[1:]
    ]
    for racer in racers:
        racer.start()
    results = dict(won.get(timeout=30) for _ in racers)
    for racer in racers:
        racer.join()
    winners = [name for name, moved in results.items() if moved]
    assert winners == [pointer.current(settings)]
    lines = (settings.releases / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["release"] for line in lines] == [ids[0], winners[0]]
