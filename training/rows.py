"""The rows of `sft_dataset`, rendered as serving renders a question and what it retrieved.

Knows the lake and the prompt; nothing about tokens beyond their number.
"""

from headwater.datasets.prompt import TokenCounter, chat_text, fit, render
from headwater.errors import HeadwaterError
from headwater.lake import Lake
from headwater.records import Hit, Prompt
from training.data import Example, Examples


def load_examples(
    lake: Lake, prompt: Prompt, count_tokens: TokenCounter, *, context_tokens: int | None = None
) -> Examples:
    """Examples from the tables `sft_dataset` and `document_shards`.

    Args:
        prompt: the one that serving uses.
        count_tokens: of the base model.
        context_tokens: narrow the prompt's context to this.

    Raises:
        HeadwaterError: there are no rows, or a row names a chunk that is gone.
    """
    rows = lake.read("sft_dataset").to_pylist()
    if not any(row["split"] == "train" for row in rows):
        raise HeadwaterError(
            "The table sft_dataset has no training rows.",
            mend="Build it first (headwater build); if it stays empty, add documents.",
        )
    hits = _hits(lake, {chunk for row in rows for chunk in (row["chunk_id"], *row["context"])})
    budget = context_tokens or prompt.max_context_tokens
    splits: dict[str, list[Example]] = {"train": [], "validation": []}
    for row in sorted(rows, key=lambda row: str(row["id"])):
        own = hits[row["chunk_id"]]
        shown = fit([hits[chunk] for chunk in row["context"]], count_tokens, budget)
        if not any(_fold(row["answer"]) in _fold(hit.text) for hit in shown):
            # Cut away, its answer could only be invented; first, it is shown whole.
            others = [hits[chunk] for chunk in row["context"] if chunk != own.id]
            shown = fit([own, *others], count_tokens, budget)
        messages = render(prompt, row["question"], shown)
        opened = chat_text(messages)
        completion = chat_text(messages, row["answer"]).removeprefix(opened)
        example = Example(id=row["id"], prompt=opened, completion=completion)
        splits[row["split"]].append(example)
    return Examples(train=tuple(splits["train"]), validation=tuple(splits["validation"]))


def _hits(lake: Lake, ids: set[str]) -> dict[str, Hit]:
    columns = ["id", "uri", "title", "heading", "start", "end", "text"]
    chunks = lake.read("document_shards", columns=columns, where={"id": sorted(ids)}).to_pylist()
    hits = {chunk["id"]: Hit(score=0.0, **chunk) for chunk in chunks}
    if gone := ids - hits.keys():
        raise HeadwaterError(
            f"{len(gone)} chunks that training rows name are gone, {min(gone)} for one.",
            mend="Build sft_dataset again: its documents have changed since.",
        )
    return hits


def _fold(text: str) -> str:
    return " ".join(text.split())
