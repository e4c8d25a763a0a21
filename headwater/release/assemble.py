"""Puts a release candidate together from what the stages before have published.

A candidate becomes a release only by `manifest.save`, which the caller does once every gate has
passed; until then it lies beside the releases under a name of its own.
"""

from pathlib import Path

from headwater.base_model import BaseModel
from headwater.embeddings.encoder import model_digest
from headwater.embeddings.retrieve import retrieval_settings
from headwater.errors import HeadwaterError
from headwater.evaluation import gates, relative, report, store
from headwater.files import read_json, write_json
from headwater.guardrails.policy import keep_policy, load_policy
from headwater.records import Prompt
from headwater.release.champion import find_champion
from headwater.release.manifest import Release, now, pin_adapter, pin_base
from headwater.settings import Settings


def assemble(
    settings: Settings,
    *,
    base: BaseModel,
    adapter: Path,
    prompt: Prompt,
    index: str,
    run_id: str,
    commit: str,
) -> Release:
    """The manifest of what would serve, judged by the latest reports and against the champion.

    The reports are kept under the digests that the manifest names, for what comes after it.

    Args:
        adapter: folder of the adapter, as training published it.
        index: version of the vector index.

    Raises:
        HeadwaterError: the reports judge passages that were found in another way, or there is no
            reranker as the settings name.
    """
    found_by = retrieval_settings(settings)
    store.check_found_by(settings, found_by.digest)
    retrieval = store.latest_retrieval(settings)
    generation = store.latest_generation(settings)
    policy = gates.load_policy()
    champion = find_champion(settings)
    judged = [
        *gates.evaluate_gates(retrieval, generation, policy),
        *relative.retrieval_against(retrieval.rows, champion, policy.relative),
        *relative.generation_against(generation.rows, champion, policy.relative, base=base.digest),
    ]
    evaluation = {
        **report.summary(retrieval, generation),
        "policy": policy.digest,
        "champion": champion.id if champion else None,
        "reports": {
            store.RETRIEVAL: store.keep(settings, retrieval),
            store.GENERATION: store.keep(settings, generation),
        },
    }
    return Release(
        base_model=pin_base(settings, base),
        adapter=pin_adapter(settings, adapter),
        prompt=prompt,
        index=index,
        embedding_model=model_digest(settings.embedding_model),
        retrieval=found_by.as_mapping(),
        guardrails=keep_policy(settings, load_policy()),
        evaluation=evaluation,
        gates=tuple(result.as_mapping() for result in judged),
        provisional=gates.is_provisional(retrieval, policy),
        run_id=run_id,
        commit=commit,
        created=now(),
    )


def save_candidate(settings: Settings, candidate: Release) -> None:
    """Keep the candidate until it is released or another takes its place."""
    write_json(settings.releases / "candidate.json", candidate.to_json())


def load_candidate(settings: Settings) -> Release:
    """The candidate that was saved last.

    Raises:
        HeadwaterError: there is none.
    """
    saved = read_json(settings.releases / "candidate.json")
    if saved is None:
        raise HeadwaterError("There is no release candidate.", mend="Run `headwater build`.")
    return Release.from_json(saved)
