"""The closed loop on a running installation, with no hand on it: quiet, drift, retraining, recovery.

`python -m benchmarks.loop --json` builds a home of its own, starts `headwater dev`, and then only
asks questions and adds documents. First 20 replays of what the reference was asked; then the
traffic moves to a topic whose documents arrive at the same time. At the end the release before,
the release after and one trained on both topics from the start are compared.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import yaml

from headwater.evaluation.statistics import Interval, paired_bootstrap
from headwater.release import traffic
from headwater.settings import Settings, quiet_libraries

REPOSITORY = Path(__file__).parents[1]
REPLAYS, WINDOW, REFERENCE = 20, 20, 60
#: Long enough for a fact; the loop asks a thousand times and more.
ANSWER_TOKENS = 16
#: Windows that a drift may take to be seen, and seconds that a retraining may take.
DRIFT_WINDOWS, RETRAIN_SECONDS = 12, 3600
#: Of the quality that the drift lost, as much is to be back.
LEAST_RECOVERED = 0.9
#: Small windows, and quality that is worth much, so that the loop closes within minutes.
POLICY = {
    "drift": {
        "reference_requests": REFERENCE, "window_requests": WINDOW, "permutations": 499,
        "pool_requests": 400, "recent_requests": 100,
    },
    "retraining": {"value_per_point": 50.0, "fewest_requests": 10},
}  # fmt: skip

_DRINK = """# {name} guide

{name} is a drink that people in many countries prepare every morning and every afternoon.

## Preparing {name}

Good {name} is prepared with fresh water at {number} degrees. Water that is too hot makes {name}
bitter, and water that is too cold leaves it without any taste.

## Storing {name}

Dry {name} is kept in a closed tin away from light, where it stays good for {number} weeks.
"""
_FERRY = """# Ferry to {name}

The ferry to {name} is a white ship that leaves the harbour from pier {number} every morning.

## Tickets to {name}

A return ticket to {name} costs {number} crowns and is sold only at the harbour office.

## Luggage on the ferry to {name}

Each passenger to {name} can take {number} kilograms of luggage without paying more.
"""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """Documents of one kind, and what is asked about them: question and reference."""

    names: Sequence[str]
    document: str
    asked: Sequence[tuple[str, str]]

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(self.names, start=11):
            text = self.document.format(name=name, number=number)
            (folder / f"{name.lower()}.md").write_text(text)

    def questions(self) -> list[tuple[str, str]]:
        """Every question about every document, with its reference."""
        return [
            (question.format(name=name), reference.format(name=name, number=number))
            for number, name in enumerate(self.names, start=11)
            for question, reference in self.asked
        ]


OLD = Topic(
    names=("Tea", "Coffee", "Cocoa", "Mate", "Rooibos", "Chicory"),
    document=_DRINK,
    asked=(
        ("How hot should the water for {name} be?", "It is prepared at {number} degrees."),
        ("How do I keep dry {name} at home?", "In a closed tin, for {number} weeks."),
        ("Why does my {name} taste bitter?", "The water was too hot."),
    ),
)
NEW = Topic(
    names=("Arholm", "Bergvik", "Dalsund", "Ekeby", "Fagernes", "Gullholmen"),
    document=_FERRY,
    asked=(
        ("What does a return ticket to {name} cost?", "It costs {number} crowns."),
        ("From which pier does the ship to {name} leave?", "It leaves from pier {number}."),
        ("How much luggage may I take to {name}?", "You can take {number} kilograms."),
    ),
)


@dataclass
class Timeline:
    """What happened when, in seconds since the loop began."""

    began: float = field(default_factory=time.monotonic)
    events: list[dict[str, Any]] = field(default_factory=list)

    def note(self, event: str, **facts: Any) -> None:
        entry = {"at": round(time.monotonic() - self.began, 1), "event": event, **facts}
        self.events.append(entry)
        print(json.dumps(entry, default=str), file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A home, a folder of documents, and the command line over them."""

    root: Path
    recipe: str
    port: int

    @property
    def documents(self) -> Path:
        return self.root / "documents"

    @property
    def settings(self) -> Settings:
        return Settings(home=self.root / "home")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "HEADWATER_HOME": str(self.root / "home"),
            "HEADWATER_SOURCES": str(self.root / "sources.yaml"),
            "HEADWATER_RECIPE": self.recipe,
            "HEADWATER_SHARDS": "4",
            "HEADWATER_PORT": str(self.port),
            "HEADWATER_DAGSTER_PORT": str(self.port + 1),
            "HEADWATER_MLFLOW_PORT": str(self.port + 2),
            "HEADWATER_MONITOR_MINUTES": "1",
        }

    def run(self, *arguments: str) -> dict[str, Any]:
        """A command with --json; the object on its last line."""
        command = [sys.executable, "-m", "headwater.cli", *arguments, "--json"]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def build(self, *topics: Topic) -> str:
        """Write the topics' documents and build; the id of the release."""
        for topic in topics:
            topic.write(self.documents)
        self.run("sources", "add", str(self.documents), "--name", "guides")
        return str(self.run("build")["release"])

    @contextmanager
    def running(self) -> Iterator[str]:
        """`headwater dev` until the end of the block; gives the endpoint's URL."""
        log = (self.root / "dev.log").open("wb")
        with subprocess.Popen(
            [sys.executable, "-m", "headwater.cli", "dev"],
            env=self.environment, cwd=REPOSITORY, stdout=log, stderr=log, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield self._ready(process)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)
                log.close()

    def _ready(self, process: subprocess.Popen[bytes]) -> str:
        from headwater.serving.client import find_endpoint

        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            found = find_endpoint(self.settings)
            if found is not None and found.ready and (self.root / "home" / "dev.json").exists():
                return found.url
            time.sleep(1)
        raise RuntimeError(f"headwater dev did not start: {(self.root / 'dev.log').read_text()}")


