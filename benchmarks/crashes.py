"""`kill -9` at every write of every stage of the data layer, and two writers at once.

`python -m benchmarks.crashes --json` first runs each stage once and counts its writes (benchmarks.faults);
then, for each of them, runs the stage again on a copy of the home as it was before and kills it there,
runs the stages as the next build does, and compares with a home that nothing was killed in: the rows
of every table, the index and what it finds, releases, and what is left lying about. `--sample K` does
K of them, drawn by `--seed`, each stage at least once where K allows.

- *first build*: into a home that does not exist yet.
- *edited build*: documents that are new, changed, removed, in and out of quarantine, and duplicates.
- *restore*: of all document tables to those of the first index; then the same again, and a build.
- *retention*: deletion of what no version in use needs.

Then two processes at once (`--races` rounds each, at random distances): two builds, and a restore
beside a build. One goes on, the other ends with the error that says so; then it is run again.

Ends with exit code 1 where anything ends unequal, or a write was not reached. The corpus is small and
made by code, commits are small so that a stage makes several, embedding is by hashed words. The endpoint,
training and Dagster are not part of it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Self

from benchmarks.crash_server import REFUSED
from benchmarks.crash_stages import BUILD, FINDS, REMOVED_BY, edit_corpus, write_corpus
from headwater.embeddings.embed import TABLE

REPOSITORY = Path(__file__).parents[1]
KILLED = -9
SEED = 20_261_121
ROUNDS = 10
#: How often a write is tried to be reached: the engine's threads leave a folder more or less in an index,
#: so a stage may end a write sooner than it did when its writes were counted.
TRIES = 3
#: How the second of two at once is told so.
SAID_SO = ("Busy", "Conflict", "PromotionConflict")
OLD_INDEX = "index that a publication was to remove"
#: What removes what is left.
REMOVER = {**REMOVED_BY, OLD_INDEX: "the next publication of an index"}
_BUILDS, _BESIDE_RESTORE = "two builds", "a restore beside a build"


@dataclass(frozen=True)
class Scenario:
    """What is run, from which home, and in which of the stages it is killed.

    `start` names the scenario whose end is the home, "" one of before the edit, None is no home.
    `but` are parts of the state that a kill may leave otherwise; `files`, whether tables must have the
    very same data files, but for those of vectors, which retention writes anew.
    """

    start: str | None
    stages: tuple[str, ...]
    killed: tuple[str, ...]
    but: tuple[str, ...] = ()
    files: bool = False


SCENARIOS = {
    "first build": Scenario(None, tuple(BUILD), tuple(BUILD)),
    "edited build": Scenario("", tuple(BUILD), tuple(BUILD)),
    "restore": Scenario("edited build", ("restore", *BUILD), ("restore",)),
    # A deletion is a commit of its own, which a kill may leave out.
    "retention": Scenario(
        "edited build", ("retention",), ("retention",), but=("index is noted",), files=True
    ),
}


@dataclass(frozen=True)
class Write:
    """One write of a stage: its number from 1, what it is, and the file or folder."""

    scenario: str
    stage: str
    number: int
    kind: str
    path: str


@dataclass
class Survey:
    """A scenario that nothing was killed in: what it wrote, and what the home held then."""

    writes: list[Write]
    reference: dict[str, Any]
    seconds: float


@dataclass
class Tally:
    """What the kills have come to."""

    seconds: list[float] = field(default_factory=list)
    by_stage: dict[str, Counter[str]] = field(default_factory=dict)
    unequal: list[dict[str, Any]] = field(default_factory=list)
    not_reached: list[dict[str, Any]] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)


class Server:
    """A process that runs tasks in forks of its own; a context manager, which ends it.

    Args:
        root: where its log and its answers go.
    """

    def __init__(self, root: Path, name: str = "server") -> None:
        self._log = (root / f"{name}.log").open("ab")
        self._answer = root / f"{name}.json"
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("HEADWATER_")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.crash_server"],
            cwd=REPOSITORY,
            env=environment | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its input ends it
        self._log.close()

    def start(self, task: dict[str, Any]) -> None:
        """Have a task run; `result` waits for it."""
        assert self._process.stdin is not None  # it is a pipe
        self._answer.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps({**task, "answer": str(self._answer)}) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """The exit code of the task under `code`, and what it answered."""
        assert self._process.stdout is not None  # it is a pipe
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"the server has ended; see {self._log.name}")
        answer = json.loads(self._answer.read_text()) if self._answer.exists() else {}
        return {"code": int(said), **answer}

    def ask(self, **task: Any) -> dict[str, Any]:
        """Run a task to its end."""
        self.start(task)
        return self.result()

    def do(self, **task: Any) -> dict[str, Any]:
        """Run a task that must succeed."""
        answer = self.ask(**task)
        if answer["code"]:
            said = answer.get("what", f"see {self._log.name}")
            raise RuntimeError(f"{task.get('stages')} ended with code {answer['code']}: {said}")
        return answer


class Trial:
    """A corpus with an edit, the homes that scenarios begin with, and the one that is at work.

    Args:
        root: an empty folder for all of it.
    """

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root.resolve(), server
        self.corpus, self.home = self.root / "corpus", self.root / "home"
        self.surveys: dict[str, Survey] = {}
        self._task = {"corpus": str(self.corpus), "home": str(self.home)}

    def prepare(self) -> None:
        """Build the corpus as it is before the edit, and edit it."""
        write_corpus(self.corpus)
        self.server.do(**self._task, stages=list(BUILD))
        (self.root / "after").mkdir()
        self.home.rename(self.after(""))
        edit_corpus(self.corpus)

    def after(self, scenario: str) -> Path:
        """The home at the end of a scenario; "" is that of before the edit."""
        return self.root / "after" / (scenario or "before the edit")

    def survey(self, name: str) -> Survey:
        """Run a scenario to its end, once."""
        if name not in self.surveys:
            self.surveys[name] = self._survey(name)
        return self.surveys[name]

    def _survey(self, name: str) -> Survey:
        scenario = SCENARIOS[name]
        self.begin(name)
        started = time.monotonic()
        writes: list[Write] = []
        for stage in scenario.stages:
            counted = stage in scenario.killed
            if counted and self.home.exists():
                copy_home(self.home, self._before(name, stage))
            answer = self.server.do(**self._task, stages=[stage], count=counted)
            seen = enumerate(answer.get("seen", ()), start=1)
            writes += [Write(name, stage, number, kind, path) for number, (kind, path) in seen]
        reference = self.server.do(**self._task, look=True)
        self.home.rename(self.after(name))
        return Survey(writes, reference, time.monotonic() - started)

    def begin(self, name: str) -> None:
        """Make the home that a scenario begins with."""
        start = SCENARIOS[name].start
        if start:
            self.survey(start)
        self._set(None if start is None else self.after(start))

    def _before(self, name: str, stage: str) -> Path:
        return self.root / "before" / name / stage

    def _set(self, source: Path | None) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        if source is not None and source.exists():
            copy_home(source, self.home)

    def kill(self, write: Write, tally: Tally) -> None:
        """Kill a stage at a write, run the next build, and compare."""
        scenario, started = SCENARIOS[write.scenario], time.monotonic()
        for _ in range(TRIES):
            self._set(self._before(write.scenario, write.stage))
            ended = self.server.ask(**self._task, stages=[write.stage], at=write.number)
            if ended["code"]:
                break
        if ended["code"] != KILLED:
            tally.not_reached.append({**vars(write), "code": ended["code"]})
            return
        why, left = self.finish(write.scenario, list(scenario.stages))
        tally.left.update(left)
        if why:
            tally.unequal.append({**vars(write), "why": why})
        tally.by_stage.setdefault(write.scenario, Counter())[write.stage] += 1
        tally.seconds.append(time.monotonic() - started)

    def finish(
        self, name: str, stages: Sequence[str], but: Sequence[str] = ()
    ) -> tuple[list[str], Counter[str]]:
        """Run stages and look: how the home differs from a scenario's end, and what is left."""
        found = self.server.ask(**self._task, stages=list(stages), look=True)
        if found["code"]:
            said = found.get("what", "see the log")
            return [f"it ended with code {found['code']}: {said}"], Counter()
        return differences(SCENARIOS[name], self.survey(name).reference, found, but)

    def race(self, kind: str, rounds: int, other: Server, random: Random) -> dict[str, Any]:
        """Two at once, again and again; what became of them, and rounds that ended unequal."""
        name = "edited build" if kind == _BUILDS else "restore"
        first = list(BUILD) if kind == _BUILDS else ["restore"]
        survey = self.survey(name)
        # A build between a restore's tables and its own next one releases what it found.
        but = () if kind == _BUILDS else ("promotions", "releases")
        said: Counter[str] = Counter()
        unequal: list[dict[str, Any]] = []
        for number in range(rounds):
            self.begin(name)
            apart = random.uniform(-1, 1) * survey.seconds / 2
            self.server.start({**self._task, "stages": first, "delay": max(0.0, -apart)})
            other.start({**self._task, "stages": list(BUILD), "delay": max(0.0, apart)})
            ends = [self.server.result(), other.result()]
            codes = [end["code"] for end in ends]
            said.update(end["error"] for end in ends if end["code"] == REFUSED)
            why = [
                f"it ended with code {end['code']}: {end.get('what', 'see the log')}"
                for end in ends
                if end["code"] and end.get("error") not in SAID_SO
            ]
            if all(codes):
                why.append("neither has gone on")
            elif kind == _BUILDS:
                why += self.finish(name, [])[0]  # as the one alone would have made it
            again = ["restore", *BUILD] if kind != _BUILDS and codes[0] else list(BUILD)
            why += self.finish(name, again, but)[0]
            if why:
                unequal.append({"round": number, "apart": round(apart, 3), "why": why})
        return {"rounds": rounds, "refused": dict(said), "unequal": unequal}


