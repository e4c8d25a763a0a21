"""Rows of a lake in, a published adapter, its report and an MLflow run out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.base_model import BaseModel, token_counter
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.datasets.prompt_store import publish_prompt
from headwater.errors import HeadwaterError
from headwater.lake import Lake, rows_to_table
from headwater.settings import Settings
from training import run as runs
from training.__main__ import main
from training.plots import loss_curve
from training.progress import LossPoint
from training.recipe import Recipe
from training.rows import load_examples
from training.run import AdapterRun, current_run, fit_adapter


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    return Settings(home=home, threads=2)


@pytest.fixture(scope="module")
def lake(settings: Settings) -> Lake:
    lake = Lake(settings.lake)
    fill(lake)
    return lake


def fill(lake: Lake) -> None:
    chunks, rows = [], []
    for number in range(10):
        text = f"Item {number} is blue. " + "It lies on the shelf beside the others. " * 5
        chunks.append(
            {
                "id": f"c{number}", "uri": f"doc://{number}", "source": "s", "shard": "00",
                "ordinal": 0, "start": 0, "end": len(text), "title": "Items",
                "heading": f"Items > {number}", "text": text, "tokens": 50, "embed_digest": "e",
                "digest": "d", "input_digest": "i",
            }
        )  # fmt: skip
        rows.append(
            {
                "id": f"r{number}", "kind": "definition", "question": f"What is item {number}?",
                "answer": f"Item {number} is blue.", "chunk_id": f"c{number}",
                "uri": f"doc://{number}", "context": [f"c{(number + 1) % 10}", f"c{number}"],
                "split": "validation" if number < 2 else "train",
            }
        )  # fmt: skip
    lake.overwrite("document_shards", rows_to_table("document_shards", chunks))
    lake.overwrite("sft_dataset", rows_to_table("sft_dataset", rows))


@pytest.fixture(scope="module")
def run(settings: Settings, lake: Lake) -> AdapterRun:
    from training.recipe import load_recipe

    return fit_adapter(settings, lake, load_recipe("smoke"), identity={"dagster.run": "r-1"})


def test_examples_are_what_serving_would_send(lake: Lake, base: BaseModel) -> None:
    examples = load_examples(lake, DEFAULT_PROMPT, token_counter(base))
    first = next(example for example in examples.train if example.id == "r3")
    assert first.prompt.endswith("Question: What is item 3?<|im_end|>\n<|im_start|>assistant\n")
    assert first.completion == "Item 3 is blue.<|im_end|>"
    assert first.prompt.index("Items > 4") < first.prompt.index("Items > 3")
    assert (len(examples.train), len(examples.validation)) == (8, 2)


def test_narrow_context_keeps_the_passage_with_the_answer(lake: Lake, base: BaseModel) -> None:
    examples = load_examples(lake, DEFAULT_PROMPT, token_counter(base), context_tokens=70)
    for example in (*examples.train, *examples.validation):
        assert example.completion.removesuffix("<|im_end|>") in example.prompt


def test_a_chunk_that_is_gone_and_a_table_without_rows(
    lake: Lake, base: BaseModel, tmp_path: Path
) -> None:
    other = Lake(tmp_path)
    with pytest.raises(HeadwaterError, match="no training rows"):
        load_examples(other, DEFAULT_PROMPT, token_counter(base))
    other.overwrite("sft_dataset", lake.read("sft_dataset"))
    with pytest.raises(HeadwaterError, match="10 chunks"):
        load_examples(other, DEFAULT_PROMPT, token_counter(base))


def test_publishes_adapter_and_report(settings: Settings, run: AdapterRun) -> None:
    assert run.computed_steps == run.result.steps == 6
    assert run.adapter.folder == settings.adapters / run.adapter.id
    assert run.parity.tokens > 0
    assert not list(settings.training.glob("*/step-*"))
    again = current_run(settings)
    assert again == replace(run, computed_steps=0)


def test_again_trains_nothing(
    settings: Settings, lake: Lake, smoke: Recipe, run: AdapterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "train", None)
    assert fit_adapter(settings, lake, smoke) == replace(run, computed_steps=0)


def test_mlflow_run_holds_what_happened(settings: Settings, run: AdapterRun) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    logged = client.get_run(run.mlflow_run)
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["headwater.adapter"] == run.adapter.id
    assert logged.data.tags["dagster.run"] == "r-1"
    assert logged.data.params["learning_rate"] == "0.01"
    assert logged.data.metrics["steps"] == 6
    assert logged.inputs.dataset_inputs[0].dataset.name == "sft_dataset"
    history = client.get_metric_history(run.mlflow_run, "loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]
    names = {file.path for file in client.list_artifacts(run.mlflow_run)}
    assert names == {"adapter.json", "loss.png", "parity.json"}


def test_killed_before_its_report_goes_on_without_training_and_logs_once(
    settings: Settings,
    lake: Lake,
    smoke: Recipe,
    run: AdapterRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a kill between any two effects at the end: the report is missing."""
    recipe = replace(smoke, seed=1)
    with monkeypatch.context() as broken:
        broken.setattr(runs, "write_json", _killed)
        with pytest.raises(KeyboardInterrupt):
            fit_adapter(settings, lake, recipe)
    assert current_run(settings).adapter.id == run.adapter.id

    finished = fit_adapter(settings, lake, recipe)
    assert finished.computed_steps == 0
    assert finished.result.steps == 6
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiment = client.get_experiment_by_name("headwater-training")
    wanted = f"tags.`headwater.adapter` = '{finished.adapter.id}'"
    logged = client.search_runs([experiment.experiment_id], wanted)
    assert [found.info.run_id for found in logged] == [finished.mlflow_run]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HEADWATER_HOME", str(settings.root))
    monkeypatch.setenv("HEADWATER_THREADS", "2")
    yield settings.root


def test_command_line(
    installation: Path, run: AdapterRun, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_prompt(Settings(), DEFAULT_PROMPT)
    assert main(["--recipe", "smoke", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["adapter"], said["steps"]) == (run.adapter.id, 0)
    assert main(["--recipe", "nonsense"]) == 1
    assert "no recipe 'nonsense'" in capsys.readouterr().err


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys\nfrom training.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert e.code == 0\n"
        "heavy = {'torch', 'transformers', 'peft', 'mlflow', 'matplotlib', 'dagster'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--recipe" in done.stdout


def test_loss_curve_is_a_picture() -> None:
    points = [
        LossPoint(step=0, loss=None, validation=2.0),
        LossPoint(step=1, loss=1.9, validation=None),
    ]
    assert loss_curve(points).startswith(b"\x89PNG")
    assert loss_curve([]).startswith(b"\x89PNG")
