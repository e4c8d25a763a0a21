"""Makes the home that tests copy: what any first command pays for, and no documents.

The tiny base model, the converted embedding model, dbt's parse of the project, and MLflow's empty
database. Run as a module, so that
the process of the tests imports none of what this needs.
"""

import os
import shutil
import sys
from pathlib import Path


def make(home: Path) -> None:
    """Fill a home that does not exist yet."""
    os.environ["HEADWATER_HOME"] = str(home)
    from headwater.base_model import TINY, prepare
    from headwater.datasets.prompt_registry import mlflow_client
    from headwater.embeddings.encoder import open_encoder
    from headwater.settings import Settings
    from resources.warehouse import manifest

    settings = Settings(base_model=TINY)
    prepare(settings)
    open_encoder(settings.embedding_model, 2, settings.encoders).encode(["text"])
    manifest()
    mlflow_client(settings).search_experiments()


def furnish(home: Path, template: Path) -> Path:
    """Give a home what the template has; model files are hard links, which nobody writes to."""
    shutil.copytree(template / "models", home / "models", copy_function=os.link, dirs_exist_ok=True)
    for name in ("cache", "mlflow"):
        shutil.copytree(template / name, home / name, dirs_exist_ok=True)
    return home


if __name__ == "__main__":
    make(Path(sys.argv[1]))
