"""Imports what a build imports of others', and nothing that reads settings or starts a thread."""

import importlib
import threading

from headwater.settings import quiet_libraries

quiet_libraries()

for name in (
    "dagster",
    "dagster_dbt.core.dbt_cli_event",
    "deltalake",
    "pyarrow.dataset",
    "great_expectations",
    "presidio_analyzer",
    "spacy",
    "openvino",
    "qdrant_edge",
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "peft",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "dbt.cli.main",
    "dbt.adapters.duckdb.connections",
    "fastapi",
    "uvicorn",
    "scipy.stats",
    "sklearn",
    "matplotlib.pyplot",
    "nltk",
):
    importlib.import_module(name)

assert threading.active_count() == 1, "a fork would be without the thread that a library started"
