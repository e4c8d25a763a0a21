"""Which of the shown passages an answer rests on; the one rule for serving and evaluation."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from headwater.records import Hit

_WORD = re.compile(r"\w+")
#: Weight of the retrieval's order. Chosen among 0 to 2 on 80 curated questions: the first citation
#: is right for 99 % of reference answers (100 % without, 96 % by the order alone), and for 92 % of
#: the answers of a small model that garbles what it read (83 % without).
ORDER_WEIGHT = 0.3


def rank_citations(answer: str, hits: Sequence[Hit]) -> list[Hit]:
    """Order the passages of a prompt by how likely the answer rests on each of them.

    A passage scores the part of the answer's distinct words and pairs of neighbouring words that
    it holds, each counted 1 / (passages that hold it): what stands in every passage tells nothing
    about where an answer comes from, and a copied phrase tells most. To that, the passage at rank r
    adds `ORDER_WEIGHT` / r, which decides where the answer says little. Ties keep the order.

    Args:
        answer: the generated text.
        hits: the passages that the prompt showed, best first.
    """
    wanted = _terms(answer)
    held = [wanted & _terms(f"{hit.heading}\n{hit.text}") for hit in hits]
    holders = Counter(term for terms in held for term in terms)
    scores = [
        sum(1 / holders[term] for term in sorted(terms)) / max(len(wanted), 1) + ORDER_WEIGHT / rank
        for rank, terms in enumerate(held, start=1)
    ]
    order = sorted(range(len(hits)), key=lambda index: -scores[index])
    return [hits[index] for index in order]


def _terms(text: str) -> set[str]:
    """Distinct words and pairs of neighbouring words, case folded."""
    words = _WORD.findall(text.casefold())
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}
