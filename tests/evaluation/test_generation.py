"""Over the tiny random model, with the real engine and a real PEFT adapter."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from headwater.base_model import BaseModel, load_torch
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.engine import Engine
from headwater.evaluation import generation
from headwater.evaluation.cache import ResultCache
from headwater.evaluation.generation import (
    GenerationReport,
    GenerationSettings,
    evaluate_generation,
)
from headwater.evaluation.likelihood import Scorer, reference_nll
from headwater.files import write_json
from headwater.records import GoldenItem
from tests.evaluation.examples import generation_report, golden, hit

SETTINGS = GenerationSettings(answers=2, provisional_answers=1, max_new_tokens=6)
PAIRS = [("<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n", "A short reference."),
         ("Another prompt", "Größe: 12 → 3")]  # fmt: skip


@pytest.fixture(scope="module")
def loaded(base: BaseModel) -> tuple[Any, Any]:
    """Model and tokenizer, read once: transformers takes seconds to read a vocabulary."""
    return load_torch(base)


@pytest.fixture(autouse=True)
def loads(loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the models that were loaded; each load gets its own copy of the weights."""
    names: list[str] = []

    def load(base: BaseModel) -> tuple[Any, Any]:
        names.append(base.digest)
        return copy.deepcopy(loaded[0]), loaded[1]

    monkeypatch.setattr("headwater.evaluation.likelihood.load_torch", load)
    return names


@pytest.fixture(scope="module")
def adapter(loaded: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT adapter with weights that change answers, as training saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = copy.deepcopy(loaded[0])
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], layers_to_transform=[1],
        layers_pattern="layers",
    )  # fmt: skip
    torch.manual_seed(0)
    tuned = get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    folder = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(str(folder))
    write_json(folder / "adapter.json", {"weights_digest": "tuned"})
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path)


ITEMS = [golden(at) for at in range(3)] + [golden(0, provisional=True)]
CONTEXTS = {item.id: [hit(item.uris[0], text=f"{item.id} is a number.")] for item in ITEMS}


def evaluate(
    base: BaseModel, cache: ResultCache, *, items: list[GoldenItem] | None = None,
    open_engine: object = None,
) -> GenerationReport:  # fmt: skip
    return evaluate_generation(
        items or ITEMS, CONTEXTS, base=base, adapter=None, prompt=DEFAULT_PROMPT, cache=cache,
        open_engine=open_engine or (lambda: Engine(base.engine, threads=2, context=1024)),
        settings=SETTINGS, threads=2,
    )  # fmt: skip


