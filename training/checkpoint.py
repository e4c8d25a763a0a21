"""Checkpoints of a training: adapter weights, optimizer and progress, whole or absent.

A checkpoint is a folder that appears by one rename, holds safetensors and JSON (nothing that
unpickles), and is checked against its digest before it is used.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

from headwater.files import new_folder, read_json, write_json
from headwater.records import digest_file

log = logging.getLogger("headwater")

_TENSORS, _PROGRESS, _TRAINER = "state.safetensors", "progress.json", "trainer_state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")
#: Older ones are deleted: one to resume from, one should it be damaged.
_KEEP = 2


def save(work: Path, model: Any, optimizer: Any, trainer_state: Any, extra: dict[str, Any]) -> None:
    """Write `work/step-<step>`, then drop the oldest.

    Args:
        model: its trainable parameters are saved.
        optimizer: an AdamW; its moments are saved.
        trainer_state: transformers' TrainerState, which Trainer reads back by itself.
        extra: JSON values, given back by `progress_of`.
    """
    from safetensors.torch import save_file

    step = trainer_state.global_step
    tensors = {}
    for name, weight in _trainable(model).items():
        tensors[f"weight/{name}"] = weight.detach().contiguous()
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[weight][moment].contiguous()
    with new_folder(work / f"step-{step:06d}") as folder:
        save_file(tensors, folder / _TENSORS)
        trainer_state.save_to_json(str(folder / _TRAINER))
        progress = {**extra, "step": step, "tensors": digest_file(folder / _TENSORS)}
        write_json(folder / _PROGRESS, progress)
    log.info("training: step %d is saved; a build that is stopped goes on from here", step)
    for old in _folders(work)[:-_KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def latest(work: Path) -> Path | None:
    """The newest checkpoint that is intact; None to start from the beginning."""
    for folder in reversed(_folders(work)):
        progress, tensors = read_json(folder / _PROGRESS), folder / _TENSORS
        if progress and tensors.exists() and digest_file(tensors) == progress["tensors"]:
            return folder
        log.warning("training: the checkpoint %s is damaged and left aside", folder.name)
    return None


def progress_of(folder: Path) -> dict[str, Any]:
    """What was saved as `extra`, and `step`."""
    return dict(read_json(folder / _PROGRESS))


def load_weights(folder: Path, model: Any) -> None:
    """Put a checkpoint's adapter weights into the model."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / _TENSORS)
    with torch.no_grad():
        for name, weight in _trainable(model).items():
            weight.copy_(tensors[f"weight/{name}"])


def load_optimizer(folder: Path, model: Any, optimizer: Any) -> None:
    """Put a checkpoint's moments into an AdamW that has not stepped yet."""
    import torch
    from safetensors.torch import load_file

    tensors, step = load_file(folder / _TENSORS), float(progress_of(folder)["step"])
    for name, weight in _trainable(model).items():
        moments = {moment: tensors[f"{moment}/{name}"].clone() for moment in _MOMENTS}
        optimizer.state[weight] = {"step": torch.tensor(step), **moments}


def _trainable(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _folders(work: Path) -> list[Path]:
    return sorted(work.glob("step-*"))
