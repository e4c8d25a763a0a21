"""A real installation in a folder of its own, driven by the command line as a user would."""

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration import warm

GUIDE = """# {name} guide

{name} is a drink that people in many countries prepare every morning and every afternoon.

## Preparing {name}

Good {name} is prepared with fresh water at {degrees} degrees and needs {minutes} minutes. Water
that is too hot makes {name} bitter, and water that is too cold leaves it without any taste.

## Storing {name}

Dry {name} is kept in a closed tin away from light, where it stays good for {months} months. An
open bag of {name} loses its smell within two weeks and should not be bought in large amounts.
"""


@dataclass(frozen=True)
class Installation:
    """A home, its sources file and a folder of documents.

    Where it is `warm`, its commands find the libraries imported (see that module).
    """

    root: Path
    recipe: str = "smoke"
    warm: bool = False

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def documents(self) -> Path:
        return self.root / "documents"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "HEADWATER_HOME": str(self.home),
            "HEADWATER_SOURCES": str(self.root / "sources.yaml"),
            "HEADWATER_RECIPE": self.recipe,
            "HEADWATER_SHARDS": "4",
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "headwater.cli", *arguments]

    def run(self, *arguments: str, code: int = 0) -> dict:
        """Run a command with --json and give the object on its last line."""
        command = [*arguments, "--json"]
        files = self.root / "stdout", self.root / "stderr"
        if self.warm:
            process = warm.start(command, self.environment, *files)
            process.join()
            returned = process.exitcode
        else:
            with files[0].open("wb") as out, files[1].open("wb") as err:
                returned = subprocess.call(
                    self.command(*command), env=self.environment, stdout=out, stderr=err
                )
        said, told = (file.read_text() for file in files)
        assert returned == code, f"{returned}\n{said}\n{told[-4000:]}"
        return json.loads(said.splitlines()[-1])

    @contextmanager
    def _building(self) -> Iterator[tuple[int, io.TextIOBase]]:
        """A build at work: its process, and what it says on standard error."""
        if self.warm:
            reader, writer = multiprocessing.Pipe(duplex=False)
            process = warm.start(["build"], self.environment, self.root / "stdout", writer)
            writer.close()
            with reader, open(reader.fileno(), closefd=False) as told:
                yield process.pid, told
            process.join()
        else:
            with subprocess.Popen(
                self.command("build"), env=self.environment, stderr=subprocess.PIPE, text=True
            ) as process:
                yield process.pid, process.stderr

    def build_killed_at(self, stages: Sequence[str]) -> str:
        """Start a build and `kill -9` it as soon as one of the stages starts."""
        with self._building() as (pid, told):
            for line in told:
                started = line.split("…")[-1].strip() if "…" in line else ""
                if started in stages or any(stage in line for stage in stages if " " in stage):
                    os.kill(pid, signal.SIGKILL)
                    return line
        raise AssertionError(f"the build ended without reaching {stages}")

    def write_guides(self, *names: str) -> None:
        self.documents.mkdir(parents=True, exist_ok=True)
        for at, name in enumerate(names):
            text = GUIDE.format(name=name, degrees=70 + at, minutes=2 + at, months=6 + at)
            (self.documents / f"{name.lower()}.md").write_text(text)


@pytest.fixture(scope="session")
def install(furnished: Callable[[Path], Path]) -> Callable[..., Installation]:
    """Makes one without documents, in a folder; its home is furnished."""

    def make(root: Path, **options: Any) -> Installation:
        made = Installation(root, **options)
        furnished(made.home)
        return made

    return make


@pytest.fixture
def installation(install: Callable[..., Installation], tmp_path: Path) -> Installation:
    """Without documents; a test writes some and builds."""
    return install(tmp_path)
