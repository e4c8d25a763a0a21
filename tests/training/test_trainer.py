"""The training itself: its arithmetic against plain transformers, its order, its errors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headwater.base_model import BaseModel, load_tokenizer, load_torch
from headwater.errors import HeadwaterError
from training.data import Example, Examples, encode
from training.model import SupervisedModel, add_lora
from training.progress import Progress
from training.recipe import Recipe
from training.trainer import plan_steps, train


def test_only_the_completion_is_supervised(base: BaseModel, examples: Sequence[Example]) -> None:
    tokenizer = load_tokenizer(base)
    row = encode(examples[:1], tokenizer, max_tokens=200)[0]
    assert tokenizer.decode(row.ids[: -row.supervised]) == examples[0].prompt
    assert tokenizer.decode(row.ids[-row.supervised :]) == examples[0].completion
    assert row.ids[-1] == tokenizer.eos_token_id


def test_long_rows_are_left_out(
    base: BaseModel, examples: Sequence[Example], caplog: pytest.LogCaptureFixture
) -> None:
    rows = encode(examples, load_tokenizer(base), max_tokens=30)
    assert 0 < len(rows) < len(examples)
    assert f"{len(examples) - len(rows)} rows longer than 30 tokens" in caplog.text


def test_dataset_digest_ignores_order(examples: Sequence[Example]) -> None:
    def digest(train: Sequence[Example], validation: Sequence[Example]) -> str:
        return Examples(train=tuple(train), validation=tuple(validation)).digest

    assert digest(examples, []) == digest(examples[::-1], [])
    assert digest(examples, []) != digest(examples[1:], examples[:1])


def test_plan_visits_each_row_once_an_epoch(
    base: BaseModel, examples: Sequence[Example], smoke: Recipe
) -> None:
    rows = encode(examples, load_tokenizer(base), max_tokens=200)
    recipe = replace(smoke, max_steps=None, epochs=3, rows_per_step=5)
    plan = plan_steps(rows, recipe)
    assert [len(step) for step in plan] == [5, 5, 2] * 3
    epochs = [[row.id for step in plan[at : at + 3] for row in step] for at in (0, 3, 6)]
    assert all(sorted(epoch) == [row.id for row in rows] for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert plan_steps(rows[::-1], recipe) == plan
    assert plan_steps(rows, replace(recipe, max_steps=4)) == plan[:4]


@pytest.mark.parametrize("layers", [1, None])
def test_loss_and_gradients_are_those_of_plain_transformers(
    base: BaseModel, examples: Sequence[Example], smoke: Recipe, layers: int | None
) -> None:
    import torch

    model, tokenizer = load_torch(base)
    row = encode(examples[:1], tokenizer, max_tokens=200)[0]
    peft = add_lora(model, replace(smoke, layers=layers))
    _randomise(peft)

    ids = torch.tensor([row.ids])
    labels = ids.clone()
    labels[:, : -row.supervised] = -100
    plain = peft(input_ids=ids, labels=labels).loss * row.supervised
    plain.backward()
    wanted = _take_gradients(peft)
    supervised = SupervisedModel(peft, first=1 if layers else 0)
    for _ in range(2):  # the second time from what was kept of the lower layer
        loss = supervised.loss(row)
        loss.backward()
        assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
        for name, gradient in _take_gradients(peft).items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5)
    assert len(wanted) == 14 * (layers or 2)


def test_training_lowers_the_loss_and_tells(
    base: BaseModel, examples: Sequence[Example], smoke: Recipe, tmp_path: Path
) -> None:
    told: list[Progress] = []
    recipe = replace(smoke, epochs=6, max_steps=None, rows_per_step=4, layers=None)
    trained = train(
        examples, examples[:3], base, recipe, work=tmp_path / "w", threads=2, on_step=told.append
    )
    result = trained.result
    assert result.steps == result.computed_steps == len(told) == 18
    assert [p.step for p in result.losses] == list(range(19))
    before, after = result.losses[0].validation, result.losses[-1].validation
    assert before is not None and after is not None and after < before - 0.5
    assert told[-1].seconds_left == 0
    assert result.energy_kwh is None or result.energy_kwh > 0


def test_a_loss_that_is_no_number_names_step_and_row(
    base: BaseModel, examples: Sequence[Example], smoke: Recipe, tmp_path: Path
) -> None:
    recipe = replace(smoke, learning_rate=1e30, max_grad_norm=1e30, schedule="constant", warmup=0)
    with pytest.raises(HeadwaterError, match=r"loss is (nan|inf) at step [2-6], row row-\d\d"):
        train(examples, [], base, recipe, work=tmp_path / "w", threads=2)


def test_no_row_short_enough(
    base: BaseModel, examples: Sequence[Example], smoke: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(HeadwaterError, match="at most 5 tokens"):
        train(examples, [], base, replace(smoke, max_tokens=5), work=tmp_path / "w", threads=2)


def _randomise(peft: Any) -> None:
    """LoRA starts as nothing (B is zero), which would hide gradients of A."""
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.05)


def _take_gradients(peft: Any) -> dict[str, Any]:
    taken = {n: w.grad.clone() for n, w in peft.named_parameters() if w.grad is not None}
    peft.zero_grad(set_to_none=True)
    return taken
