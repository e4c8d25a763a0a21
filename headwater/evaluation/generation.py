"""Does the adapter answer better than the base model? Both on the golden set, question by question.

Likelihood of the references is scored on torch (the engine's weights, dequantised); answers come
from the engine that serves. Knows nothing of how contexts were retrieved.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from headwater.base_model import BaseModel, token_counter
from headwater.datasets.citations import rank_citations
from headwater.datasets.prompt import chat_text, fit, render
from headwater.engine import Completion, Engine
from headwater.evaluation.cache import ResultCache
from headwater.evaluation.likelihood import ADAPTER, BASE, arms_of, reference_nll
from headwater.evaluation.statistics import Interval, bootstrap, mean, paired_bootstrap, rounded
from headwater.progress import track
from headwater.records import GoldenItem, Hit, Prompt, digest_of

GENERATION_REPORT_VERSION = 1
#: Measures of an answer, higher is better.
ANSWER_MEASURES = ("rouge_l", "chrf", "cites_right")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How much is evaluated. Likelihood covers every question; answers, which are slow, a sample.

    The sample is drawn by the digest of a question's id, so new questions displace few.
    """

    answers: int = 32  # curated questions
    provisional_answers: int = 12
    max_new_tokens: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One arm's greedy answer. ROUGE-L is an F-measure in 0..1, chrF in 0..100."""

    text: str
    cited: str  # URI of the first citation
    rouge_l: float
    chrf: float
    cites_right: bool
    tokens: int
    latency_ms: float  # prompt and answer, of the engine; no part of the report's digest
    tokens_per_second: float  # while answering; no part of the report's digest


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedItem:
    """One question: NLL per token of its reference by arm, and answers if it is in the sample."""

    id: str
    question: str
    reference: str
    uri: str
    provisional: bool
    context_right: bool  # a relevant document is among the passages shown
    nll: Mapping[str, float]
    answers: Mapping[str, Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFigures:
    """One arm's means. Those of answers are None where no answer was sampled."""

    nll: Interval
    rouge_l: float | None
    chrf: float | None
    cites_right: float | None
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSlice:
    """Figures over the curated or the provisional questions.

    `deltas` are adapter - base, paired by question: "nll" (nats per token, negative is better)
    and the answer measures (positive is better); empty where there is no adapter.
    """

    items: int
    answered: int
    context_right: float
    arms: Mapping[str, ArmFigures]
    deltas: Mapping[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """All figures; a slice is None where the golden set has no such question."""

    curated: GenerationSlice | None
    provisional: GenerationSlice | None
    rows: tuple[GeneratedItem, ...]

    @property
    def digest(self) -> str:
        """Of everything but timings, so that a repeated evaluation has the same."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row["nll"] = {arm: rounded(value) for arm, value in row["nll"].items()}
            for answer in row["answers"].values():
                del answer["latency_ms"], answer["tokens_per_second"]
        return digest_of(GENERATION_REPORT_VERSION, rows)

    @property
    def headline(self) -> GenerationSlice | None:
        """The slice that speaks for the corpus: curated where there is one."""
        return self.curated or self.provisional


def evaluate_generation(
    items: Sequence[GoldenItem],
    contexts: Mapping[str, Sequence[Hit]],
    *,
    base: BaseModel,
    adapter: Path | None,
    open_engine: Callable[[], Engine],
    prompt: Prompt,
    cache: ResultCache,
    threads: int,
    settings: GenerationSettings | None = None,
) -> GenerationReport:
    """Score references and generate answers with and without the adapter; rows in order of id.

    Args:
        contexts: for each item's id what retrieval gives for its question, best first.
        adapter: the adapter's folder, or None to evaluate the base model alone.
        open_engine: loads base and adapter; called only if an answer is not in the cache.
        cache: results by the digest of base, adapter, prompt text and decoding, kept one by one.
        threads: of torch; the engine has its own.
        settings: how much is evaluated; the default suits two cores.
    """
    settings = settings or GenerationSettings()
    items = sorted(items, key=lambda item: item.id)
    counter = token_counter(base)
    shown = {item.id: fit(contexts[item.id], counter, prompt.max_context_tokens) for item in items}
    prompts = {item.id: chat_text(render(prompt, item.question, shown[item.id])) for item in items}
    pairs = [(prompts[item.id], item.reference) for item in items]
    nll = reference_nll(pairs, base, adapter, cache=cache, threads=threads)
    sample = _sample(items, settings)
    completions = _complete(
        {item.id: prompts[item.id] for item in sample},
        base=base,
        arms=arms_of(adapter),
        open_engine=open_engine,
        max_new_tokens=settings.max_new_tokens,
        cache=cache,
    )
    rows = tuple(
        GeneratedItem(
            id=item.id,
            question=item.question,
            reference=item.reference,
            uri=item.uris[0],
            provisional=item.provisional,
            context_right=any(hit.uri in item.uris for hit in shown[item.id]),
            nll={arm: values[at] for arm, values in nll.items()},
            answers={
                arm: _judged(item, shown[item.id], completion)
                for arm, completion in completions.get(item.id, {}).items()
            },
        )
        for at, item in enumerate(items)
    )
    return report_of(rows)


def report_of(rows: Sequence[GeneratedItem]) -> GenerationReport:
    """Aggregate judged questions, curated and provisional apart."""
    return GenerationReport(
        curated=_slice([row for row in rows if not row.provisional]),
        provisional=_slice([row for row in rows if row.provisional]),
        rows=tuple(rows),
    )


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L F-measure in 0..1, stemmed (Lin, 2004), by rouge_score."""
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # Passing the default tokenizer keeps the scorer from logging that it takes the default.
    return RougeScorer(["rougeL"], tokenizer=DefaultTokenizer(use_stemmer=True))


def chrf(answer: str, reference: str) -> float:
    """Sentence chrF in 0..100 (Popovic, 2015), by sacrebleu with its defaults."""
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(answer, [reference]).score)


def _sample(items: Sequence[GoldenItem], settings: GenerationSettings) -> list[GoldenItem]:
    """The questions to answer: the first of each slice in the order of their ids' digests."""
    order = sorted(items, key=lambda item: digest_of(item.id))
    curated = [item for item in order if not item.provisional]
    provisional = [item for item in order if item.provisional]
    return curated[: settings.answers] + provisional[: settings.provisional_answers]


def _complete(
    prompts: Mapping[str, str],
    *,
    base: BaseModel,
    arms: Mapping[str, str | None],
    open_engine: Callable[[], Engine],
    max_new_tokens: int,
    cache: ResultCache,
) -> dict[str, dict[str, Completion]]:
    """Greedy completions by prompt id and arm, from the cache where it has them.

    The engine's prompt cache is off: an answer depends on its prompt alone.
    """
    version = importlib.metadata.version("xllamacpp")
    keys = {
        (name, arm): digest_of("answer", base.engine_digest, adapter, text, max_new_tokens, version)
        for name, text in prompts.items()
        for arm, adapter in arms.items()
    }
    known = cache.get(keys.values())
    missing = [where for where, key in keys.items() if key not in known]
    if missing:
        with closing(open_engine()) as engine:
            for name, arm in track(missing, what="generating answers"):
                completion = engine.complete(
                    prompts[name],
                    max_tokens=max_new_tokens,
                    adapter=arm == ADAPTER,
                    cache_prompt=False,
                )
                known[keys[name, arm]] = asdict(completion)
                cache.put(keys[name, arm], asdict(completion))
    return {name: {arm: Completion(**known[keys[name, arm]]) for arm in arms} for name in prompts}


def _judged(item: GoldenItem, shown: Sequence[Hit], completion: Completion) -> Answer:
    text = completion.text.strip()
    citations = rank_citations(text, shown)
    cited = citations[0].uri if citations else ""
    seconds = completion.generate_ms / 1000
    return Answer(
        text=text,
        cited=cited,
        rouge_l=rounded(rouge_l(text, item.reference)),
        chrf=rounded(chrf(text, item.reference)),
        cites_right=cited in item.uris,
        tokens=completion.completion_tokens,
        latency_ms=completion.prompt_ms + completion.generate_ms,
        tokens_per_second=completion.completion_tokens / seconds if seconds else 0.0,
    )


def _slice(rows: Sequence[GeneratedItem]) -> GenerationSlice | None:
    if not rows:
        return None
    answered = [row for row in rows if row.answers]
    arms = tuple(rows[0].nll)
    deltas = {}
    if ADAPTER in arms:
        nll = {arm: [row.nll[arm] for row in rows] for arm in arms}
        deltas["nll"] = paired_bootstrap(nll[ADAPTER], nll[BASE])
        for measure in ANSWER_MEASURES if answered else ():
            values = {arm: _values(answered, arm, measure) for arm in arms}
            deltas[measure] = paired_bootstrap(values[ADAPTER], values[BASE])
    return GenerationSlice(
        items=len(rows),
        answered=len(answered),
        context_right=mean([row.context_right for row in rows]),
        arms={arm: _figures(rows, answered, arm) for arm in arms},
        deltas=deltas,
    )


def _figures(
    rows: Sequence[GeneratedItem], answered: Sequence[GeneratedItem], arm: str
) -> ArmFigures:
    def average(measure: str) -> float | None:
        return mean(_values(answered, arm, measure)) if answered else None

    def latency(quantile: float) -> float | None:
        values = _values(answered, arm, "latency_ms")
        return rounded(np.quantile(values, quantile)) if values else None

    return ArmFigures(
        nll=bootstrap([row.nll[arm] for row in rows]),
        rouge_l=average("rouge_l"),
        chrf=average("chrf"),
        cites_right=average("cites_right"),
        latency_ms_p50=latency(0.5),
        latency_ms_p95=latency(0.95),
        tokens_per_second=average("tokens_per_second"),
    )


def _values(rows: Sequence[GeneratedItem], arm: str, measure: str) -> list[float]:
    return [float(getattr(row.answers[arm], measure)) for row in rows]
