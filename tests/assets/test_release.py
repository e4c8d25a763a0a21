"""What a change of the guards' policy makes stale."""

import sys
from types import ModuleType

import pytest

from headwater.guardrails.policy import DocumentPolicy, load_policy


def _code_versions() -> dict[str, str | None]:
    import importlib

    import assets.release

    module: ModuleType = importlib.reload(sys.modules[assets.release.__name__])
    definitions = (module.release_candidate, module.release, module.endpoint)
    return {each.key.to_user_string(): each.code_versions_by_key[each.key] for each in definitions}


def test_an_edit_of_the_policy_makes_the_candidate_alone_stale_by_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = _code_versions()
    stricter = load_policy().model_copy(update={"documents": DocumentPolicy(injection=0.1)})
    with monkeypatch.context() as patch:
        patch.setattr("headwater.guardrails.policy.load_policy", lambda: stricter)
        after = _code_versions()
    assert _code_versions() == before
    assert {key for key in before if before[key] != after[key]} == {"release_candidate"}
