from pathlib import Path

import pytest
import torch

from training import checkpoint


class State:
    """As much of transformers' TrainerState as a checkpoint needs."""

    def __init__(self, step: int) -> None:
        self.global_step = step

    def save_to_json(self, path: str) -> None:
        Path(path).write_text("{}")


def write(work: Path, step: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(step)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint.save(work, model, optimizer, State(step), {"note": step})
    return model, optimizer


def test_round_trip(tmp_path: Path) -> None:
    model, optimizer = write(tmp_path, 1)
    folder = checkpoint.latest(tmp_path)
    assert folder is not None and checkpoint.progress_of(folder)["note"] == 1

    other = torch.nn.Linear(3, 2)
    fresh = torch.optim.AdamW(other.parameters())
    checkpoint.load_weights(folder, other)
    checkpoint.load_optimizer(folder, other, fresh)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert optimizer.state[one].keys() == fresh.state[two].keys()
        assert all(torch.equal(v, fresh.state[two][k]) for k, v in optimizer.state[one].items())


def test_keeps_two_and_skips_a_damaged_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    (tmp_path / ".step-000004.partial-x").mkdir()  # what a kill leaves behind
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000002", "step-000003"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-000003"

    tensors = tmp_path / "step-000003" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"?")
    assert checkpoint.latest(tmp_path) == tmp_path / "step-000002"
    assert "damaged" in caplog.text


def test_nothing_there(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") is None
