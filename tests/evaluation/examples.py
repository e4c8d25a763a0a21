"""Reports made from ranks and likelihoods, through the code that makes the real ones."""

from collections.abc import Mapping, Sequence

from headwater.embeddings.retrieve import Mode
from headwater.evaluation import generation
from headwater.evaluation.generation import Answer, GeneratedItem, GenerationReport
from headwater.evaluation.retrieval import RetrievalReport, evaluate_retrieval
from headwater.records import GoldenItem, Hit


def hit(uri: str, *, text: str = "text", heading: str = "Heading", score: float = 1.0) -> Hit:
    return Hit(
        id=f"{uri}#0", score=score, uri=uri, title="Title", heading=heading, start=0,
        end=len(text), text=text,
    )  # fmt: skip


def golden(number: int, *, provisional: bool = False) -> GoldenItem:
    kind = "p" if provisional else "c"
    return GoldenItem(
        id=f"{kind}{number:03}", question=f"What is {kind}{number}?",
        reference=f"It is number {number}.", uris=(f"doc://{kind}{number}", f"doc://copy{number}"),
        category="test", provisional=provisional,
    )  # fmt: skip


def retrieval_report(
    ranks: Mapping[str, Sequence[int | None]], *, provisional: bool = False
) -> RetrievalReport:
    """Ranks of the answer by mode; one golden item per position."""
    items = [golden(at, provisional=provisional) for at in range(len(ranks["fused"]))]
    order = {item.question: at for at, item in enumerate(items)}

    def retrieve(question: str, mode: Mode, limit: int) -> list[Hit]:
        at = order[question]
        rank = ranks[mode][at]
        uris = [f"doc://other{place}" for place in range(1, limit + 1)]
        if rank is not None and rank <= limit:
            uris[rank - 1] = items[at].uris[at % 2]
        return [hit(uri) for uri in uris]

    return evaluate_retrieval(items, retrieve)


def generation_report(
    nll: Mapping[str, Sequence[float]],
    cites: Mapping[str, Sequence[bool]] | None = None,
    *,
    provisional: bool = False,
) -> GenerationReport:
    """NLL by arm, and whether each arm cites the right document where it answers."""
    rows = []
    for at in range(len(nll["base"])):
        item = golden(at, provisional=provisional)
        answers = {
            arm: Answer(
                text=f"Answer of {arm}", cited=item.uris[0] if right[at] else "doc://wrong",
                rouge_l=0.2, chrf=20.0, cites_right=right[at], tokens=10, latency_ms=100.0 + at,
                tokens_per_second=50.0,
            )
            for arm, right in (cites or {}).items()
        }  # fmt: skip
        rows.append(
            GeneratedItem(
                id=item.id, question=item.question, reference=item.reference, uri=item.uris[0],
                provisional=provisional, context_right=True,
                nll={arm: values[at] for arm, values in nll.items()}, answers=answers,
            )
        )  # fmt: skip
    return generation.report_of(rows)
