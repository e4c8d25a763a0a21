"""The monitoring assets say what an operator and the sensor read."""

from pathlib import Path

import dagster as dg
import pytest

from assets.monitoring import drift_report, retraining_decision
from headwater.lake import Lake
from headwater.settings import Settings
from resources.environment import SettingsResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource
from sensors.drift import drift
from tests.monitoring.conftest import ask, log_requests, release_with


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_HOME", str(tmp_path))
    (tmp_path / "monitoring.yaml").write_text(
        "drift: {reference_requests: 60, window_requests: 20, permutations: 199}\n"
    )
    return tmp_path


def look(home: Path, instance: dg.DagsterInstance) -> dict[str, dict[str, object]]:
    result = dg.materialize(
        [drift_report, retraining_decision],
        instance=instance,
        resources={
            "settings": SettingsResource(home=str(home)),
            "lake": LakeResource(path=str(home / "lake")),
            "models": ModelsResource(),
            "vectors": VectorsResource(),
        },
    )
    assert result.success
    return {
        event.asset_key.to_user_string(): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def test_an_operator_sees_evidence_pictures_and_reasons(home: Path) -> None:
    settings, lake = Settings(home=home), Lake(home / "lake")
    release = release_with(settings, "adapter-1")
    with dg.DagsterInstance.ephemeral() as instance:
        said = look(home, instance)
        assert said["drift_report"]["status"] == "no_reference"
        assert said["retraining_decision"]["verdict"] == "no_reference"

        log_requests(lake, ask(release, 100))
        log_requests(lake, ask(release, 100, topic="garden", day="2026-01-03"))
        said = look(home, instance)
        report, decision = said["drift_report"], said["retraining_decision"]
        assert report["status"] == "drift" and report["evidence"] >= report["threshold"]
        assert "data:image/png" in report["report"]
        assert Path(str(report["evidently"])).exists() and Path(str(report["page"])).exists()
        # No adapter was ever trained here, so nothing says what training costs.
        assert (decision["verdict"], decision["retrain"]) == ("no_cost", False)
        assert "Do not retrain" in decision["reasoning"]

        # The sensor reads every field that it needs from what the asset wrote.
        from definitions import defs

        context = dg.build_sensor_context(
            instance=instance,
            repository_def=defs.get_repository_def(),
        )
        assert "no_cost" in drift.evaluate_tick(context).skip_message