def differences(
    scenario: Scenario, reference: dict[str, Any], found: dict[str, Any], but: Sequence[str] = ()
) -> tuple[list[str], Counter[str]]:
    """What of a home is other than in one that nothing was killed in, and what a later run removes.

    What a killed process has left is a difference where no later run of ours removes it.
    """
    ours, theirs = found["state"], reference["state"]
    passed_by = {*scenario.but, *but}
    why = [
        f"{name} is {ours.get(name)}, not {theirs.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if name not in passed_by and not _equal(name, ours.get(name), theirs.get(name))
    ]
    allowed = passed_by & {"releases"}
    paths, known = set(found["paths"]), set(reference["paths"])
    why += [
        f"{path} is left" for path in sorted(paths - known) if not (allowed and _is_release(path))
    ]
    why += [f"{path} is not there" for path in sorted(known - paths)]
    gone = set(reference["versions"]) - set(found["versions"])
    why += [f"index {version} is not there" for version in sorted(gone)]
    if scenario.files and _kept(found["files"]) != _kept(reference["files"]):
        why.append("the tables have other data files")
    left = Counter({kind: len(paths) for kind, paths in found["left"].items()})
    why += [f"{kind} is left: {found['left'][kind]}" for kind in left if kind not in REMOVED_BY]
    more = set(found["versions"]) - set(reference["versions"])
    if more:
        left[OLD_INDEX] += len(more)
    return why, left


