"""A model as OpenVINO runs it: converted from torch once, kept, and loaded without torch.

Knows sentence-transformers' folders, with mean pooling or of cross-encoders, and nothing of tokens or
batches. On two cores OpenVINO embeds more texts a second than torch (benchmarks.embedding), and is
loaded in a fifth of the time; the vectors are equal to about 1e-6.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headwater.errors import HeadwaterError
from headwater.files import new_folder
from headwater.locks import wait_for

#: Part of a kept model's name: change it when the same files are to be converted anew.
CONVERSION = 1

#: What a model gives: a unit vector a text; the last hidden state of each token, of the same kept file;
#: or the logit of a pair of texts.
Gives = Literal["vectors", "tokens", "logits"]
Tokens = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
log = logging.getLogger("headwater")


class Compiled:
    """A model ready to be asked, from several threads at once too.

    Args:
        folder: a sentence-transformers model whose vectors are unit means of the last hidden states,
            or for `logits` a cross-encoder with one label.
        kept: folder of converted models.
        name: names the model's files in there.
        threads: threads that compute, one to each batch.

    Raises:
        HeadwaterError: weights are missing, or the kept model is not as it was converted.
    """

    def __init__(
        self, folder: Path, kept: Path, name: str, threads: int, gives: Gives = "vectors"
    ) -> None:
        import openvino

        path = kept / f"{name}-{CONVERSION}-{openvino.__version__.partition('-')[0]}"
        if not path.is_dir():
            with wait_for(kept / f"{path.name}.lock"):
                if not path.is_dir():
                    _convert(folder, path, pairs=gives == "logits")
        options = {
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            # Processors that compute in 16 bits are asked not to: vectors are those of every machine.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._threads = threads
        core = openvino.Core()
        model: Any = path / "model.xml"
        if gives == "tokens":
            model = _before_pooling(core.read_model(model))
        self._model = core.compile_model(model, "CPU", options)

    def results(
        self, batches: Iterable[tuple[list[int], Mapping[str, Tokens]]]
    ) -> Iterator[tuple[list[int], Vectors]]:
        """What the model gives for batches, each as it is done, in no order.

        Args:
            batches: what each is known by, and its inputs by name, of shape (texts, tokens).
        """
        import openvino

        done: list[tuple[list[int], Vectors]] = []

        def keep(request: Any, rows: list[int]) -> None:
            done.append((rows, np.array(request.get_output_tensor(0).data)))

        queue = openvino.AsyncInferQueue(self._model, self._threads)
        queue.set_callback(keep)
        for rows, inputs in batches:
            queue.start_async(dict(inputs), rows)
            while done:
                yield done.pop()
        queue.wait_all()
        yield from done

    def at_once(self, batches: Iterable[Mapping[str, Tokens]]) -> list[Vectors]:
        """What the model gives for a few batches, all under way together, in their order.

        Nothing is called back: a queue's callbacks can wait for the interpreter for ever where the
        model is dropped right after, as a release's reranker may be.
        """
        requests = []
        for inputs in batches:
            request = self._model.create_infer_request()
            request.start_async(dict(inputs))
            requests.append(request)
        for request in requests:
            request.wait()
        return [np.array(request.get_output_tensor(0).data) for request in requests]


def _before_pooling(model: Any) -> Any:
    """The kept model of a sentence as far as its last hidden states: the same weights, read once more.

    They are what `_sentences` multiplies by the mask: the one product of something of three axes with
    something whose last axis is 1, and found so, as names are the converter's own.
    """
    import openvino

    (dimension,) = [result.output(0).get_partial_shape()[1] for result in model.get_results()]
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Multiply":
            continue
        states, mask = (each.get_source_output() for each in node.inputs())
        shapes = [each.get_partial_shape() for each in (states, mask)]
        if all(len(shape) == 3 for shape in shapes) and [shape[2] for shape in shapes] == [
            dimension,
            openvino.Dimension(1),
        ]:
            return openvino.Model([states], model.get_parameters(), "tokens")
    raise HeadwaterError(
        "The converted embedding model does not pool as it was written to.",
        mend="Delete the folder models/encoders of your home, and report this.",
    )


def _convert(folder: Path, path: Path, *, pairs: bool) -> None:
    """Make the model of it, with what comes after its last layer, and keep that in 32 bits."""
    import openvino
    import torch
    from transformers.utils import logging as chatter

    log.info(
        "converting the %s in %s, once", "cross-encoder" if pairs else "embedding model", folder
    )
    chatter.disable_progress_bar()
    module = _pairs(folder) if pairs else _sentences(folder)
    # Padding in the example, so that what the mask does is traced.
    example = {
        "input_ids": torch.ones((2, 8), dtype=torch.int64),
        "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
    }
    if pairs:
        example["token_type_ids"] = torch.tensor([[0] * 4 + [1] * 4] * 2)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        converted = openvino.convert_model(module.eval(), example_input=example)
    with new_folder(path) as work:
        openvino.save_model(converted, work / "model.xml", compress_to_fp16=False)


def _sentences(folder: Path) -> Any:
    import torch
    from transformers import AutoModel

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

    return Sentence()


def _pairs(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    model, told = AutoModelForSequenceClassification.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    if missing := sorted(told["missing_keys"]):
        # transformers would make them up.
        raise HeadwaterError(
            f"The weights of the cross-encoder in {folder} lack {', '.join(missing)}.",
            mend="Use a complete cross-encoder, saved by sentence-transformers.",
        )
    model.eval()

    class Pair(torch.nn.Module):
        """The logit of the one label: how well the second text answers the first."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor,
        ) -> torch.Tensor:
            found = self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            )
            return found.logits

    return Pair()
