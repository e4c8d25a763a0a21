"""25 kinds of bad input and 40 mutants of each through the parser pool, with good documents between.

`python -m benchmarks.hostile --json` says how each ended, the most memory that a parser had, and the
slowest document. It fails where one ends without a reason, is late, takes a neighbour with it, or
touches one of four canaries. `--keep` writes the result to benchmarks/results.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.bad_inputs import NEIGHBOURS, BadFile, Canaries, bad_inputs, mutants
from headwater.documents.parse import parse
from headwater.documents.parsed import Parsed, Rejected
from headwater.documents.parser_pool import CRASHED, ParserLimits, ParserPool, Unparsed

#: Seconds beyond its deadline at which a document counts as hung: children start in that time.
LATE = 10.0
MOST_MB = 512


class Hostile:
    """A pool that is given bad files, and what it made of them.

    Args:
        canaries: planted; no text may quote them.
    """

    def __init__(self, pool: ParserPool, canaries: Canaries) -> None:
        self.pool, self.canaries = pool, canaries
        self.outcomes: Counter[str] = Counter()
        self.by_kind: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self.crashes: list[str] = []
        self.neighbours = 0
        self.slowest = (0.0, "")
        self._planted = canaries.state
        documents = [
            Unparsed(content=text.encode(), media_type=_type(name), uri=f"docs:///{name}")
            for name, text in NEIGHBOURS.items()
        ]
        good = [
            parse(each.content, each.media_type, each.uri, each.max_chars) for each in documents
        ]
        self._good = cycle(zip(documents, good, strict=True))

    def give(self, kind: str, file: BadFile) -> Parsed | Rejected:
        """Have one bad file parsed, and a good one after it."""
        document = Unparsed(
            content=file.content, media_type=file.media_type, uri=f"docs:///{file.name}"
        )
        neighbour, expected = next(self._good)
        name = f"{kind}: {file.name}"
        began = time.monotonic()
        (outcome,) = self.pool.map([document])
        seconds = time.monotonic() - began
        self.slowest = max(self.slowest, (round(seconds, 2), name))
        if seconds > self.pool.limits.seconds + LATE:
            self.faults.append(f"{name}: {seconds:.0f} s")
        self._note(kind, name, outcome)
        (beside,) = self.pool.map([neighbour])
        self.neighbours += 1
        if beside != expected:
            self.faults.append(f"{name}: its neighbour {neighbour.uri} came out as {beside}")
        return outcome

    def _note(self, kind: str, name: str, outcome: Parsed | Rejected) -> None:
        if isinstance(outcome, Rejected):
            end = outcome.reason
            if not (outcome.reason and outcome.detail):
                self.faults.append(f"{name}: no reason ({outcome})")
            if outcome.reason == CRASHED:
                self.crashes.append(f"{name}: {outcome.detail}")
        else:
            end = "accepted"
            if self.canaries.secret in outcome.text + outcome.title:
                self.faults.append(f"{name}: its text quotes a canary")
        self.outcomes[end] += 1
        self.by_kind.setdefault(kind, Counter())[end] += 1

    def report(self) -> dict[str, Any]:
        """Every figure, and what must not be."""
        peak = round(self.pool.peak_bytes / 2**20)
        faults = list(self.faults)
        if peak >= MOST_MB:
            faults.append(f"a parser had {peak} MB resident")
        if self.canaries.state != self._planted:
            faults.append("a canary was touched")
        return {
            "documents": self.outcomes.total(),
            "outcomes": dict(self.outcomes.most_common()),
            "by_kind": {kind: dict(found.most_common()) for kind, found in self.by_kind.items()},
            "crashes": self.crashes,
            "neighbours": self.neighbours,
            "canaries": len(self._planted),
            "peak_mb": peak,
            "slowest": {"seconds": self.slowest[0], "document": self.slowest[1]},
            "children_started": self.pool.started,
            "limits": {"seconds": self.pool.limits.seconds, "mb": self.pool.limits.memory_mb},
            "faults": faults,
        }


def measure(count: int, seconds: float, kinds: Sequence[str] = ()) -> dict[str, Any]:
    """Run every kind, or some, with so many mutants of each."""
    with tempfile.TemporaryDirectory() as folder, ParserPool(ParserLimits(seconds=seconds)) as pool:
        canaries = Canaries(Path(folder) / "outside")
        canaries.plant()
        hostile = Hostile(pool, canaries)
        began = time.monotonic()
        for kind, files in bad_inputs(canaries, duplicates=40).items():
            if kinds and kind not in kinds:
                continue
            for file in [*files, *mutants(kind, files, count)]:
                hostile.give(kind, file)
            print(f"{kind}: {dict(hostile.by_kind[kind])}", file=sys.stderr, flush=True)
        found = hostile.report()
        found["mutants_of_each"] = count
        found["seconds"] = round(time.monotonic() - began, 1)
        return found


def _type(name: str) -> str:
    return BadFile(name=name, content=b"").media_type


def main() -> None:
    """Run from the command line."""
    from benchmarks.__main__ import RESULTS, machine
    from headwater.files import write_json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=40, help="of each kind")
    parser.add_argument("--seconds", type=float, default=20, help="that a document may take")
    parser.add_argument("--kind", action="append", default=[], help="run this one; repeatable")
    parser.add_argument("--keep", action="store_true", help="write it to benchmarks/results")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = parser.parse_args()
    found = measure(chosen.mutants, chosen.seconds, chosen.kind)
    if chosen.keep:
        about, date = machine(), datetime.now(UTC).strftime("%Y-%m-%d")
        path = RESULTS / f"hostile_{about['cores']}cores_{date}.json"
        write_json(path, {"machine": about, "date": date, "hostile": found})
    print(json.dumps(found) if chosen.json else json.dumps(found, indent=2))
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
