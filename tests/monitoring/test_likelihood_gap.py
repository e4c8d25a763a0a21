"""Answers that chunks give are scored as serving would prompt for them, on the tiny model."""

from pathlib import Path

from headwater.base_model import BaseModel
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.evaluation.cache import ResultCache
from headwater.lake import Lake
from headwater.monitoring.likelihood_gap import nll_gap
from tests.datasets.test_sft import SUBJECTS, Overlap, build, fill, manual

QUESTIONS = [f"After how many days of use must the {name} be cleaned?" for name in SUBJECTS]


def gap(lake: Lake, base: BaseModel, cache: Path, questions: list[str]) -> object:
    return nll_gap(
        lake, questions, retriever=Overlap(lake), base=base, adapter=None, prompt=DEFAULT_PROMPT,
        cache=ResultCache(cache), threads=2,
    )  # type: ignore[arg-type]  # fmt: skip


def test_answers_of_both_kinds_are_scored(tmp_path: Path, base: BaseModel) -> None:
    lake = Lake(tmp_path / "lake")
    fill(lake, manual())
    build(lake)
    found = gap(lake, base, tmp_path / "cache", QUESTIONS)
    assert isinstance(found, tuple)
    drifted, known = found
    assert 5 < drifted < 20 and 5 < known < 20  # a random model: about ln(49,152) a token
    assert gap(lake, base, tmp_path / "cache", QUESTIONS) == found


def test_questions_that_no_chunk_answers_are_not_scored(tmp_path: Path, base: BaseModel) -> None:
    lake = Lake(tmp_path / "lake")
    fill(lake, manual())
    build(lake)
    assert gap(lake, base, tmp_path / "cache", ["Who won in Oslo?"] * 9 + QUESTIONS[:3]) is None