def _kept(files: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Names of data files by table; of vectors how many there are."""
    return {**files, TABLE: len(files[TABLE])}


def _equal(name: str, one: Any, other: Any) -> bool:
    """Scores may differ by rounding: a sum of floats in another order of segments is another sum."""
    if name != FINDS or one is None or other is None:
        return bool(one == other)
    return one.keys() == other.keys() and all(
        hits.keys() == other[ranking].keys()
        and all(isclose(hits[hit], other[ranking][hit], abs_tol=1e-4) for hit in hits)
        for ranking, hits in one.items()
    )


def _is_release(path: str) -> bool:
    return path.startswith("releases/")


def copy_home(source: Path, target: Path) -> None:
    """Copy a home. Files that nobody ever writes to again are links: data files, and published indexes."""

    def copy(file: str, to: str) -> None:
        path = Path(file)
        if path.suffix == ".parquet" or "shard" in path.relative_to(source).parts:
            os.link(file, to)
        else:
            shutil.copy2(file, to)

    shutil.copytree(source, target, copy_function=copy)


def drawn(writes: Sequence[Write], sample: int | None, random: Random) -> list[Write]:
    """Some of the writes: one of each stage in turn, then any; None is all of them."""
    if sample is None or sample >= len(writes):
        return list(writes)
    by_stage: dict[tuple[str, str], list[Write]] = {}
    for write in writes:
        by_stage.setdefault((write.scenario, write.stage), []).append(write)
    chosen = [random.choice(each) for each in by_stage.values()][:sample]
    rest = [write for write in writes if write not in chosen]
    return [*chosen, *random.sample(rest, sample - len(chosen))]


@contextmanager
def trial(root: Path) -> Iterator[Trial]:
    """A trial that is prepared, with its server."""
    with Server(root) as server:
        made = Trial(root, server)
        made.prepare()
        yield made


def measure(
    root: Path,
    *,
    sample: int | None = None,
    seed: int = SEED,
    scenarios: Sequence[str] = tuple(SCENARIOS),
    races: int = 0,
) -> dict[str, Any]:
    """Kill, and race; the mapping that `--json` prints."""
    started, random, tally = time.monotonic(), Random(seed), Tally()
    with trial(root) as made:
        writes = [write for name in scenarios for write in made.survey(name).writes]
        chosen = drawn(writes, sample, random)
        for number, write in enumerate(chosen, start=1):
            made.kill(write, tally)
            if number % 20 == 0 or number == len(chosen):
                _say(f"{number} of {len(chosen)} kills, {len(tally.unequal)} unequal")
        found: dict[str, Any] = {}
        if races:
            with Server(root, "other") as other:
                for kind in (_BUILDS, _BESIDE_RESTORE):
                    found[kind] = made.race(kind, races, other, random)
                    _say(f"{kind}: {found[kind]}")
    events: dict[str, dict[str, Counter[str]]] = {}
    for write in writes:
        stages = events.setdefault(write.scenario, {})
        stages.setdefault(write.stage, Counter())[write.kind] += 1
    return {
        "writes": len(writes),
        "kills": len(tally.seconds),
        "seed": seed,
        "unequal": tally.unequal,
        "not_reached": tally.not_reached,
        "left": {kind: [n, REMOVER.get(kind, "nothing")] for kind, n in sorted(tally.left.items())},
        "killed": tally.by_stage,
        "events": events,
        "races": found,
        "seconds_a_kill": round(median(tally.seconds or [0.0]), 2),
        "seconds": round(time.monotonic() - started, 1),
    }


def failed(found: dict[str, Any]) -> bool:
    """Whether anything ended unequal, or a write could not be reached."""
    raced = any(race["unequal"] for race in found["races"].values())
    return bool(found["unequal"] or found["not_reached"] or raced)


def show(found: dict[str, Any]) -> str:
    """The result as text: writes and kills of each stage, what was left, and what went wrong."""
    lines = [f"{'scenario':<14}{'stage':<20}{'writes':>8}{'kills':>8}{'commits':>9}"]
    for scenario, stages in found["events"].items():
        for stage, kinds in stages.items():
            commits = sum(n for kind, n in kinds.items() if kind.endswith(": committed"))
            kills = found["killed"].get(scenario, {}).get(stage, 0)
            lines.append(f"{scenario:<14}{stage:<20}{sum(kinds.values()):>8}{kills:>8}{commits:>9}")
    for kind, (count, remover) in found["left"].items():
        lines.append(f"left after the next build: {count} x {kind}; removed by {remover}")
    for kind, race in found["races"].items():
        unequal = len(race["unequal"])
        lines.append(f"{kind}: {race['rounds']} rounds, {race['refused']}, {unequal} unequal")
    for each in [*found["unequal"], *found["not_reached"]]:
        lines.append(f"FAILED {json.dumps(each)}")
    lines.append(
        f"{found['kills']} kills of {found['writes']} writes, {len(found['unequal'])} unequal;"
        f" {found['seconds_a_kill']} s a kill, {found['seconds']} s in all"
    )
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="kills; default: at every write")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--scenario", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--races", type=int, default=ROUNDS, help="rounds of two at once")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder),
            sample=chosen.sample,
            seed=chosen.seed,
            scenarios=chosen.scenario or tuple(SCENARIOS),
            races=chosen.races,
        )
    print(show(found), file=sys.stderr)
    if chosen.json:
        print(json.dumps(found))
    sys.exit(1 if failed(found) else 0)


if __name__ == "__main__":
    main()
