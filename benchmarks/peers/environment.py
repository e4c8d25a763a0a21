"""An environment of the peers' own: a virtual one in a folder, made once for each set of pins.

Knows pip and folders, no peer. Nothing of it is in requirements.lock or in the environment that
Headwater runs in.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.records import digest_of, short

#: Says in JSON what is installed.
_INSTALLED = (
    "import importlib.metadata as m, json;"
    " print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
)


def make(folder: Path, requirements: Path, python: str = sys.executable) -> Path:
    """The environment below a folder that holds what a requirements file pins; returns its Python.

    Args:
        python: that the environment is made with.

    Raises:
        HeadwaterError: it cannot be made; nothing of it is left then.
    """
    home = _home(folder, requirements, python)
    inside = home / "bin" / "python"
    if (home / "ready.json").exists():
        return inside
    shutil.rmtree(home, ignore_errors=True)  # half of one, from a run that was stopped
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run([python, "-m", "venv", str(home)])
        _run([
            str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--requirement", str(requirements),
        ])  # fmt: skip
        installed = json.loads(_run([str(inside), "-c", _INSTALLED]))
    except HeadwaterError:
        shutil.rmtree(home, ignore_errors=True)
        raise
    write_json(home / "ready.json", installed)
    return inside


def versions(python: Path) -> dict[str, str]:
    """What is installed in an environment that `make` made, by name in lower case."""
    found: dict[str, str] = read_json(python.parents[1] / "ready.json") or {}
    return found


def _home(folder: Path, requirements: Path, python: str) -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    named = digest_of(requirements.read_text("utf-8"), python, version)
    return folder.expanduser().resolve() / f"peers-{short(named)}"


def _run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        HeadwaterError: it cannot be started, or fails.
    """
    what = "The environment of the programs to compare with cannot be made"
    mend = "See that pip reaches a package index, or name a folder that has them with --env."
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HeadwaterError(f"{what}: {error}.", mend=mend) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise HeadwaterError(
            f"{what}: {' '.join(command[1:4])} ended with {done.returncode}: {said}.", mend=mend
        )
    return done.stdout
