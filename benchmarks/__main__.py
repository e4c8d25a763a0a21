"""All benchmarks in one run; results in benchmarks/results, named by machine and date.

`make bench`. The endpoint is measured on the release of HEADWATER_HOME, so run `make demo` first.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from headwater.files import write_json

RESULTS = Path(__file__).parent / "results"
PARTS = ("pipeline", "embedding", "training", "endpoint", "guardrails")


def machine() -> dict[str, Any]:
    """What the figures were measured on; nothing that names the host."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
    }


def main() -> None:
    """Run each benchmark in a process of its own and keep what it says."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    results: dict[str, Any] = {"machine": machine(), "date": date}
    failed = []
    for part in PARTS:
        print(f"== {part}", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{part}", "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(part)
            continue
        results[part] = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(results[part], indent=2), flush=True)
    path = RESULTS / f"laptop_{results['machine']['cores']}cores_{date}.json"
    write_json(path, results)
    print(f"written: {path.name}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
