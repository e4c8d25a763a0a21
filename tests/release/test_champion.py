"""A candidate meets the release in production: when it is assembled, and again when it is released."""

import os
from dataclasses import replace

import dagster as dg
import pytest

from assets.checks.evaluation import generation_gates, retrieval_gates
from assets.release import release as release_asset
from headwater.errors import HeadwaterError
from headwater.evaluation import store
from headwater.release import manifest, pointer
from headwater.release.assemble import assemble, save_candidate
from headwater.release.champion import compare_again, find_champion, forget_reports, reports_of
from headwater.release.manifest import Release
from headwater.settings import Settings
from resources.environment import SettingsResource
from tests.evaluation.examples import generation_report, retrieval_report
from tests.release.conftest import PROMPT, write_adapter, write_base

SIZE = 20
RELATIVE = {"champion_nll", "champion_ndcg", "champion_recall_at_5", "champion_citations"}


def candidate(settings: Settings, weights: str, nll: float) -> Release:
    """A candidate with an adapter of its own that reaches this NLL; the base has 2.0."""
    ranks = [1] * SIZE
    found = retrieval_report({"dense": ranks, "bm25": ranks, "fused": ranks})
    arms = {"base": [2.0] * SIZE, "adapter": [nll] * SIZE}
    written = generation_report(arms, {arm: [True] * SIZE for arm in arms})
    base = write_base(settings)
    store.save(settings, store.RETRIEVAL, found)
    store.save(settings, store.GENERATION, written, base=base.digest)
    made = assemble(
        settings, base=base, adapter=write_adapter(settings, weights.encode()), prompt=PROMPT,
        index="index1", run_id="run", commit="abc",
    )  # fmt: skip
    save_candidate(settings, made)
    return made


def promote(settings: Settings, release: Release) -> Release:
    saved = manifest.save(settings, release)
    pointer.promote(settings, saved.id, pointer.current(settings))
    return saved


def relative_gates(release: Release) -> dict[str, dict]:
    return {gate["name"]: gate for gate in release.gates if gate["name"] in RELATIVE}


def test_the_first_release_has_nobody_to_be_compared_with(settings: Settings) -> None:
    assert find_champion(settings) is None
    first = candidate(settings, "first", 1.5)
    assert first.blocked == [] and first.evaluation["champion"] is None
    assert {gate["value"] for gate in relative_gates(first).values()} == {None}
    promote(settings, first)
    champion = find_champion(settings)
    assert champion is not None and champion.id == first.id
    assert champion.generation == store.latest_generation(settings).rows
    assert reports_of(manifest.load(settings, first.id)) == {
        store.RETRIEVAL: store.latest_retrieval(settings).digest,
        store.GENERATION: store.latest_generation(settings).digest,
    }


def test_better_than_the_base_and_worse_than_the_champion_is_blocked(settings: Settings) -> None:
    first = promote(settings, candidate(settings, "first", 1.5))
    worse = candidate(settings, "worse", 1.6)
    assert worse.blocked == ["champion_nll"]
    gate = relative_gates(worse)["champion_nll"]
    assert gate["value"] == pytest.approx(0.1) and gate["against"]["champion"] == first.id
    assert gate["examples"][0]["value"] == "1.500 → 1.600 nats per token (+0.100)"
    manifest.save(settings, worse)
    with pytest.raises(HeadwaterError, match=r"champion_nll \(nll \+0.100 .* by more than 0.005"):
        pointer.promote(settings, worse.id, first.id)


def test_the_checks_say_the_same(settings: Settings) -> None:
    first = promote(settings, candidate(settings, "first", 1.5))
    candidate(settings, "worse", 1.6)
    resource = SettingsResource(home=str(settings.root))
    results = {
        result.check_name: result
        for check in (retrieval_gates, generation_gates)
        for result in check(resource)
    }
    declared = {
        key.name for check in (retrieval_gates, generation_gates) for key in check.check_keys
    }
    assert set(results) == declared >= RELATIVE
    assert [name for name, result in results.items() if not result.passed] == ["champion_nll"]
    blocked = results["champion_nll"]
    assert blocked.metadata["champion"].value == first.id
    assert blocked.metadata["questions"].value == SIZE
    assert "1.500 → 1.600" in blocked.metadata["examples"].value
    assert "p_value" not in results["nll_delta"].metadata


def test_a_champion_that_came_meanwhile_is_met_at_release(settings: Settings) -> None:
    promote(settings, candidate(settings, "first", 1.5))
    between = candidate(settings, "between", 1.3)
    good = candidate(settings, "good", 1.4)
    assert good.blocked == [] and compare_again(settings, good) == good
    promote(settings, between)
    again = compare_again(settings, good)
    assert again.blocked == ["champion_nll"] and again.id == good.id
    assert again.evaluation["champion"] == between.id
    assert len(again.gates) == len(good.gates)
    with pytest.raises(dg.Failure, match=r"champion_nll \(nll \+0.100"):
        release_asset(SettingsResource(home=str(settings.root)))
    assert good.id not in manifest.list_ids(settings)
    # A rollback lets it pass: what is asked is whether it is worse than what serves.
    first = str(pointer.history(settings)[0]["release"])
    pointer.promote(settings, first, between.id)
    assert compare_again(settings, again).blocked == []


def test_what_is_the_champion_already_is_not_compared_with_itself(settings: Settings) -> None:
    first = promote(settings, candidate(settings, "first", 1.5))
    second = promote(settings, candidate(settings, "second", 1.4))
    assert second.evaluation["champion"] == first.id
    assert compare_again(settings, second) == second


def test_a_champion_of_before_has_no_reports(settings: Settings) -> None:
    old = candidate(settings, "first", 1.5)
    named = {k: v for k, v in old.evaluation.items() if k not in ("reports", "champion")}
    promote(settings, replace(old, evaluation=named))
    second = candidate(settings, "second", 1.9)
    assert second.blocked == []
    details = {gate["detail"] for gate in relative_gates(second).values()}
    assert len(details) == 1 and "no kept report" in details.pop()


def test_reports_of_releases_and_of_the_candidate_stay(settings: Settings) -> None:
    first = promote(settings, candidate(settings, "first", 1.5))
    dropped = candidate(settings, "dropped", 1.4)
    last = candidate(settings, "last", 1.3)
    for path in settings.reports.rglob("kept/*.json"):
        os.utime(path, (0, 0))
    assert forget_reports(settings) == 1
    for each, kept in ((first, True), (dropped, False), (last, True)):
        digest = reports_of(each)[store.GENERATION]
        assert (store.kept_generation(settings, digest) is not None) is kept
    promote(settings, dropped)
    with pytest.raises(HeadwaterError, match="are gone"):
        compare_again(settings, replace(last, evaluation={**last.evaluation, "reports": {}}))