def measure(recipe: str, root: Path, port: int) -> dict[str, Any]:
    """The whole loop; the mapping that `--json` prints."""
    timeline = Timeline()
    home = Installation(root=root / "loop", recipe=recipe, port=port)
    before = home.build(OLD)
    (home.settings.root / "monitoring.yaml").write_text(yaml.safe_dump(POLICY))
    timeline.note("built", release=before)
    with home.running() as url:
        timeline.note("running", url=url)
        false_firings = _replay(home, url, timeline)
        _move(home, url, timeline)
        after = _recover(home, url, timeline)
    retrainings = len(_retrainings(home))
    timeline.note("stopped", retrainings=retrainings)
    both = Installation(root=root / "both", recipe=recipe, port=port)
    best = both.build(OLD, NEW)
    timeline.note("built on both topics", release=best)
    new = [
        _nll(each, release, NEW) for each, release in ((home, before), (home, after), (both, best))
    ]
    old = [_nll(home, release, OLD) for release in (before, after)]
    lost = _mean(new[0]) - _mean(new[2])
    delta: Interval = paired_bootstrap(old[1], old[0])
    timeline.note(
        "judged", new_topic=[_mean(each) for each in new], old_topic=[_mean(e) for e in old]
    )
    return {
        "recipe": recipe,
        "false_firings": false_firings,
        "retrainings": retrainings,
        # Nothing lost, nothing to win back: a random tiny model may find both equally unlikely.
        "recovered": round((_mean(new[0]) - _mean(new[1])) / lost, 4) if lost > 0 else None,
        "old_topic_delta": {"mean": delta.mean, "low": delta.low, "high": delta.high},
        "seconds": round(time.monotonic() - timeline.began, 1),
        "kwh": _kwh(home, after),
        "timeline": timeline.events,
    }


def _replay(home: Installation, url: str, timeline: Timeline) -> int:
    """The reference, and 20 times as much of the same; how often anything fired."""
    asked = cycle(question for question, _ in OLD.questions())
    _ask(url, list(islice(asked, REFERENCE)))
    timeline.note("reference asked", requests=REFERENCE)
    for _ in range(REPLAYS):
        _ask(url, list(islice(asked, WINDOW)))
    timeline.note("replays asked", windows=REPLAYS)
    said = _until(home, lambda said: said.get("windows", 0) >= REPLAYS, seconds=600)
    timeline.note("replays judged", evidence=said["evidence"], status=said["status"])
    return int(said["fired"] is not None) + len(_retrainings(home))


def _move(home: Installation, url: str, timeline: Timeline) -> None:
    """Other questions, with their documents at the same time, until a drift is found."""
    NEW.write(home.documents)
    timeline.note("documents of the new topic arrive", documents=len(NEW.names))
    asked = cycle(question for question, _ in NEW.questions())
    for _ in range(DRIFT_WINDOWS):
        _ask(url, list(islice(asked, WINDOW)))
        time.sleep(20)
        if home.run("drift")["status"] == "drift":
            break
    said = _until(home, lambda said: said["status"] == "drift", seconds=300)
    timeline.note("drift", fired=said["fired"], panel=said["panel"], examples=said["examples"])
    said = _until(home, lambda said: (said["decision"] or {}).get("drift") == "drift", seconds=300)
    timeline.note(
        "decision", verdict=said["decision"]["verdict"], reasons=said["decision"]["reasons"]
    )


def _recover(home: Installation, url: str, timeline: Timeline) -> str:
    """Wait for the retraining, and ask on until its canary has ended; the release that serves then.

    The documents that came with the drift may make a release of their own before.
    """
    until = time.monotonic() + RETRAIN_SECONDS
    serves, first = _serving(home)
    while time.monotonic() < until:
        runs = _retrainings(home)
        if runs and runs[0]["finished"]:
            timeline.note("retraining ended", **runs[0])
            break
        time.sleep(5)
    asked = cycle(question for question, _ in NEW.questions())
    adapter = first
    while adapter == first and time.monotonic() < until:
        _ask(url, list(islice(asked, WINDOW)))
        serves, adapter = _serving(home)
    for event in traffic.events(home.settings):
        told = {name: event[name] for name in ("time", "change", "release", "weight", "reason")}
        timeline.note("traffic", **told)
    timeline.note("serving", release=serves, new_adapter=adapter != first)
    return serves


