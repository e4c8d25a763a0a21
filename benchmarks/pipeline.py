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
import threading
import time
from pathlib import Path
from typing import IO, Any

import psutil

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
    """One build in a process of its own; its memory is read as it goes, stage by stage."""
    command = [sys.executable, "-m", "headwater.cli", "build", "--json"]
    started = time.monotonic()
    peaks: dict[str, int] = {}
    stage = ["start"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None  # they are pipes
        reader = threading.Thread(target=_follow, args=(process.stderr, stage))
        reader.start()
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                memory = watched.memory_info().rss
            except psutil.NoSuchProcess:
                break
            peaks[stage[0]] = max(peaks.get(stage[0], 0), memory)
            time.sleep(0.05)
        reader.join()
        result = json.loads(process.stdout.read().splitlines()[-1])
    return {
        "seconds": round(time.monotonic() - started, 2),
        "peak_mb": round(max(peaks.values()) / 2**20),
        "stages": result["stages"],
        "stages_peak_mb": {name: round(peak / 2**20) for name, peak in peaks.items()},
        "documents": result["documents"],
        "chunks": result["chunks"],
        "training": result["training"],
        "success": result["success"],
    }


def _follow(lines: IO[str], stage: list[str]) -> None:
    """Note the stage that a build says it has started, and pass its lines on."""
    for line in lines:
        sys.stderr.write(line)
        if "… " in line:
            stage[0] = line.split("… ")[-1].strip()


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
    """The result as a text table: seconds and peak memory in MB of each stage and build."""
    builds = ("full", "no_change", "one_document")
    lines = [f"{'seconds, peak MB':<44}" + "".join(f"{name:>18}" for name in builds)]
    for stage in found["full"]["stages"]:
        cells = (
            (found[name]["stages"].get(stage), found[name]["stages_peak_mb"].get(stage))
            for name in builds
        )
        lines.append(f"{stage:<44}" + "".join(_cell(*cell) for cell in cells))
    totals = (_cell(found[name]["seconds"], found[name]["peak_mb"]) for name in builds)
    lines.append(f"{'all':<44}" + "".join(totals))
    lines.append(f"code location loads in {found['load_seconds']} s")
    return "\n".join(lines)


def _cell(seconds: float | None, megabytes: int | None) -> str:
    if seconds is None:
        return f"{'-':>18}"
    return f"{seconds:>10.1f}" + (f"{megabytes:>8}" if megabytes else f"{'':>8}")


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
