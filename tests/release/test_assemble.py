import json

import pytest

from headwater.embeddings.cross_encoder import cross_encoder_digest
from headwater.embeddings.retrieve import RetrievalSettings
from headwater.errors import HeadwaterError, IntegrityError
from headwater.evaluation import store
from headwater.guardrails.policy import DocumentPolicy, kept_policy, load_policy
from headwater.release import manifest
from headwater.release.assemble import assemble, load_candidate, save_candidate
from headwater.release.manifest import Release
from headwater.settings import Settings
from tests.evaluation.examples import generation_report, retrieval_report
from tests.release.conftest import PROMPT, write_adapter, write_base

SIZE = 8
FIRST = [1] * SIZE


def candidate(
    settings: Settings, *, adapter_nll: float = 1.5, provisional: bool = False
) -> Release:
    """A candidate over reports in which the adapter reaches this NLL, the base 2.0."""
    found = retrieval_report(
        {"dense": FIRST, "bm25": FIRST, "fused": FIRST}, provisional=provisional
    )
    written = generation_report(
        {"base": [2.0] * SIZE, "adapter": [adapter_nll] * SIZE}, provisional=provisional
    )
    store.save(settings, store.RETRIEVAL, found)
    store.save(settings, store.GENERATION, written)
    return assemble(
        settings, base=write_base(settings), adapter=write_adapter(settings, b"weights"),
        prompt=PROMPT, index="index1", run_id="run", commit="abc",
    )  # fmt: skip


def test_a_good_candidate_carries_its_judgement(settings: Settings) -> None:
    release = candidate(settings)
    assert release.blocked == []
    assert not release.provisional
    assert release.evaluation["generation"]["nll_delta"]["mean"] == -0.5
    assert RetrievalSettings(**release.retrieval) == RetrievalSettings()
    save_candidate(settings, release)
    assert load_candidate(settings).to_json() == release.to_json()
    assert manifest.list_ids(settings) == [], "a candidate is no release"
    manifest.verify(settings, release)


def test_it_names_the_policy_of_the_guards_and_keeps_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = candidate(settings)
    policy = load_policy()
    assert release.guardrails == policy.reference
    assert kept_policy(settings, release.guardrails) == policy
    stricter = policy.model_copy(update={"documents": DocumentPolicy(injection=0.1)})
    monkeypatch.setattr("headwater.release.assemble.load_policy", lambda: stricter)
    other = candidate(settings)
    assert other.id != release.id
    assert kept_policy(settings, release.guardrails) == policy, "the old one stays"
    kept = settings.root / f"releases/guardrails/{policy.reference.rpartition('/')[2]}.json"
    kept.unlink()
    with pytest.raises(IntegrityError):
        manifest.verify(settings, release)
    manifest.verify(settings, other)


def test_a_reranker_is_part_of_it_where_there_is_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = candidate(settings)
    assert dict(plain.retrieval) == {
        "limit": 5, "depth": 50, "rrf_k": 60, "dense_weight": 0.5, "relevance": 0.6,
    }  # fmt: skip
    late = candidate(settings.model_copy(update={"reranker": "late-interaction"}))
    assert dict(late.retrieval) == {
        **plain.retrieval, "reranker": "late-interaction/1", "rerank_first": 10,
    }  # fmt: skip
    folder = settings.root / "reader"
    folder.mkdir()
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"},
              "max_position_embeddings": 64}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    pinned = candidate(settings.model_copy(update={"reranker": str(folder)}))
    assert pinned.retrieval["reranker"] == f"cross-encoder/{cross_encoder_digest(folder)}"
    assert len({plain.id, late.id, pinned.id}) == 3
    monkeypatch.setattr("headwater.release.manifest.now", lambda: "now")
    assert manifest.load(settings, manifest.save(settings, pinned).id).retrieval == pinned.retrieval


def test_passages_found_in_another_way_than_was_judged_are_not_released(
    settings: Settings,
) -> None:
    candidate(settings)
    found = retrieval_report({"dense": FIRST, "bm25": FIRST, "fused": FIRST})
    parts = {"base": write_base(settings), "adapter": write_adapter(settings, b"weights")}
    store.save(settings, store.RETRIEVAL, found, retrieval=RetrievalSettings().digest)
    named = {"prompt": PROMPT, "index": "index1", "run_id": "run", "commit": "abc"}
    assert assemble(settings, **parts, **named).blocked == []  # type: ignore[arg-type]
    late = settings.model_copy(update={"reranker": "late-interaction"})
    with pytest.raises(HeadwaterError, match="retrieval_report judges passages") as raised:
        assemble(late, **parts, **named)  # type: ignore[arg-type]
    assert "headwater build" in raised.value.mend


def test_a_worse_adapter_is_blocked_by_name(settings: Settings) -> None:
    good = candidate(settings)
    bad = candidate(settings, adapter_nll=2.5)
    assert bad.blocked == ["nll_delta"]
    assert bad.id == good.id, "the judgement is no part of the id"


def test_questions_that_nobody_read_make_it_provisional(settings: Settings) -> None:
    assert candidate(settings, provisional=True).provisional


def test_without_a_candidate(settings: Settings) -> None:
    with pytest.raises(HeadwaterError, match="no release candidate"):
        load_candidate(settings)
