"""Shared by all tests: a home of their own, quiet libraries, and the tiny base model once."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings as hypothesis_settings

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis_settings.register_profile("same", derandomize=True)
hypothesis_settings.register_profile("explore", max_examples=2_000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
    del os.environ[name]  # a developer's own installation is never touched

from headwater.settings import quiet_libraries  # noqa: E402
from tests.template import furnish  # noqa: E402

if TYPE_CHECKING:
    from headwater.base_model import BaseModel

quiet_libraries()


@pytest.hookimpl(trylast=True)  # after `-m` has left some out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each worker begin with the long tests of some files: what is left for last is waited for.

    xdist hands each worker a stretch of the order, and lets the idle ones take from the others' ends.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long: dict[Path, list[pytest.Item]] = {}
    rest = []
    for item in items:
        if "integration" in item.nodeid:
            long.setdefault(item.path, []).append(item)
        else:
            rest.append(item)
    files, stretch = list(long.values()), -(-len(rest) // workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in [
            *(each for file in files[worker::workers] for each in file),
            *rest[worker * stretch : (worker + 1) * stretch],
        ]
    ]


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory):
    """What reads the settings when it is imported, as `definitions`, gets a home to throw away.

    So no test module imports such a thing at its head.
    """
    os.environ["HEADWATER_HOME"] = str(tmp_path_factory.mktemp("headwater"))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with what every first command makes; made once, however many workers there are."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    home = folder / "template"
    with FileLock(folder / "template.lock"):
        if not home.exists():
            making = folder / "template-in-the-making"
            command = [sys.executable, "-m", "tests.template", str(making)]
            subprocess.run(command, check=True, capture_output=True)
            making.rename(home)
    return home


@pytest.fixture(scope="session")
def furnished(template: Path) -> Callable[[Path], Path]:
    """Gives a home what the template has: for tests that are not about an installation's first day."""
    return partial(furnish, template=template)


@pytest.fixture(scope="session")
def encoders(template: Path) -> Path:
    """Converted embedding models, as `Settings.encoders` is."""
    return template / "models" / "encoders"


@pytest.fixture(scope="session")
def base(
    furnished: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> "BaseModel":
    """The tiny base model."""
    from headwater.base_model import TINY, prepare
    from headwater.settings import Settings

    return prepare(Settings(home=furnished(tmp_path_factory.mktemp("home")), base_model=TINY))