def test_nll_is_the_loss_of_transformers_with_the_prompt_masked(loaded: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = loaded
    scorer = Scorer(model, tokenizer)
    for prompt, reference in PAIRS:
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = tokenizer(reference, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            expected = model(
                input_ids=torch.tensor([before + after]),
                labels=torch.tensor([[-100] * len(before) + after]),
            ).loss
        scores = scorer.score(prompt, reference, arms=["base"])
        assert scores["base"] == pytest.approx(float(expected), rel=1e-5)


def test_the_adapter_arm_is_what_peft_computes(
    base: BaseModel, adapter: Path, cache: ResultCache, loaded: tuple[Any, Any]
) -> None:
    from peft import PeftModel

    scores = reference_nll(PAIRS, base, adapter, cache=cache, threads=2)
    model, tokenizer = copy.deepcopy(loaded[0]), loaded[1]
    plain = [Scorer(model, tokenizer).score(*pair, arms=["base"])["base"] for pair in PAIRS]
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    expected = [Scorer(merged, tokenizer).score(*pair, arms=["x"])["x"] for pair in PAIRS]
    assert scores["base"] == plain, "the very same numbers, whichever arms are scored with it"
    assert scores["adapter"] == pytest.approx(expected, rel=1e-4)
    assert abs(expected[0] - plain[0]) > 1e-3, "the adapter does something"


def test_only_what_is_new_is_scored(
    base: BaseModel, adapter: Path, cache: ResultCache, loads: list[str]
) -> None:
    first = reference_nll(PAIRS[:1], base, adapter, cache=cache, threads=2)
    both = reference_nll(PAIRS, base, adapter, cache=cache, threads=2)
    assert both["base"][0] == first["base"][0]
    assert len(loads) == 2
    assert reference_nll(PAIRS, base, adapter, cache=cache, threads=2) == both
    assert len(loads) == 2, "all is known"
    write_json(adapter / "adapter.json", {"weights_digest": "retuned"})
    reference_nll(PAIRS, base, adapter, cache=cache, threads=2)
    assert len(loads) == 3, "another adapter"


def test_report_holds_every_question_and_a_sample_of_answers(
    base: BaseModel, cache: ResultCache
) -> None:
    report = evaluate(base, cache)
    assert [row.id for row in report.rows] == ["c000", "c001", "c002", "p000"]
    assert report.curated is not None
    assert report.provisional is not None
    assert (report.curated.items, report.curated.answered) == (3, 2)
    assert (report.provisional.items, report.provisional.answered) == (1, 1)
    assert report.curated.deltas == {}, "there is no adapter"
    answer = next(row for row in report.rows if row.answers).answers["base"]
    assert answer.tokens <= 6
    assert answer.cites_right, "the one passage shown is cited"
    assert all(row.context_right and row.nll["base"] > 0 for row in report.rows)


def test_a_killed_evaluation_resumes_to_the_same_digest(
    base: BaseModel, cache: ResultCache, tmp_path: Path
) -> None:
    undisturbed = evaluate(base, ResultCache(tmp_path / "other"))
    opened: list[int] = []

    class Dying(Engine):
        def complete(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
            if len(opened) == 1:
                raise KeyboardInterrupt
            opened.append(1)
            return super().complete(*args, **kwargs)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        evaluate(base, cache, open_engine=lambda: Dying(base.engine, threads=2, context=1024))
    resumed = evaluate(base, cache)
    assert resumed.digest == undisturbed.digest

    def never() -> Engine:
        raise AssertionError("nothing is missing, so no engine is loaded")

    again = evaluate(base, cache, open_engine=never)
    assert again == resumed, "timings too: they are those of the first time"


def test_the_digest_ignores_timings_and_sees_answers(base: BaseModel, cache: ResultCache) -> None:
    report = evaluate(base, cache)
    row = next(row for row in report.rows if row.answers)
    at = report.rows.index(row)

    def changed(**fields: object) -> str:
        answer = replace(row.answers["base"], **fields)  # type: ignore[arg-type]
        rows = list(report.rows)
        rows[at] = replace(row, answers={"base": answer})
        return replace(report, rows=tuple(rows)).digest

    assert changed(latency_ms=1e9) == report.digest
    assert changed(text="another") != report.digest


def test_deltas_are_adapter_minus_base() -> None:
    report = generation_report(
        {"base": [2.0, 3.0], "adapter": [1.5, 2.0]},
        {"base": [False, False], "adapter": [True, False]},
    )
    assert report.curated is not None
    assert report.curated.deltas["nll"].mean == -0.75
    assert report.curated.deltas["cites_right"].mean == 0.5
    assert report.curated.arms["base"].nll.mean == 2.5
    assert report.curated.arms["adapter"].latency_ms_p50 == 100.5


TEXTS = [
    ("The loop runs until the condition is false.", "Loops running until conditions are false"),
    ("", "reference"), ("same words", "same words"), ("größe zählt", "die Größe"), ("a b", "c d"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "reference"), TEXTS)
def test_text_measures_are_the_reference_implementations(answer: str, reference: str) -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = scorer.score(target=reference, prediction=answer)["rougeL"].fmeasure
    assert generation.rouge_l(answer, reference) == pytest.approx(expected)
    expected = CHRF().sentence_score(answer, [reference]).score
    assert generation.chrf(answer, reference) == pytest.approx(expected)
