"""Time and peak memory of each stage: a full build, a no-change build, a one-document build.

`python -m benchmarks.pipeline --json` works in a home of its own, on a copy of the default corpus
as text files, so that one of them can be edited. With `--recipe smoke` the model is the tiny one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from headwater.settings import quiet_libraries


def measure(recipe: str) -> dict[str, Any]:
    """The three builds, with seconds by stage and peak resident memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        documents = root / "documents"
        _write_corpus(documents)
        environment = os.environ | {
            "HEADWATER_HOME": str(root / "home"),
            "HEADWATER_SOURCES": str(root / "sources.yaml"),
            "HEADWATER_RECIPE": recipe,
        }
        _run(environment, "sources", "add", str(documents), "--name", "topics")
        full = _build(environment)
        unchanged = _build(environment)
        edited = documents / "with.txt"
        edited.write_text(edited.read_text().replace("The", "Indeed, the", 1))
        one = _build(environment)
    return {
        "recipe": recipe,
        "full": full,
        "no_change": unchanged,
        "one_document": one,
        "no_change_ratio": round(unchanged["seconds"] / full["seconds"], 4),
        "one_document_ratio": round(one["seconds"] / full["seconds"], 4),
        "load_seconds": _load_seconds(environment),
    }


def _write_corpus(folder: Path) -> None:
    from pydoc_data.topics import topics

    folder.mkdir()
    for name, text in topics.items():
        (folder / f"{name}.txt").write_text(text)


def _run(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "headwater.cli", *arguments, "--json"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _build(environment: dict[str, str]) -> dict[str, Any]:
    """One build in a process of its own; its peak memory is read as it goes."""
    import psutil

    command = [sys.executable, "-m", "headwater.cli", "build", "--json"]
    started = time.monotonic()
    peak = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
        assert process.stdout is not None  # it is a pipe
        result = json.loads(process.stdout.read().splitlines()[-1])
    return {
        "seconds": round(time.monotonic() - started, 2),
        "peak_mb": round(peak / 2**20),
        "stages": result["stages"],
        "documents": result["documents"],
        "chunks": result["chunks"],
        "training": result["training"],
        "success": result["success"],
    }


def _load_seconds(environment: dict[str, str]) -> float:
    """Seconds to import the code location in a fresh interpreter; the median of three."""
    code = "import time; t = time.monotonic(); import definitions; print(time.monotonic() - t)"
    times = [
        float(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for _ in range(3)
    ]
    return round(sorted(times)[1], 2)


def show(found: dict[str, Any]) -> str:
    """The result as a text table."""
    builds = ("full", "no_change", "one_document")
    stages = list(found["full"]["stages"])
    lines = [f"{'stage':<44}" + "".join(f"{name:>14}" for name in builds)]
    for stage in stages:
        times = (found[name]["stages"].get(stage) for name in builds)
        lines.append(f"{stage:<44}" + "".join(f"{'-' if t is None else t:>14}" for t in times))
    for row in ("seconds", "peak_mb"):
        lines.append(f"{row:<44}" + "".join(f"{found[name][row]:>14}" for name in builds))
    lines.append(f"code location loads in {found['load_seconds']} s")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    quiet_libraries()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = measure(chosen.recipe)
    print(show(found), file=sys.stderr)
    if chosen.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