def _serving(home: Installation) -> tuple[str, str]:
    """The release in production and its adapter."""
    release = home.run("status")["release"]
    return str(release["id"]), str(release["adapter"])


def _until(home: Installation, told: Any, *, seconds: float) -> dict[str, Any]:
    """Ask `headwater drift` until it tells so."""
    until = time.monotonic() + seconds
    while not told(said := home.run("drift")):
        if time.monotonic() > until:
            raise RuntimeError(f"waited {seconds} s in vain; the last was {said}")
        time.sleep(5)
    return said


def _ask(url: str, questions: Sequence[str]) -> None:
    """Ask one after the other, for short answers; the loop's endpoint has no keys."""
    with httpx.Client(trust_env=False, timeout=120) as client:
        for question in questions:
            message = {"role": "user", "content": question}
            body = {"messages": [message], "max_tokens": ANSWER_TOKENS}
            client.post(f"{url}/v1/chat/completions", json=body).raise_for_status()


def _retrainings(home: Installation) -> list[dict[str, Any]]:
    """Runs of the job `retrain`, as the instance knows them."""
    import dagster as dg

    from builds import open_instance

    with open_instance(home.settings) as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name="retrain"))
    return [
        {
            "run": run.run_id,
            "status": run.status.value,
            "finished": run.is_finished,
            "tags": dict(run.tags),
        }
        for run in runs
    ]


def _nll(home: Installation, release_id: str, topic: Topic) -> list[float]:
    """Nats per token of each reference of a topic, as a release would be prompted."""
    from headwater.base_model import prepare, token_counter
    from headwater.datasets.prompt import chat_text, fit, render
    from headwater.embeddings.encoder import Encoder
    from headwater.embeddings.retrieve import open_retriever
    from headwater.embeddings.store import open_store
    from headwater.evaluation.cache import ResultCache
    from headwater.evaluation.likelihood import ADAPTER, reference_nll
    from headwater.release.manifest import load
    from training.recipe import load_recipe

    settings = home.settings
    release = load(settings, release_id)
    assert release.adapter is not None  # every build here trains one
    base = prepare(settings, load_recipe(home.recipe).base)
    encoder = Encoder(settings.embedding_model, settings.threads, settings.encoders)
    asked = topic.questions()
    with open_retriever(open_store(settings), encoder, release.index) as retriever:
        found = retriever.passages_many([q for q, _ in asked], limit=release.prompt.top_k)
    count = token_counter(base)
    pairs = [
        (
            chat_text(
                render(release.prompt, q, fit(hits, count, release.prompt.max_context_tokens))
            ),
            a,
        )
        for (q, a), hits in zip(asked, found, strict=True)
    ]
    folder = settings.adapters / release.adapter.id
    cache = ResultCache(settings.cache)
    return reference_nll(pairs, base, folder, cache=cache, threads=settings.threads)[ADAPTER]


def _kwh(home: Installation, release_id: str) -> float | None:
    """Energy of the training behind a release, as the trainer measured it."""
    from headwater.files import read_json
    from headwater.release.manifest import load

    adapter = load(home.settings, release_id).adapter
    report = adapter and read_json(home.settings.adapters / adapter.id / "training.json")
    return report["result"]["energy_kwh"] if report else None


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 5)


def open_ends(found: Mapping[str, Any]) -> list[str]:
    """What of the loop did not close, in words; nothing where all of it did."""
    changes = [event["change"] for event in found["timeline"] if event["event"] == "traffic"]
    lost = found["recovered"]  # None where nothing was lost, as random weights may have it
    ends = {
        f"{found['false_firings']} firings without a drift": found["false_firings"],
        f"{found['retrainings']} retrainings instead of one": found["retrainings"] != 1,
        f"the last change of traffic is {changes[-1:]}": changes[-1:] != ["promoted"],
        f"{lost} of the lost quality is back, not 0.9": lost is not None and lost < LEAST_RECOVERED,
        "the old topic got worse beyond doubt": found["old_topic_delta"]["low"] > 0,
    }
    return [words for words, open_end in ends.items() if open_end]


def main() -> None:
    """Run the loop from the command line."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--port", type=int, default=8461, help="The first of three.")
    parser.add_argument("--keep", type=Path, help="Work here, and leave it.")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headwater-loop-") as folder:
        found = measure(chosen.recipe, chosen.keep or Path(folder), chosen.port)
    if chosen.json:
        print(json.dumps(found, default=str))
    if ends := open_ends(found):
        sys.exit(f"The loop did not close: {'; '.join(ends)}.")


if __name__ == "__main__":
    main()
