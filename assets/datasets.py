"""Group `datasets`: questions that judge, rows that teach, and the prompt both share."""

from dataclasses import asdict
from typing import Any

import dagster as dg

from assets.documents import clean_documents, document_shards, duplicates
from assets.embeddings import vector_index
from assets.partitions import settings
from assets.policies import DATA, ML, TRAINING_POOL, on_change, table, version
from assets.sources import golden_questions
from assets.sources import prompt_registry as prompt_versions
from headwater.base_model import token_counter
from headwater.datasets import golden, preferences, prompt_forms, prompt_registry, sft
from headwater.datasets.prompt_store import current_prompt, publish_prompt
from headwater.monitoring import hard_questions
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource
from training.recipe import load_recipe

_recipe = load_recipe(settings.recipe)


@dg.asset(
    deps=[clean_documents, duplicates, golden_questions],
    group_name="datasets",
    automation_condition=on_change,
    kinds={"deltalake"},
    owners=[ML, DATA],
    code_version=version("golden/1", golden.golden_digest(golden.load_curated())),
)
def golden_set(settings: SettingsResource, lake: LakeResource) -> Any:
    """Frozen questions with references, never trained on.

    Curated questions count where their documents are in the corpus; what stands in for a duplicate
    answers for it. A source without any gets provisional known-item questions, marked so in every
    report; `headwater golden review` turns them into real ones.
    """
    store = lake.get()
    stats = golden.build_golden_set(store, settings.get().golden_file)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(stats.digest),
        metadata={
            "dagster/row_count": stats.items,
            "curated": stats.curated,
            "confirmed": stats.confirmed,
            "provisional": stats.provisional,
            "sample": table(store.read("golden_set").to_pylist(), ["category", "question"]),
        },
    )


@dg.asset(
    name="prompt",
    deps=[prompt_versions, "base_model"],
    group_name="datasets",
    automation_condition=on_change,
    kinds={"mlflow"},
    owners=[ML],
    code_version="prompt/2",
)
def prompt_template(settings: SettingsResource, models: ModelsResource) -> Any:
    """The template that training, evaluation and serving all fill in the same way.

    It is the version that the alias `candidate` names in MLflow's prompt registry, checked, and
    kept beside the releases; `headwater prompts` edits it.
    """
    choices = settings.get()
    taken = prompt_registry.ensure_candidate(choices)
    template = taken.to_prompt()
    prompt_forms.check_length(template, token_counter(models.base()), where=taken.title)
    publish_prompt(choices, template)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(template.digest),
        metadata={
            "version": taken.number,
            "mlflow": dg.MetadataValue.url(prompt_registry.page(choices, taken.number)),
            "note": taken.note,
            "system": template.system,
            "user": template.user,
            "examples": table(
                [{"user": user, "assistant": said} for user, said in template.examples],
                ["user", "assistant"],
            ),
            "top_k": template.top_k,
            "max_context_tokens": template.max_context_tokens,
        },
    )


@dg.asset(
    deps=[
        "base_model",
        document_shards,
        vector_index,
        golden_set,
        prompt_template,
        "requests",
        "feedback",
    ],
    group_name="datasets",
    kinds={"deltalake"},
    owners=[ML],
    pool=TRAINING_POOL,
    code_version=version(sft.STAGE_VERSION, asdict(_recipe.dataset), _recipe.seed),
)
def sft_dataset(
    settings: SettingsResource,
    lake: LakeResource,
    models: ModelsResource,
    vectors: VectorsResource,
) -> Any:
    """Question-answer rows made from the chunks, each with its source chunk and context.

    Corrections that people gave, with the trace they correct; after a drift, users' questions that
    were answered poorly, where a chunk answers them; headings, definitions and signatures; and
    questions that the base model writes and that retrieve their own chunk. Rows close to a golden
    question are left out.
    """
    from headwater.datasets.questions import QuestionWriter

    choices, store, base = settings.get(), lake.get(), models.base()
    with (
        models.retriever(vectors.get()) as retriever,
        QuestionWriter(models.engine, base.digest, choices.cache) as writer,
    ):
        stats = sft.build_sft_dataset(
            store,
            ask=writer,
            retriever=retriever,
            top_k=current_prompt(choices).top_k,
            max_rows=_recipe.dataset.max_rows,
            written_questions=_recipe.dataset.written_questions,
            seed=_recipe.seed,
            asked=hard_questions.read(choices),
        )
    rows = store.read("sft_dataset").to_pylist()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(stats.digest),
        metadata={
            "dagster/row_count": stats.rows,
            "train": stats.train,
            "validation": stats.validation,
            "by_kind": stats.by_kind,
            "left_out_as_golden": stats.dropped_leaks,
            "corrections_without_passages": stats.dropped_gone,
            "written_by_model": f"{stats.written_kept} kept of {stats.written_tried} tried",
            "sample": table(rows, ["kind", "question", "answer", "uri"], limit=12),
        },
    )


@dg.asset(
    deps=[document_shards, golden_set, "requests", "feedback"],
    group_name="datasets",
    kinds={"deltalake"},
    owners=[ML],
    code_version=preferences.STAGE_VERSION,
)
def preference_pairs(lake: LakeResource) -> Any:
    """A better and a worse answer to the same question, from ratings and corrections.

    Each pair names the traces it comes from. Pairs close to a golden question are left out.
    """
    store = lake.get()
    stats = preferences.build_preference_pairs(store)
    rows = store.read("preference_pairs").to_pylist()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(stats.digest),
        metadata={
            "dagster/row_count": stats.rows,
            "by_source": stats.by_source,
            "left_out_as_golden": stats.dropped_leaks,
            "without_passages": stats.dropped_gone,
            "sample": table(rows, ["source", "question", "chosen", "rejected"], limit=12),
        },
    )
