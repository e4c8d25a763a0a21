"""Group `evaluation`: reports that gate a release."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg

from assets.datasets import golden_set, prompt_template
from assets.embeddings import vector_index
from assets.partitions import settings
from assets.policies import ML, TRAINING_POOL, on_change, version
from assets.training import base_model, lora_adapter
from headwater.datasets.golden import read_golden
from headwater.datasets.prompt_store import current_prompt
from headwater.embeddings.retrieve import retrieval_settings
from headwater.evaluation.generation import GENERATION_REPORT_VERSION
from headwater.evaluation.retrieval import RETRIEVAL_REPORT_VERSION
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource
from training.recipe import load_recipe

_recipe = load_recipe(settings.recipe)
_found_by = retrieval_settings(settings).digest


@dg.asset(
    deps=[vector_index, golden_set],
    group_name="evaluation",
    automation_condition=on_change,
    owners=[ML],
    pool=TRAINING_POOL,
    code_version=version(f"retrieval/{RETRIEVAL_REPORT_VERSION}", _found_by),
)
def retrieval_report(
    settings: SettingsResource, lake: LakeResource, models: ModelsResource, vectors: VectorsResource
) -> Any:
    """Recall@k, MRR and nDCG@10 of dense, BM25 and fused retrieval on the golden set.

    Differences carry paired bootstrap intervals; provisional questions are reported apart.
    """
    from headwater.evaluation import report as pages
    from headwater.evaluation import store
    from headwater.evaluation.retrieval import evaluate_retrieval

    choices = settings.get()
    with models.retriever(vectors.get()) as retriever:
        index, found_by = retriever.index.version, retriever.settings.digest
        report = evaluate_retrieval(read_golden(lake.get()), retriever.retrieve)
    store.save(choices, store.RETRIEVAL, report, index=index, retrieval=found_by)
    document = pages.retrieval_document(report, {"index": index})
    folder = pages.write_report(choices.reports, store.RETRIEVAL, report.digest, document)
    figures = report.headline
    metadata: dict[str, Any] = {"items": len(report.rows)}
    if figures is not None:
        metadata["recall_at_5"] = figures.modes["fused"].recall[5]
        for mode, found in figures.modes.items():
            metadata[f"ndcg_at_10_{mode}"] = found.ndcg_at_10.mean
    return _result(report.digest, folder, provisional=report.curated is None, **metadata)


@dg.asset(
    deps=[vector_index, golden_set, prompt_template, base_model, lora_adapter],
    group_name="evaluation",
    automation_condition=on_change,
    owners=[ML],
    pool=TRAINING_POOL,
    code_version=version(
        f"generation/{GENERATION_REPORT_VERSION}",
        asdict(_recipe.evaluation),
        _found_by,
    ),
)
def generation_report(
    settings: SettingsResource, lake: LakeResource, models: ModelsResource, vectors: VectorsResource
) -> Any:
    """Base against adapter on the golden set, with paired bootstrap intervals.

    Negative log-likelihood of the references, ROUGE-L, chrF, answers that cite the right
    document, latency. Items are cached by digest: a new index re-evaluates only the questions
    whose context changed.
    """
    from headwater.evaluation import report as pages
    from headwater.evaluation import store
    from headwater.evaluation.cache import ResultCache
    from headwater.evaluation.generation import GenerationSettings, evaluate_generation
    from training.adapter import current_adapter

    choices, base = settings.get(), models.base()
    adapter, prompt = current_adapter(choices), current_prompt(choices)
    items = read_golden(lake.get())
    with models.retriever(vectors.get()) as retriever:
        index, found_by = retriever.index.version, retriever.settings.digest
        found = retriever.passages_many([item.question for item in items], limit=prompt.top_k)
    report = evaluate_generation(
        items,
        {item.id: hits for item, hits in zip(items, found, strict=True)},
        base=base,
        adapter=adapter.folder,
        open_engine=lambda: models.engine(adapter.gguf),
        prompt=prompt,
        cache=ResultCache(choices.cache),
        threads=choices.threads,
        settings=GenerationSettings(
            answers=_recipe.evaluation.generation_items,
            max_new_tokens=_recipe.evaluation.max_new_tokens,
        ),
    )
    store.save(
        choices,
        store.GENERATION,
        report,
        index=index,
        adapter=adapter.id,
        prompt=prompt.digest,
        base=base.digest,
        retrieval=found_by,
    )
    document = pages.generation_document(
        report, {"base model": base.name, "adapter": adapter.id, "prompt": prompt.digest}
    )
    folder = pages.write_report(choices.reports, store.GENERATION, report.digest, document)
    figures = report.headline
    metadata: dict[str, Any] = {"items": len(report.rows)}
    if figures is not None:
        for name, interval in figures.deltas.items():
            metadata[f"{name}_delta"] = interval.mean
            metadata[f"{name}_delta_interval"] = f"{interval.low:+.3f} to {interval.high:+.3f}"
    return _result(report.digest, folder, provisional=report.curated is None, **metadata)


def _result(digest: str, folder: Path, **metadata: Any) -> Any:
    """The report as Markdown with its plots in place, where its page lies, the main figures."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata={
            "report": dg.MetadataValue.md((folder / "report.md").read_text("utf-8")),
            "page": dg.MetadataValue.path(str(folder / "report.html")),
            **metadata,
        },
    )
