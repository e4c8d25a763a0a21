"""Write deploy/kubernetes/instance.yaml: Dagster's instance where runs are pods.

From dagster.yaml and the settings of deploy/kubernetes/settings.yaml; a test says when it is to be run
again.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
sys.path.insert(0, str(ROOT))

from headwater.settings import Settings  # noqa: E402
from resources import pods  # noqa: E402


class _Plain(yaml.SafeDumper):
    """Says a thing again rather than by an alias, which few people read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def settings() -> Settings:
    """Those of deploy/kubernetes/settings.yaml, whatever this process's environment says."""
    data = yaml.safe_load((FOLDER / "settings.yaml").read_text("utf-8"))["data"]
    given = {name.removeprefix("HEADWATER_").lower(): value for name, value in data.items()}
    return Settings(
        **{name: value for name, value in given.items() if name in Settings.model_fields}
    )


def rendered() -> str:
    """The ConfigMap of Dagster's instance."""
    local = yaml.safe_load((ROOT / "dagster.yaml").read_text("utf-8"))
    instance = yaml.dump(pods.instance(settings(), local), Dumper=_Plain, sort_keys=False)
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": pods.INSTANCE_MAP},
        "data": {"dagster.yaml": instance},
    }
    _Plain.add_representer(str, _as_block)
    head = "# Written by scripts/kubernetes.py from dagster.yaml and settings.yaml; do not edit.\n"
    return head + yaml.dump(document, Dumper=_Plain, sort_keys=False)


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


if __name__ == "__main__":
    (FOLDER / "instance.yaml").write_text(rendered(), "utf-8")
