"""A training that is killed ends with the weights of one that is not."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headwater.base_model import BaseModel
from tests.training.child import STEPS, fit
from training import checkpoint


def weights(model: Any) -> dict[str, bytes]:
    return {
        name: weight.detach().numpy().tobytes()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def kill_at(home: Path, work: Path, step: int) -> None:
    """Train in another process, and kill -9 it after a step."""
    arguments = [sys.executable, "-m", "tests.training.child", str(home), str(work)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == f"step {step}":
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


@pytest.fixture(scope="module")
def finished(home: Path, base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished") / "work"


@pytest.fixture(scope="module")
def undisturbed(home: Path, finished: Path) -> dict[str, bytes]:
    trained = fit(home, finished)
    assert trained.result.computed_steps == STEPS
    return weights(trained.model)


def test_killed_training_ends_with_the_same_weights(
    home: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    kill_at(home, tmp_path, 5)
    folder = checkpoint.latest(tmp_path)
    assert folder is not None and checkpoint.progress_of(folder)["step"] == 3

    resumed = fit(home, tmp_path)
    assert resumed.result.computed_steps == STEPS - 3
    assert [point.step for point in resumed.result.losses] == list(range(STEPS + 1))
    assert weights(resumed.model) == undisturbed


def test_finished_training_computes_no_step_again(
    home: Path, finished: Path, undisturbed: dict[str, bytes]
) -> None:
    again = fit(home, finished)
    assert again.result.computed_steps == 0
    assert [point.step for point in again.result.losses] == list(range(STEPS + 1))
    assert weights(again.model) == undisturbed
