"""What people said becomes training rows and preference pairs, with the traces it came from."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headwater.datasets.feedback import read_choices, read_corrections
from headwater.datasets.firewall import leaks
from headwater.datasets.golden import read_golden
from headwater.datasets.preferences import build_preference_pairs, pair_leaks, read_pairs
from headwater.datasets.sft import read_rows
from headwater.lake import Lake, rows_to_table
from headwater.records import GoldenItem
from tests.datasets.test_sft import build, fill, manual

DAY = "2026-01-02"
START = datetime(2026, 1, 2, tzinfo=UTC)
QUESTION = "How do I stop the boiler from whistling at night?"
ANSWER = "Boilers whistle because they are happy machines."
BETTER = "Descale the heating element and bleed the air from its return pipe."


def request(trace: str, chunk_ids: Sequence[str], **changes: Any) -> dict[str, Any]:
    return {
        "day": DAY, "trace": trace, "time": START, "release": "r", "question": QUESTION,
        "answer": ANSWER, "status": "ok", "streamed": False, "refused": False,
        "uris": ["u"] * len(chunk_ids), "scores": [0.5] * len(chunk_ids), "chunk_ids": chunk_ids,
        "prompt_tokens": 1, "completion_tokens": 1, "retrieve_ms": 1.0, "generate_ms": 1.0,
        "total_ms": 2.0,
    } | changes  # fmt: skip


def said(trace: str, at: int = 0, **words: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("thumb", "correction", "rival", "rival_release", "preferred"))
    return {
        "day": DAY, "id": f"{trace}-{at}", "time": START + timedelta(seconds=at), "trace": trace,
        "release": "r", "user": "", "tags": [], **nothing, **words,
    }  # fmt: skip


def log(lake: Lake, requests: Sequence[dict[str, Any]], feedback: Sequence[dict[str, Any]]) -> None:
    lake.replace("requests", rows_to_table("requests", requests), keys=[DAY])
    lake.replace("feedback", rows_to_table("feedback", feedback), keys=[DAY])


@pytest.fixture
def chunks() -> list[str]:
    return [str(row["id"]) for row in manual()]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    fill(lake, manual())
    return lake


def golden(question: str, reference: str = "Something in other words.") -> GoldenItem:
    return GoldenItem(
        id="g", question=question, reference=reference, uris=("u",), category="c", provisional=False
    )


def test_a_correction_becomes_a_row_with_its_trace_on_the_first_chunk_that_is_left(
    lake: Lake, chunks: list[str]
) -> None:
    log(lake, [request("t", ["gone", chunks[4], chunks[5]])], [said("t", correction=BETTER)])
    stats = build(lake)
    [row] = [row for row in read_rows(lake) if row.kind == "correction"]
    assert (row.question, row.answer, row.trace) == (QUESTION, BETTER, "t")
    assert row.chunk_id == chunks[4]
    assert row.chunk_id in row.context
    assert (stats.by_kind["correction"], stats.dropped_gone) == (1, 0)
    assert {row.trace for row in read_rows(lake) if row.kind != "correction"} == {None}


def test_corrections_come_before_all_other_rows(lake: Lake, chunks: list[str]) -> None:
    log(lake, [request("t", [chunks[0]])], [said("t", correction=BETTER)])
    build(lake, max_rows=3)
    assert "correction" in [row.kind for row in read_rows(lake)]


def test_the_last_correction_of_a_person_counts(lake: Lake, chunks: list[str]) -> None:
    words = [said("t", 1, correction="First."), said("t", 9, correction="Last."), said("t", 5)]
    log(lake, [request("t", [chunks[0]])], [words[1], words[0], words[2]])
    assert [given.correction for given in read_corrections(lake)] == ["Last."]
    other = said("t", 3, correction="Another person's.", user="bob")
    log(lake, [request("t", [chunks[0]])], [*words, other])
    assert len(read_corrections(lake)) == 2
    build(lake)
    assert [row.answer for row in read_rows(lake) if row.kind == "correction"] == ["Last."]


def test_a_correction_without_a_known_request_or_passage_is_left_out(
    lake: Lake, chunks: list[str]
) -> None:
    log(
        lake,
        [request("t1", ["gone"])],
        [said("t1", correction=BETTER), said("t2", correction=BETTER)],
    )
    stats = build(lake)
    assert (stats.by_kind.get("correction", 0), stats.dropped_gone) == (0, 1)
    assert build_preference_pairs(lake).dropped_gone == 1


@pytest.mark.parametrize("item", [golden(QUESTION), golden("Something else here.", BETTER)])
def test_a_correction_near_a_golden_item_never_teaches(
    lake: Lake, chunks: list[str], item: GoldenItem
) -> None:
    fill(lake, manual(), [item])
    rival = said("t", 1, rival=BETTER, preferred="rival", rival_release="r")
    log(lake, [request("t", [chunks[0]])], [said("t", correction=BETTER), rival])
    assert build(lake).dropped_leaks >= 1
    assert leaks(read_rows(lake), read_golden(lake)) == []
    stats = build_preference_pairs(lake)
    assert (stats.rows, stats.dropped_leaks) == (0, 1)
    assert pair_leaks(read_pairs(lake), read_golden(lake)) == []


def test_ratings_and_corrections_become_pairs_with_their_traces(
    lake: Lake, chunks: list[str]
) -> None:
    def rated(trace: str, preferred: str, rival: str) -> dict[str, Any]:
        return said(trace, preferred=preferred, rival=rival, rival_release="r2")

    requests = [request(trace, [chunks[0], "gone", chunks[1]]) for trace in "abcde"]
    words = [
        said("a", correction=BETTER),
        rated("b", "rival", "Because of lime."),
        rated("c", "answer", "Nobody knows."),
        rated("d", "equal", "Who can tell?"),
        rated("e", "skip", "What else?"),
    ]
    log(lake, requests, words)
    stats = build_preference_pairs(lake)
    pairs = {pair.traces: pair for pair in read_pairs(lake)}
    assert stats.by_source == {"correction": 1, "rating": 2}
    assert set(pairs) == {("a",), ("b",), ("c",)}
    assert (pairs["a",].chosen, pairs["a",].rejected) == (BETTER, ANSWER)
    assert (pairs["b",].chosen, pairs["b",].rejected) == ("Because of lime.", ANSWER)
    assert (pairs["c",].chosen, pairs["c",].rejected) == (ANSWER, "Nobody knows.")
    assert {pair.context for pair in pairs.values()} == {(chunks[0], chunks[1])}


def test_people_who_disagree_cancel_out_and_the_majority_wins(
    lake: Lake, chunks: list[str]
) -> None:
    votes = {"ann": "rival", "bob": "answer"}

    def vote() -> None:
        words = [
            said("t", at, user=user, preferred=choice, rival="R.", rival_release="r")
            for at, (user, choice) in enumerate(votes.items())
        ]
        log(lake, [request("t", [chunks[0]])], words)

    vote()
    assert read_choices(lake) == []
    votes["eve"] = "rival"
    vote()
    [choice] = read_choices(lake)
    assert (choice.winner, choice.loser) == ("R.", ANSWER)


def test_the_same_pair_of_two_traces_is_one(lake: Lake, chunks: list[str]) -> None:
    log(
        lake,
        [request("t1", [chunks[0]]), request("t2", [chunks[0]])],
        [said("t1", correction=BETTER), said("t2", correction=BETTER)],
    )
    assert build_preference_pairs(lake).rows == 1
    assert read_pairs(lake)[0].traces == ("t1", "t2")


def test_the_same_feedback_writes_nothing_anew(lake: Lake, chunks: list[str]) -> None:
    log(lake, [request("t", [chunks[0]])], [said("t", correction=BETTER)])
    first = build_preference_pairs(lake)
    version = lake.version("preference_pairs")
    assert build_preference_pairs(lake) == first
    assert lake.version("preference_pairs") == version


def test_a_golden_item_in_a_pair_is_found_whichever_answer_holds_it(
    lake: Lake, chunks: list[str]
) -> None:
    log(lake, [request("t", [chunks[0]])], [said("t", correction=BETTER)])
    build_preference_pairs(lake)
    [pair] = read_pairs(lake)
    for item in (golden(QUESTION), golden("Else?", BETTER), golden("Else?", ANSWER)):
        assert {leak.row_id for leak in pair_leaks([pair], [item])} == {pair.id}, item
