"""How much less likely the adapter finds the right answers to drifted questions than to known ones.

The right answers are sentences that chunks give: nobody has written any for what users ask.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headwater.base_model import BaseModel, token_counter
from headwater.datasets.prompt import chat_text, fit, render
from headwater.datasets.sft import answered, read_rows
from headwater.embeddings.retrieve import Retriever
from headwater.evaluation.cache import ResultCache
from headwater.evaluation.likelihood import ADAPTER, BASE, reference_nll
from headwater.lake import Lake
from headwater.records import Prompt

#: Answers of either kind that are scored at most (a forward pass each), and at least.
_MOST, _LEAST = 24, 6


def nll_gap(
    lake: Lake,
    questions: Sequence[str],
    *,
    retriever: Retriever,
    base: BaseModel,
    adapter: Path | None,
    prompt: Prompt,
    cache: ResultCache,
    threads: int,
) -> tuple[float, float] | None:
    """Mean NLL per token of the answers to drifted questions, and of held-out rows it was made with.

    None where too few of the questions have an answer in a chunk, or there are too few rows. Without
    an adapter it is the base model's.

    Rows that were trained on stand in where none was held out: the gap is then an upper bound.
    """
    drifted = answered(lake, questions, retriever)[:_MOST]
    rows = read_rows(lake)
    held_out = [row for row in rows if row.split == "validation"]
    known = [(row.question, row.answer) for row in (held_out if len(held_out) >= _LEAST else rows)]
    known = known[:_MOST]
    if len(drifted) < _LEAST or len(known) < _LEAST:
        return None
    both = [*drifted, *known]
    found = retriever.passages_many([question for question, _ in both], limit=prompt.top_k)
    count = token_counter(base)
    pairs = [
        (chat_text(render(prompt, question, fit(hits, count, prompt.max_context_tokens))), answer)
        for (question, answer), hits in zip(both, found, strict=True)
    ]
    arms = reference_nll(pairs, base, adapter, cache=cache, threads=threads)
    scores = arms[BASE if adapter is None else ADAPTER]
    return float(np.mean(scores[: len(drifted)])), float(np.mean(scores[len(drifted) :]))
