"""Shared by all tests: a home of their own, quiet libraries, and the tiny base model once."""

import os

import pytest
from hypothesis import settings as hypothesis_settings

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis_settings.register_profile("same", derandomize=True)
hypothesis_settings.register_profile("explore", max_examples=2_000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

for name in [name for name in os.environ if name.startswith("HEADWATER_")]:
    del os.environ[name]  # a developer's own installation is never touched

from headwater.settings import quiet_libraries  # noqa: E402

quiet_libraries()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each worker begin with some of the long tests: one that is left for last is waited for.

    xdist hands each worker a stretch of the order, and lets the idle ones take from the others' ends.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if "integration" in item.nodeid]
    rest = [item for item in items if "integration" not in item.nodeid]
    stretch = -(-len(rest) // workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in [*long[worker::workers], *rest[worker * stretch : (worker + 1) * stretch]]
    ]


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory):
    """Modules that read the settings when imported get a home that is thrown away."""
    os.environ["HEADWATER_HOME"] = str(tmp_path_factory.mktemp("headwater"))
