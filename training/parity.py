"""Does the engine answer as PyTorch does? Greedy tokens of the two, on the same prompts.

PyTorch runs the engine's weights in float32; llama.cpp multiplies in 8 bits, so close calls may
fall differently, and after the first difference two free-running answers have nothing to do with
each other. So each of the engine's tokens is taken after PyTorch's own beginning of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwater.base_model import BaseModel
from headwater.engine import Engine
from training.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptParity:
    """Greedy next tokens to one prompt, as text: PyTorch's, and the engine's at the same places."""

    torch: tuple[str, ...]
    engine: tuple[str, ...]

    @property
    def equal(self) -> int:
        return sum(a == b for a, b in zip(self.torch, self.engine, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Share of tokens that agree when both apply the adapter.

    `without` is the same with the engine's adapter off: where it is as high, the adapter changes
    no token and the agreement proves nothing about it.
    """

    agreement: float
    without: float
    tokens: int
    prompts: tuple[PromptParity, ...]


def parity(
    model: Any,
    tokenizer: Any,
    base: BaseModel,
    adapter: Adapter,
    prompts: Sequence[str],
    *,
    threads: int,
    n_tokens: int = 16,
) -> ParityReport:
    """Compare a PEFT model with the engine, which reads the same adapter as GGUF.

    Args:
        model: PEFT, with the adapter's weights.
        prompts: in ChatML.
        n_tokens: of each answer, at most.
    """
    wanted = [_greedy(model, tokenizer, prompt, n_tokens) for prompt in prompts]
    with Engine(base.engine, adapter.gguf, threads=threads) as engine:
        arms = [
            [
                _compare(engine, tokenizer, prompt, ids, on)
                for prompt, ids in zip(prompts, wanted, strict=True)
            ]
            for on in (True, False)
        ]
    tokens = sum(map(len, wanted))
    with_adapter, without = (sum(row.equal for row in arm) / max(tokens, 1) for arm in arms)
    return ParityReport(
        agreement=with_adapter, without=without, tokens=tokens, prompts=tuple(arms[0])
    )


def _greedy(model: Any, tokenizer: Any, prompt: str, n_tokens: int) -> list[int]:
    """Token ids of PyTorch's answer, its end token included."""
    import torch

    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        answer = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    return list(answer[0, ids.shape[1] :].tolist())


def _compare(
    engine: Engine, tokenizer: Any, prompt: str, wanted: list[int], adapter: bool
) -> PromptParity:
    """The engine's next token after each beginning of the wanted answer."""
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    got = [
        engine.complete([*ids, *wanted[:done]], max_tokens=1, adapter=adapter).text
        for done in range(len(wanted))
    ]
    # The engine writes nothing for the token that ends an answer.
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in wanted]
    return PromptParity(torch=tuple(texts), engine=tuple(got))
