"""Group `release`: the manifest, the record in the registry, and what answers users."""

from dataclasses import asdict
from typing import Any

import dagster as dg

from assets.datasets import prompt_template
from assets.embeddings import vector_index
from assets.evaluation import generation_report, retrieval_report
from assets.policies import (
    ML,
    ONCALL,
    follows_source,
    on_change,
    table,
    talks_to_others,
    version,
)
from assets.training import base_model, lora_adapter
from headwater.evaluation import gates
from headwater.guardrails.policy import load_policy
from headwater.release import manifest
from resources.endpoint import EndpointResource
from resources.environment import SettingsResource, git_commit
from resources.models import ModelsResource

_VERSION = f"manifest/{manifest.MANIFEST_VERSION}"


@dg.asset(
    deps=[
        vector_index,
        prompt_template,
        base_model,
        lora_adapter,
        retrieval_report,
        generation_report,
    ],
    group_name="release",
    automation_condition=on_change,
    owners=[ML],
    code_version=version(_VERSION, load_policy().reference, gates.load_policy().digest),
)
def release_candidate(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    models: ModelsResource,
) -> Any:
    """The manifest of what would serve: base, adapter, prompt, index, settings, guards, by digest.

    Its id is a digest of those parts alone; the evaluation, the run and the commit are noted
    beside them.
    """
    from headwater.datasets.prompt_store import load_prompt
    from headwater.evaluation.store import judged_index, judged_prompt
    from headwater.release.assemble import assemble, save_candidate
    from training.adapter import current_adapter

    choices = settings.get()
    adapter = current_adapter(choices)
    candidate = assemble(
        choices,
        base=models.base(),
        adapter=adapter.folder,
        # What was judged, not what is newest: another run may be publishing an index or a prompt.
        prompt=load_prompt(choices, judged_prompt(choices)),
        index=judged_index(choices, adapter.id),
        run_id=context.run_id,
        commit=git_commit(),
    )
    save_candidate(choices, candidate)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(candidate.id),
        metadata={
            "release": candidate.id,
            "manifest": dg.MetadataValue.json(candidate.to_json()),
            "provisional": candidate.provisional,
            "gates": table(
                [dict(gate) for gate in candidate.gates],
                ["name", "passed", "value", "threshold", "detail"],
            ),
        },
    )


@dg.asset(
    deps=[release_candidate],
    group_name="release",
    automation_condition=on_change,
    freshness_policy=follows_source,
    kinds={"mlflow"},
    retry_policy=talks_to_others,
    owners=[ML, ONCALL],
    code_version=_VERSION,
)
def release(settings: SettingsResource) -> Any:
    """The candidate, recorded in MLflow's registry as `champion`, once every gate has passed."""
    from headwater.release.assemble import load_candidate
    from headwater.release.champion import compare_again, forget_reports
    from headwater.release.registry import register

    choices = settings.get()
    # Another release may have gone into production since the candidate was judged.
    candidate = compare_again(choices, load_candidate(choices))
    if candidate.blocked:
        raise dg.Failure(
            f"Release {candidate.id} is blocked by {candidate.why_blocked}. Read the "
            "evaluation reports; a release that does not pass is never recorded.",
            metadata={"blocked": candidate.blocked},
            allow_retries=False,
        )
    candidate = manifest.save(choices, candidate)
    forget_reports(choices)
    registered = register(choices, candidate)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(candidate.id),
        metadata={"release": candidate.id, "mlflow": dg.MetadataValue.json(asdict(registered))},
    )


@dg.asset(
    deps=[release],
    group_name="release",
    automation_condition=on_change,
    kinds={"fastapi"},
    retry_policy=talks_to_others,
    owners=[ONCALL],
    code_version="endpoint/1",
)
def endpoint(settings: SettingsResource, server: EndpointResource) -> Any:
    """The release that answers users, proven by real requests.

    Moves the pointer that the endpoint follows, waits until it says so, and asks it a question.
    Where there is traffic to judge it by, a release with a new adapter or prompt starts as a
    canary instead; the endpoint promotes it or takes it back.
    """
    import time

    from headwater.release.assemble import load_candidate
    from headwater.release.deploy import deploy
    from headwater.serving.client import find_endpoint, wait_for_release
    from headwater.serving.connect import verify
    from headwater.serving.credentials import operator_key

    choices = settings.get()
    wanted = load_candidate(choices)
    running = find_endpoint(choices)
    deployed = deploy(choices, wanted.id, recent_answers=running.recent_answers if running else 0)
    started = time.monotonic()
    metadata: dict[str, Any] = {
        "release": wanted.id,
        "before": deployed.before or "none",
        "canary": deployed.canary,
        "why": deployed.why,
    }
    if deployed.canary and running is not None and deployed.before is not None:
        key = operator_key(choices, running.url)
        wait_for_release(running.url, deployed.before, canary=wanted.id, key=key)
        metadata["url"] = running.url
    else:
        with server.connect(choices) as (url, is_running):
            proof = verify(url, wanted.id, key=operator_key(choices, url))
        metadata |= {name: proof[name] for name in ("question", "answer", "trace")}
        metadata["url"] = url if is_running else "none running; verified in this process"
    metadata["seconds"] = round(time.monotonic() - started, 2)
    return dg.MaterializeResult(data_version=dg.DataVersion(wanted.id), metadata=metadata)
