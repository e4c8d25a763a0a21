"""The whole chain with the tiny model, through the command line: build, ask, change, break."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headwater.datasets import golden
from headwater.datasets.prompt import DEFAULT_PROMPT
from headwater.datasets.prompt_forms import to_yaml
from headwater.lake import Lake
from tests.integration.conftest import Installation


@dataclass(frozen=True)
class Built:
    """An installation, and what its first build said; `release` as `status` showed it then."""

    installation: Installation
    first: dict[str, Any]
    release: dict[str, Any]


def with_drinks(installation: Installation) -> Installation:
    installation.write_guides("Tea", "Coffee", "Cocoa", "Mate", "Rooibos")
    installation.run("sources", "add", str(installation.documents), "--name", "drinks")
    return installation


@pytest.fixture(scope="module")
def built(install: Callable[..., Installation], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build is by a process that is started, as a user's is, and so has another order of sets
    than the forks by which everything else is."""
    installation = with_drinks(install(tmp_path_factory.mktemp("undisturbed"), warm=True))
    planned = installation.run("build", "--plan")
    assert "lora_adapter" in planned["stale"]
    assert not (installation.home / "lake" / "raw_documents").exists(), "a plan changes nothing"
    first = replace(installation, warm=False).run("build")
    return Built(installation, first, installation.run("status")["release"])


@pytest.mark.timeout(600)
def test_a_change_costs_what_changed(built: Built) -> None:
    """First build, no change, one edited paragraph, a removed document, bad neighbours."""
    installation, first = built.installation, built.first
    assert first["deployed"] and first["training"]["steps"] > 0
    assert first["documents"] == {
        "seen": 5, "processed": 5, "quarantined": 0, "duplicates": 0, "removed": 0
    }  # fmt: skip
    assert first["chunks"]["embedded"] == first["chunks"]["total"] > 5

    again = installation.run("build")
    assert again["stale"] == [] and again["release"] == first["release"]
    assert again["chunks"]["embedded"] == again["training"]["steps"] == 0

    # Another prompt is judged and released; nothing is embedded, retrieved or trained anew for it.
    prompt = replace(DEFAULT_PROMPT, examples=(("What is ice?", "Ice is frozen water."),))
    (installation.root / "prompt.yaml").write_text(to_yaml(prompt))
    installation.run("prompts", "add", str(installation.root / "prompt.yaml"))
    planned = installation.run("build", "--plan")
    assert planned["stale"] == [
        "prompt", "generation_report", "release_candidate", "release", "endpoint"
    ]  # fmt: skip
    assert planned["deferred"] == ["sft_dataset", "lora_adapter"]

    path = installation.documents / "tea.md"
    path.write_text(path.read_text().replace("closed tin", "painted wooden box"))
    edited = installation.run("build")
    assert edited["reasons"]["prompt"] == "prompt_registry changed"
    assert edited["documents"]["processed"] == 1
    assert edited["chunks"]["embedded"] == 1
    assert edited["training"]["steps"] == 0 and "lora_adapter" in edited["deferred"]
    assert edited["release"] != first["release"]
    before, after = first["release"], installation.run("status")["release"]
    assert after["id"] == edited["release"] != before
    assert after["prompt"] == prompt.digest
    answer = installation.run("ask", "Where is dry tea kept, in a painted wooden box?")
    assert answer["release"] == edited["release"]
    assert any("painted wooden box" in citation["text"] for citation in answer["citations"])

    # A whitespace edit ends at the cleaned text: what is embedded below is the long line's alone.
    path.write_text(path.read_text().replace("\n\n", "\n\n\n").replace(". ", ".  "))
    (installation.documents / "mate.md").unlink()
    (installation.documents / "empty.txt").write_bytes(b"")
    (installation.documents / "cut.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog")
    (installation.documents / "line.txt").write_bytes(b"word " * 2_000)
    broken = installation.run("build")
    assert broken["documents"]["removed"] == 1 and broken["documents"]["quarantined"] == 2
    lake = Lake(installation.home / "lake")
    chunks = lake.read("document_shards", columns=["uri", "embed_digest"]).to_pylist()
    new = len({row["embed_digest"] for row in chunks if row["uri"].endswith("line.txt")})
    assert broken["documents"]["processed"] == 4 and broken["chunks"]["embedded"] == new > 0
    quarantine = lake.read("quarantine").to_pylist()
    assert {row["uri"].rsplit("/", 1)[-1]: bool(row["reason"]) for row in quarantine} == {
        "empty.txt": True,
        "cut.pdf": True,
    }

    # Questions that no retrieval can answer as their author wants: a gate blocks, and goes on
    # blocking in the next build, which does not judge anew.
    documents = lake.read("clean_documents", columns=["uri"])["uri"].to_pylist()
    (wrong,) = [uri for uri in documents if uri.endswith("line.txt")]
    for name in ("tea", "coffee", "cocoa", "rooibos", "dry tea"):
        question = f"Where should I keep {name} at home?"
        golden.add(installation.home / "golden.yaml", question, "In a closed tin.", wrong)
    for _ in range(2):
        blocked = installation.run("build", code=3)
        assert "recall_at_5" in blocked["blocked"] and not blocked["deployed"]
        assert (
            blocked["release"] == broken["release"] == installation.run("status")["release"]["id"]
        )

    # Back to the first documents, although the folder has moved on: what follows them is stale.
    log = installation.run("data", "log", "raw_documents")["raw_documents"]
    version = min(row["version"] for row in log if row["run"] == first["run"] and row["version"])
    (restored,) = installation.run("data", "restore", "raw_documents", str(version))["restored"]
    assert restored["held"] and restored["source"] == version
    now, then = (lake.read("raw_documents", version=v).sort_by("uri") for v in (None, version))
    assert now == then
    planned = installation.run("build", "--plan")["stale"]
    assert "raw_documents" not in planned and {"clean_documents", "vector_index"} <= {*planned}


@pytest.mark.timeout(900)
def test_kills_anywhere_end_where_an_undisturbed_build_does(
    install: Callable[..., Installation], built: Built, tmp_path: Path
) -> None:
    """`kill -9` in embedding, index publishing, training and release of one build."""
    installation = with_drinks(install(tmp_path, warm=True))
    for stages in (
        ["chunk_embeddings"],
        ["vector_index"],
        ["training: step 2 is saved"],
        ["release"],
    ):
        installation.build_killed_at(stages)
    disturbed = installation.run("build")

    assert disturbed["release"] == built.first["release"]
    release = installation.run("status")["release"]
    assert (release["adapter"], release["index"]) == (
        built.release["adapter"], built.release["index"],
    )  # fmt: skip
    assert installation.run("build", "--plan")["stale"] == []


def test_errors_say_the_mend(installation: Installation) -> None:
    assert "mend" in installation.run("ask", "Anything?", code=1)
    assert "mend" in installation.run("sources", "add", "/nowhere/at/all", code=1)
    assert "mend" in installation.run("sources", "remove", "nothing", code=1)
