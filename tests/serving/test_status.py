"""`status` tells what a script and a person need, at every stage of an installation's life."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.homes import promote
from headwater.release.manifest import Release
from headwater.serving.status import status
from headwater.settings import Settings

DELTA = {"mean": -0.4, "low": -0.5, "high": -0.3}
#: As `headwater.evaluation.report.summary` writes it.
EVALUATION = {
    "generation": {
        "nll_delta": DELTA,
        "chrf_delta": DELTA,
        "arms": {"base": {"nll": 2.0, "chrf": 20.0}, "adapter": {"nll": 1.6, "chrf": 30.0}},
    },
    "retrieval": {"ndcg_at_10": {"dense": 0.8, "bm25": 0.7, "fused": 0.9}, "recall_at_5": 0.95},
}


def test_before_the_first_release(tmp_path: Path) -> None:
    found = status(Settings(home=tmp_path))
    assert found["release"] is None
    assert found["endpoint"] == {"url": None, "ready": False, "release": None}


def test_a_release_tells_what_it_is_made_of(
    home: Settings, make_release: Callable[..., Release]
) -> None:
    release = make_release(home, evaluation=EVALUATION, provisional=True)
    promote(home, release)
    found = status(home)
    assert found["release"]["id"] == release.id
    assert found["release"]["index"] == "old"
    assert found["release"]["prompt"] == release.prompt.digest
    assert found["release"]["base_model"] == release.base_model.name
    assert found["release"]["adapter"] is None
    assert found["provisional"] is True
    generation, retrieval = found["evaluation"]["generation"], found["evaluation"]["retrieval"]
    assert generation["nll_delta"] == DELTA
    assert retrieval["recall_at_5"] == 0.95
