"""A causal language model with LoRA, run so that CPU time goes where gradients need it.

Three exact savings over running the whole model on every step:

- logits only where there is a label: with 49,152 words and a tenth of the tokens supervised they
  would otherwise be a fifth of the arithmetic and most of the memory;
- one sequence at a time: no padding is computed, and a row's numbers never depend on the rows
  beside it, which makes a resumed run equal to an undisturbed one, bit for bit;
- the layers below the lowest adapted one never change, so what they make of a row is kept and
  each later epoch starts above them.

Knows llama models of transformers and PEFT; nothing about rows, optimizers or files.
"""

import copy
from typing import Any

from training.data import Encoded
from training.recipe import Recipe

#: Bytes of kept lower-layer output; rows beyond are computed anew on each pass.
KEEP_BYTES = 1536 * 2**20


def add_lora(model: Any, recipe: Recipe) -> Any:
    """Wrap a model in PEFT LoRA as the recipe says; equal seeds give equal first weights."""
    import torch
    from peft import LoraConfig, get_peft_model

    _forget_quantisation(model)
    total = model.config.num_hidden_layers
    adapted = min(recipe.layers or total, total)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=sorted(recipe.targets),
        layers_to_transform=list(range(total - adapted, total)) if adapted < total else None,
        layers_pattern="layers" if adapted < total else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return get_peft_model(model, config)


class SupervisedModel:
    """Loss of single sequences under a PEFT model.

    Args:
        model: a PeftModel around a llama.
        first: lowest layer with an adapter.
    """

    def __init__(self, model: Any, *, first: int) -> None:
        causal = model.get_base_model()
        layers = causal.model.layers
        self.lower = _part(causal.model, layers[:first], norm=False) if first else None
        self.upper = _part(causal.model, layers[first:], norm=True) if self.lower else causal.model
        self.head = causal.lm_head
        self._kept: dict[str, Any] = {}
        self._room = KEEP_BYTES

    def loss(self, row: Encoded) -> Any:
        """Summed cross-entropy over the row's supervised tokens, in nats; a scalar tensor."""
        import torch

        hidden = self.upper(**self._input(row), use_cache=False).last_hidden_state[0]
        # The token at position i is predicted from the one before it.
        logits = self.head(hidden[-row.supervised - 1 : -1])
        labels = torch.tensor(row.ids[-row.supervised :])
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

    def _input(self, row: Encoded) -> dict[str, Any]:
        import torch

        ids = torch.tensor([row.ids])
        if self.lower is None:
            return {"input_ids": ids}
        hidden = self._kept.get(row.id)
        if hidden is None:
            with torch.no_grad():
                hidden = self.lower(input_ids=ids, use_cache=False).last_hidden_state
            if hidden.nbytes <= self._room:
                self._kept[row.id] = hidden
                self._room -= hidden.nbytes
        return {"inputs_embeds": hidden}


def _forget_quantisation(model: Any) -> None:
    """Drop the mark that transformers leaves on a model from a GGUF file.

    The weights are plain float32 by then, and Trainer refuses whatever bears the mark.
    """
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer = None
        model.is_quantized = False
        del model.config.quantization_config


def _part(llama: Any, layers: Any, *, norm: bool) -> Any:
    """The llama with some of its layers only; weights are shared, not copied."""
    import torch

    part = copy.copy(llama)
    part._modules = dict(llama._modules)
    part.config = copy.copy(llama.config)
    part.config.num_hidden_layers = len(layers)
    part.layers = layers
    if not norm:
        part.norm = torch.nn.Identity()
    return part
