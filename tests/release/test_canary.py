import random
from dataclasses import replace

import pytest

from headwater.release.canary import Judge, Outcome, load_policy, need, ungrounded
from headwater.release.traffic import Spread, Traffic

POLICY = load_policy()
GOOD = Outcome(error=False, refused=False, seconds=1.0, ungrounded=0.4)


def outcome(source: random.Random, **fields: object) -> Outcome:
    """An ordinary answer, with the noise that answers have."""
    usual = Outcome(
        error=source.random() < 0.01,
        refused=source.random() < 0.05,
        seconds=source.lognormvariate(0.0, 0.5),
        ungrounded=min(1.0, max(0.0, source.gauss(0.4, 0.2))),
    )
    return replace(usual, **fields)


def run(source: random.Random, requests: int, *, share: float = 0.05, **bad: object) -> tuple:
    """Verdict, requests until then, and how many of them met the canary."""
    judge, met, weight = Judge(POLICY), 0, share
    for number in range(1, requests + 1):
        canary = source.random() < weight
        met += canary
        judge.add(outcome(source, **(bad if canary else {})), canary=canary)
        found = judge.judgement()
        weight = max(weight, found.weight)
        if found.verdict != "continue":
            return found, number, met
    return judge.judgement(), requests, met


@pytest.mark.parametrize(
    ("signal", "bad"),
    [
        ("error", {"error": True}),
        ("refused", {"refused": True, "ungrounded": None}),
        ("slow", {"seconds": 20.0}),
        ("ungrounded", {"ungrounded": 1.0}),
        ("leaked", {"leaked": True}),
    ],
)
def test_a_saboteur_is_taken_back_by_its_signal(signal, bad):
    found, requests, met = run(random.Random(1), 5_000, **bad)
    assert (found.verdict, found.signal) == ("take_back", signal)
    assert met <= POLICY.stage_answers and met / requests < 0.08
    assert signal in found.reason


def test_what_never_happens_to_the_champion_is_told_after_a_few_answers():
    spread, now = Spread(random.Random(2)), Traffic(champion="a", canary="b", weight=0.05)
    for bad in ({"leaked": True}, {"seconds": 20.0}):
        judge, source, met, number = Judge(POLICY), random.Random(2), 0, 0
        while judge.judgement().verdict == "continue":
            number += 1
            canary = spread.arm(now) == "canary"
            met += canary
            judge.add(outcome(source, error=False, **(bad if canary else {})), canary=canary)
        assert judge.judgement().verdict == "take_back"
        assert number <= 150 and met / number <= 0.05, bad


def test_an_equal_release_is_never_taken_back_and_is_promoted():
    verdicts = [run(random.Random(seed), 6_000)[0].verdict for seed in range(60)]
    assert verdicts.count("take_back") == 0
    assert verdicts.count("promote") > 50


def test_a_better_release_is_promoted():
    found, _, _ = run(random.Random(5), 6_000, ungrounded=0.2, error=False)
    assert found.verdict == "promote" and "not worse" in found.reason


def test_a_release_that_is_a_little_worse_is_rarely_promoted():
    """Ungrounded by 0.3 more than the champion, where 0.1 would not matter."""
    promoted = sum(
        run(random.Random(seed), 3_000, ungrounded=0.7)[0].verdict == "promote"
        for seed in range(30)
    )
    assert promoted == 0


def test_the_weight_rises_with_the_answers():
    judge = Judge(POLICY)
    seen = []
    for _ in range(3):
        seen.append(judge.judgement().weight)
        for _ in range(POLICY.stage_answers):
            judge.add(replace(GOOD, refused=True), canary=True)  # no champion answers: no verdict
    assert seen == list(POLICY.weights)


def test_slow_is_relative_to_the_champion_not_to_a_clock():
    judge = Judge(POLICY)
    for _ in range(400):
        judge.add(replace(GOOD, seconds=30.0), canary=False)
        judge.add(replace(GOOD, seconds=31.0), canary=True)
    assert judge.judgement().evidence["slow"]["harm"] <= 1


def test_what_the_champion_took_before_tells_a_slow_canary_at_once():
    for before, tells in (([1.0] * 30, True), ([], False)):
        judge = Judge(POLICY, before)
        judge.add(GOOD, canary=False)
        judge.add(replace(GOOD, seconds=9.0), canary=True)
        assert (judge.judgement().evidence["slow"]["harm"] > 1) is tells


def test_who_needs_a_canary():
    assert need(POLICY, ["adapter", "index"], 500).canary
    assert not need(POLICY, ["index"], 500).canary
    few = need(POLICY, ["adapter"], POLICY.recent_answers - 1)
    assert not few.canary and "too few" in few.why


def test_ungrounded_is_the_part_of_words_that_no_passage_holds():
    assert ungrounded("The ferry leaves at seven", ["Ferry: leaves the pier at Seven."]) == 0
    assert ungrounded("ferry zebra", ["the ferry"]) == 0.5
    assert ungrounded("", ["the ferry"]) == 1
