import os
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError, IntegrityError
from headwater.evaluation import store
from headwater.settings import Settings
from tests.evaluation.examples import generation_report, retrieval_report

RETRIEVAL = retrieval_report({"dense": [1, None], "bm25": [2, 1], "fused": [1, None]})
GENERATION = generation_report(
    {"base": [2.0, 1.0], "adapter": [1.7, 1.1]}, {"base": [True, True], "adapter": [True, False]}
)


def test_the_latest_report_is_read_back_whole(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for report in (GENERATION, RETRIEVAL):
        name = store.RETRIEVAL if report is RETRIEVAL else store.GENERATION
        store.save(settings, name, report)
    assert store.latest_retrieval(settings) == RETRIEVAL
    assert store.latest_generation(settings) == GENERATION
    assert store.latest_generation(settings).digest == GENERATION.digest


def test_before_the_first_evaluation(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    for read in (store.latest_retrieval, store.latest_generation):
        with pytest.raises(HeadwaterError, match="headwater build"):
            read(settings)


def test_a_release_takes_what_both_reports_judged(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store.save(settings, store.RETRIEVAL, RETRIEVAL, index="i1")
    store.save(settings, store.GENERATION, GENERATION, index="i1", adapter="a1", prompt="p1")
    assert store.judged_index(settings, "a1") == "i1"
    assert store.judged_prompt(settings) == "p1"
    with pytest.raises(HeadwaterError, match="judge"):
        store.judged_index(settings, "a2")
    store.save(settings, store.RETRIEVAL, RETRIEVAL, index="i2")
    with pytest.raises(HeadwaterError, match="judge"):
        store.judged_index(settings, "a1")


def test_reports_are_kept_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    first, second = (store.keep(settings, report) for report in (RETRIEVAL, GENERATION))
    assert (first, second) == (RETRIEVAL.digest, GENERATION.digest)
    store.save(settings, store.RETRIEVAL, retrieval_report({m: [] for m in RETRIEVAL.rows[0].rank}))
    assert store.kept_retrieval(settings, first) == RETRIEVAL.rows
    assert store.kept_generation(settings, second) == GENERATION.rows
    assert store.kept_retrieval(settings, second) is None
    monkeypatch.setattr(store, "RETRIEVAL_REPORT_VERSION", 99)
    assert store.kept_retrieval(settings, first) is None, "made by another evaluation"


def test_a_kept_report_is_what_its_name_says(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    digest = store.keep(settings, RETRIEVAL)
    (path,) = tmp_path.rglob(f"{digest}.json")
    path.write_text(path.read_text().replace('"fused": 1', '"fused": 2'))
    with pytest.raises(IntegrityError, match="Delete it"):
        store.kept_retrieval(settings, digest)


def test_reports_that_nothing_names_go_after_a_day(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    named, other = (store.keep(settings, report) for report in (RETRIEVAL, GENERATION))
    assert store.prune(settings, {named}) == 0, "a run may be about to name it"
    for path in tmp_path.rglob("kept/*.json"):
        os.utime(path, (0, 0))
    assert store.prune(settings, {named}) == 1
    assert store.kept_generation(settings, other) is None
    assert store.kept_retrieval(settings, named) == RETRIEVAL.rows


def test_a_report_from_before_prompts_were_kept_is_made_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store.save(settings, store.GENERATION, GENERATION, index="i1", adapter="a1")
    with pytest.raises(HeadwaterError, match="generation_report"):
        store.judged_prompt(settings)
