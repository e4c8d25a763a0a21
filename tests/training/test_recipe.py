from dataclasses import replace
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
from training.recipe import load_recipe


@pytest.mark.parametrize("name", ["default", "smoke"])
def test_shipped_recipes_load(name: str) -> None:
    assert load_recipe(name).name == name


def test_digest_follows_what_moves_weights_and_nothing_else() -> None:
    recipe = load_recipe("smoke")
    assert replace(recipe, rank=recipe.rank + 1).digest != recipe.digest
    assert replace(recipe, seed=recipe.seed + 1).digest != recipe.digest
    assert replace(recipe, save_every=99, name="other").digest == recipe.digest
    dataset = replace(recipe.dataset, max_rows=5)
    assert replace(recipe, dataset=dataset).digest == recipe.digest


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(HeadwaterError, match="default, smoke"):
        load_recipe("defualt")


@pytest.mark.parametrize(
    "line", ["rnak: 8", "rank: 0", "schedule: wavy", "learning_rate: -1", "rank: many"]
)
def test_wrong_choices_are_errors(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mine.yaml"
    rest = "dataset: {max_rows: 1, written_questions: 0}\n"
    rest += "evaluation: {generation_items: 1, max_new_tokens: 1}\n"
    path.write_text(rest)
    assert load_recipe(str(path)).name == "mine"
    path.write_text(rest + line)
    with pytest.raises(HeadwaterError, match=line.split(":")[0]):
        load_recipe(str(path))
