"""All benchmarks in one run; results in benchmarks/results, named by machine and date.

`make bench`, or `python -m benchmarks PART…` for some, which replaces theirs of the same day. The
endpoint is measured on the release of HEADWATER_HOME, so run `make demo` first.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from headwater.files import read_json, write_json

RESULTS = Path(__file__).parent / "results"
PARTS = (
    "pipeline", "embedding", "strategies", "training", "endpoint", "guardrails", "gates_aa",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """What the figures were measured on; nothing that names the host."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
    }


def main() -> None:
    """Run each benchmark in a process of its own; what it says is kept as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parts = parser.parse_args().parts or PARTS
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    about = machine()
    path = RESULTS / f"laptop_{about['cores']}cores_{date}.json"
    failed = []
    for part in parts:
        print(f"== {part}", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{part}", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(part)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(found, indent=2), flush=True)
        known = read_json(path) or {}
        write_json(path, {**known, "machine": about, "date": date, part: found})
    print(f"written: {path.name}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
