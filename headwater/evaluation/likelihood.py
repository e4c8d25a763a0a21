"""How likely a model finds the reference answers: negative log-likelihood per token, on torch.

Knows prompts and references as text, the base model and an adapter folder; nothing of retrieval.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

from headwater.base_model import BaseModel, load_torch
from headwater.evaluation.cache import ResultCache
from headwater.files import read_json
from headwater.progress import track
from headwater.records import digest_of

NLL_VERSION = 1
BASE, ADAPTER = "base", "adapter"


def adapter_digest(folder: Path) -> str:
    """Digest of an adapter's weights, from its adapter.json."""
    return str(read_json(folder / "adapter.json")["weights_digest"])


def arms_of(adapter: Path | None) -> dict[str, str | None]:
    """The arms to compare, with the digest of the adapter each one applies."""
    return {BASE: None} if adapter is None else {BASE: None, ADAPTER: adapter_digest(adapter)}


def reference_nll(
    pairs: Sequence[tuple[str, str]],
    base: BaseModel,
    adapter: Path | None,
    *,
    cache: ResultCache,
    threads: int,
) -> dict[str, list[float]]:
    """Mean negative log-likelihood, nats per token, of each reference after its prompt.

    Only the reference's own tokens count, not the end of turn. One pair is one forward pass: a
    result never depends on which others are computed with it, so a resumed evaluation equals an
    undisturbed one.

    Args:
        pairs: (prompt up to the answer, in chat format; reference).
        adapter: folder with the PEFT adapter, or None to score the base model alone.

    Returns:
        For each arm ("base", and "adapter" if there is one) a value per pair, in order.
    """
    arms = arms_of(adapter)
    keys = {
        arm: [digest_of("nll", NLL_VERSION, base.engine_digest, digest, *pair) for pair in pairs]
        for arm, digest in arms.items()
    }
    known = cache.get(key for arm_keys in keys.values() for key in arm_keys)
    work = [
        (pair, {arm: keys[arm][at] for arm in arms if keys[arm][at] not in known})
        for at, pair in enumerate(pairs)
    ]
    work = [(pair, missing) for pair, missing in work if missing]
    if work:
        with _torch(threads):
            scorer = Scorer.load(base, adapter)
            for pair, missing in track(work, what="scoring references"):
                for arm, value in scorer.score(*pair, arms=tuple(missing)).items():
                    cache.put(missing[arm], value)
                    known[missing[arm]] = value
    return {arm: [known[key] for key in arm_keys] for arm, arm_keys in keys.items()}


class Scorer:
    """Scores references under a llama, plain and with an adapter.

    The layers below the lowest adapted one are run once for both; logits are computed where a
    reference token is predicted and nowhere else, for the vocabulary is larger than all else.

    Args:
        model: a causal llama of transformers, or a PeftModel around one.
        tokenizer: of transformers.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._peft = model if hasattr(model, "disable_adapter") else None
        causal = model.get_base_model() if self._peft else model
        first = _lowest_adapted(causal)
        self._head = causal.lm_head
        self._lower = _part(causal.model, slice(0, first), last=False)
        self._upper = _part(causal.model, slice(first, None), last=True)

    @classmethod
    def load(cls, base: BaseModel, adapter: Path | None) -> Self:
        """Load the base model, and the adapter of a folder if one is given."""
        model, tokenizer = load_torch(base)
        if adapter is not None:
            from peft import PeftModel

            with warnings.catch_warnings():
                # PEFT looks for a config file beside the base model; a GGUF has it inside.
                warnings.filterwarnings("ignore", message="Could not find a config file")
                warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
                model = PeftModel.from_pretrained(model, str(adapter))
        return cls(model.eval(), tokenizer)

    def score(self, prompt: str, reference: str, *, arms: Sequence[str]) -> dict[str, float]:
        """Mean negative log-likelihood, nats per token, of `reference` after `prompt` by arm."""
        import torch

        before = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = self.tokenizer(reference, add_special_tokens=False)["input_ids"]
        scores = {}
        with torch.inference_mode():
            ids = torch.tensor([before + after])
            hidden = self._lower(input_ids=ids, use_cache=False).last_hidden_state
            for arm in arms:
                with self._applied(arm):
                    top = self._upper(inputs_embeds=hidden, use_cache=False).last_hidden_state[0]
                logits = self._head(top[len(before) - 1 : -1])
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor(after))
                scores[arm] = float(loss)
        return scores

    def _applied(self, arm: str) -> AbstractContextManager[object]:
        """Within it the model is that of the arm."""
        if self._peft is None or arm == ADAPTER:
            return nullcontext()
        off: AbstractContextManager[object] = self._peft.disable_adapter()
        return off


def _lowest_adapted(causal: Any) -> int:
    """Number of the lowest layer with an adapter; 0 where there is none."""
    adapted = (
        number
        for number, layer in enumerate(causal.model.layers)
        if any(hasattr(module, "lora_A") for module in layer.modules())
    )
    return next(adapted, 0)


def _part(llama: Any, layers: slice, *, last: bool) -> Any:
    """The llama with some of its layers; weights are shared. All but the last part skip the norm."""
    import torch

    part = copy.copy(llama)
    part._modules = dict(llama._modules)
    part.config = copy.copy(llama.config)
    part.layers = llama.layers[layers]
    part.config.num_hidden_layers = len(part.layers)
    if not last:
        part.norm = torch.nn.Identity()
    return part


@contextmanager
def _torch(threads: int) -> Iterator[None]:
    """Use this many threads, and give back what was set before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
