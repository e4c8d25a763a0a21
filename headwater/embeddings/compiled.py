"""An embedding model as OpenVINO runs it: converted from torch once, kept, and loaded without torch.

Knows sentence-transformers' folders with mean pooling, and nothing of tokens or batches. On two cores
OpenVINO embeds more texts a second than torch (benchmarks.embedding), and is loaded in a fifth of
the time; the vectors are equal to about 1e-6.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.files import new_folder
from headwater.locks import wait_for

#: Part of a kept model's name: change it when the same files are to be converted anew.
CONVERSION = 1

Tokens = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
log = logging.getLogger("headwater")


class Compiled:
    """A model ready to be asked, from several threads at once too.

    Args:
        folder: a sentence-transformers model whose vectors are unit means of the last hidden states.
        kept: folder of converted models.
        name: names the model's files in there.
        threads: threads that compute, one to each batch.
    """

    def __init__(self, folder: Path, kept: Path, name: str, threads: int) -> None:
        import openvino

        path = kept / f"{name}-{CONVERSION}-{openvino.__version__.partition('-')[0]}"
        if not path.is_dir():
            with wait_for(kept / f"{path.name}.lock"):
                if not path.is_dir():
                    _convert(folder, path)
        options = {
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            # Processors that compute in 16 bits are asked not to: vectors are those of every machine.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._threads = threads
        self._model = openvino.Core().compile_model(path / "model.xml", "CPU", options)

    def vectors(
        self, batches: Iterable[tuple[list[int], Tokens, Tokens]]
    ) -> Iterator[tuple[list[int], Vectors]]:
        """Vectors of batches, each as it is done, in no order.

        Args:
            batches: what each is known by, its token ids and mask, both of shape (texts, tokens).
        """
        import openvino

        done: list[tuple[list[int], Vectors]] = []

        def keep(request: Any, rows: list[int]) -> None:
            done.append((rows, np.array(request.get_output_tensor(0).data)))

        queue = openvino.AsyncInferQueue(self._model, self._threads)
        queue.set_callback(keep)
        for rows, tokens, mask in batches:
            queue.start_async({"input_ids": tokens, "attention_mask": mask}, rows)
            while done:
                yield done.pop()
        queue.wait_all()
        yield from done


def _convert(folder: Path, path: Path) -> None:
    """Make the model of it, pooling and scaling with it, and keep that in 32 bits."""
    import openvino
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as chatter

    log.info("converting the embedding model in %s, once", folder)
    chatter.disable_progress_bar()
    model = AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    ).eval()

    class Sentence(torch.nn.Module):
        """Mean of the last hidden states over a text's tokens, scaled to unit length (SBERT, §3)."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            found = self.model(input_ids=input_ids, attention_mask=attention_mask)
            weights = attention_mask.unsqueeze(-1).to(found.last_hidden_state.dtype)
            pooled = (found.last_hidden_state * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled, dim=1)

    # Padding in the example, so that what the mask does is traced.
    example = {
        "input_ids": torch.ones((2, 8), dtype=torch.int64),
        "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        converted = openvino.convert_model(Sentence().eval(), example_input=example)
    with new_folder(path) as work:
        openvino.save_model(converted, work / "model.xml", compress_to_fp16=False)
