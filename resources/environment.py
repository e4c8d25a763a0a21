"""The one switch between a laptop and a cluster: which resources the assets get."""

import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg

from headwater.settings import Settings, quiet_libraries
from resources.alerts import AlertsResource
from resources.endpoint import EndpointResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.vectors import VectorsResource


def resources(settings: Settings) -> dict[str, Any]:
    """Resources of every asset for the environment that `HEADWATER_ENVIRONMENT` names.

    Raises:
        ValueError: for an environment whose resources are not built yet.
    """
    quiet_libraries()
    if settings.environment != "local":
        raise ValueError(
            f"HEADWATER_ENVIRONMENT={settings.environment} is not built yet; use 'local'."
        )
    return {
        "settings": SettingsResource(home=str(settings.root)),
        "lake": LakeResource(path=str(settings.lake)),
        "vectors": VectorsResource(),
        "models": ModelsResource(),
        "server": EndpointResource(),
        "alerts": AlertsResource(path=str(settings.alerts), ui=settings.ui),
    }


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings object, with its home as the UI shows it."""

    home: str

    def get(self) -> Settings:
        """Settings read from the environment, state below `home`."""
        return Settings(home=self.home)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def git_commit() -> str:
    """The commit of this checkout, with `+` where files differ from it; empty outside of git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
