import json
from collections.abc import Callable
from random import Random

import pytest

from headwater.errors import HeadwaterError
from headwater.release import manifest, pointer, traffic
from headwater.release.manifest import Release
from headwater.settings import Settings

Make = Callable[..., Release]


@pytest.fixture
def two(settings: Settings, make_release: Make) -> list[str]:
    """A champion and another release."""
    made = [manifest.save(settings, make_release(index=name)).id for name in ("a", "b")]
    pointer.promote(settings, made[0], None)
    return made


def test_users_stay_with_their_arm_and_a_greater_weight_only_adds(
    settings: Settings, two: list[str]
) -> None:
    users = [f"user {number}" for number in range(4000)]
    assert {traffic.read(settings).arm(user) for user in users} == {"champion"}
    small = traffic.start_canary(settings, two[1], 0.05)
    assert traffic.read(settings) == small and small.champion == two[0]
    in_canary = {user for user in users if small.arm(user) == "canary"}
    assert 140 < len(in_canary) < 260
    traffic.set_weight(settings, two[1], 0.25)
    larger = {user for user in users if traffic.read(settings).arm(user) == "canary"}
    assert in_canary < larger and 900 < len(larger) < 1100


@pytest.mark.parametrize("weight", [0.05, 0.25, 0.5, 1.0])
def test_of_requests_that_name_nobody_the_canary_never_had_more_than_its_share(
    weight: float,
) -> None:
    spread, now = (
        traffic.Spread(Random(3)),
        traffic.Traffic(champion="a", canary="b", weight=weight),
    )
    canary = 0
    for number in range(1, 2001):
        canary += spread.arm(now) == "canary"
        assert canary <= weight * number
    assert canary >= 0.6 * weight * 2000
    assert spread.arm(traffic.Traffic(champion="a")) == "champion"


def test_another_canary_begins_with_a_whole_gap() -> None:
    spread = traffic.Spread(Random(3))
    for name in ("b", "c"):
        now = traffic.Traffic(champion="a", canary=name, weight=0.05)
        assert {spread.arm(now) for _ in range(19)} == {"champion"}


def test_a_promoted_canary_is_the_champion(settings: Settings, two: list[str]) -> None:
    traffic.start_canary(settings, two[1], 0.1)
    assert traffic.end_canary(settings, two[1], "promoted", reason="no worse")
    assert traffic.read(settings) == traffic.Traffic(champion=two[1])
    move = pointer.history(settings)[-1]
    assert (move["release"], move["actor"], move["reason"]) == (two[1], "canary", "no worse")
    assert not traffic.end_canary(settings, two[1], "taken_back"), "it has ended"


def test_a_canary_taken_back_is_remembered_with_its_evidence(
    settings: Settings, two: list[str]
) -> None:
    traffic.start_canary(settings, two[1], 0.1)
    assert traffic.end_canary(settings, two[1], "taken_back", reason="slow", evidence={"n": 3})
    assert traffic.read(settings).canary is None and pointer.current(settings) == two[0]
    assert traffic.taken_back(settings) == {two[1]: "slow"}
    last = traffic.events(settings)[-1]
    assert last["evidence"] == {"n": 3} and last["change"] == "taken_back"
    traffic.start_canary(settings, two[1], 0.1, reason="a person insists")
    assert traffic.taken_back(settings) == {}


def test_another_champion_ends_the_canary(
    settings: Settings, make_release: Make, two: list[str]
) -> None:
    third = manifest.save(settings, make_release(index="c")).id
    traffic.start_canary(settings, two[1], 0.1)
    with pytest.raises(traffic.TrafficConflict):
        traffic.start_canary(settings, third, 0.1)
    pointer.promote(settings, third, two[0])
    assert traffic.read(settings) == traffic.Traffic(champion=third)
    assert not traffic.set_weight(settings, two[1], 0.5)


def test_what_cannot_be_a_canary_is_refused(
    settings: Settings, make_release: Make, two: list[str]
) -> None:
    gates = ({"name": "recall_at_5", "passed": False},)
    blocked = manifest.save(settings, make_release(index="x", gates=gates))
    for release, weight, what in (
        (two[0], 0.1, "no other release"),
        (two[1], 0.0, "no share"),
        (blocked.id, 0.1, "recall_at_5"),
    ):
        with pytest.raises(HeadwaterError, match=what):
            traffic.start_canary(settings, release, weight)
    assert traffic.events(settings) == []


def test_a_kill_between_pointer_and_line_leaves_the_new_champion(
    settings: Settings, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic.start_canary(settings, two[1], 0.1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(traffic, "append_json", killed)
        with pytest.raises(KeyboardInterrupt):
            traffic.end_canary(settings, two[1], "promoted")
    assert traffic.read(settings) == traffic.Traffic(champion=two[1])


def test_indexes_of_all_that_may_serve_are_kept(
    settings: Settings, make_release: Make, two: list[str]
) -> None:
    shadow = manifest.save(settings, make_release(index="c")).id
    traffic.start_canary(settings, two[1], 0.1)
    traffic.set_shadow(settings, shadow)
    assert traffic.indexes_in_use(settings) == {"a", "b", "c"}
    traffic.set_shadow(settings, None)
    assert traffic.indexes_in_use(settings) == {"a", "b"}


def test_a_torn_line_is_no_event(settings: Settings, two: list[str]) -> None:
    traffic.start_canary(settings, two[1], 0.1)
    with (settings.releases / "traffic.jsonl").open("a") as file:
        file.write(json.dumps({"change": "promoted"})[:9])
    traffic.set_weight(settings, two[1], 0.2)
    assert [event["change"] for event in traffic.events(settings)] == ["canary", "weight"]
