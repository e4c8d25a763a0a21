from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
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


def test_a_report_from_before_prompts_were_kept_is_made_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    store.save(settings, store.GENERATION, GENERATION, index="i1", adapter="a1")
    with pytest.raises(HeadwaterError, match="generation_report"):
        store.judged_prompt(settings)
