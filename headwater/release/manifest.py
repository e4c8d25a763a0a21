"""The release manifest: one small JSON file that names, by digest, all that answers a request.

Knows files and digests, not how a model or an index works. A release's id is the digest of what
serves; how it was judged, and by which run, are annotations that do not change the id.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Self

from headwater.base_model import BaseModel
from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.guardrails.policy import NO_GUARDRAILS, policy_file
from headwater.records import Prompt, digest_file, digest_of
from headwater.settings import Settings

#: Format of the manifest. A change that alters what a release means gets a new number.
MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePin:
    """The base model: `digest` names the weights as published, `file_digest` what is served."""

    name: str
    digest: str
    file: str  # GGUF for the engine, relative to `Settings.root`
    file_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPin:
    """The LoRA adapter: `digest` names its weights, `file_digest` the GGUF made from them."""

    id: str
    digest: str
    file: str  # GGUF for the engine, relative to `Settings.root`
    file_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """All that answers a request, and why it may.

    The fields up to `guardrails` determine `id`; those after it are annotations.
    """

    base_model: BasePin
    adapter: AdapterPin | None
    prompt: Prompt
    index: str  # version of the vector index
    embedding_model: str  # digest of the encoder
    retrieval: Mapping[str, float | str]  # `headwater.embeddings.retrieve.RetrievalSettings`
    guardrails: str = NO_GUARDRAILS  # `headwater.guardrails.policy.GuardPolicy.reference`

    # See `evaluation.report.summary`; and "reports", "champion": what it was compared with.
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    gates: tuple[Mapping[str, Any], ...] = ()  # fields of `evaluation.gates.GateResult`
    provisional: bool = False  # no curated question judged it
    run_id: str = ""  # of Dagster
    commit: str = ""  # of git, empty outside a checkout
    created: str = ""  # ISO 8601, UTC

    @property
    def id(self) -> str:
        """Digest of what serves; where the files lie is no part of it."""
        adapter = self.adapter and [self.adapter.digest, self.adapter.file_digest]
        return digest_of(
            MANIFEST_VERSION,
            [self.base_model.digest, self.base_model.file_digest],
            adapter,
            self.prompt.digest,
            self.index,
            self.embedding_model,
            dict(self.retrieval),
            self.guardrails,
        )

    @property
    def files(self) -> dict[str, str]:
        """Digest of each file that serving loads, by path relative to `Settings.root`."""
        pins = (self.base_model, self.adapter)
        files = {pin.file: pin.file_digest for pin in pins if pin is not None}
        policy = policy_file(self.guardrails)
        return files | dict([policy] if policy else [])

    @property
    def blocked(self) -> list[str]:
        """Names of the gates that did not pass."""
        return [gate["name"] for gate in self.gates if not gate["passed"]]

    @property
    def why_blocked(self) -> str:
        """The gates that did not pass, each with what it asks and what it found."""
        found = [
            f"{gate['name']} ({gate['detail']}; must be {gate['threshold']})"
            if "detail" in gate
            else gate["name"]
            for gate in self.gates
            if not gate["passed"]
        ]
        return ", ".join(found)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "version": MANIFEST_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        fields = {k: v for k, v in value.items() if k not in ("id", "version")}
        adapter = fields["adapter"]
        fields |= {
            "base_model": BasePin(**fields["base_model"]),
            "adapter": AdapterPin(**adapter) if adapter else None,
            "prompt": Prompt.from_json(fields["prompt"]),
            "gates": tuple(fields["gates"]),
        }
        return cls(**fields)


def pin_base(settings: Settings, base: BaseModel) -> BasePin:
    """Pin a prepared base model by its engine file."""
    file = _relative(settings, base.engine)
    return BasePin(name=base.name, digest=base.digest, file=file, file_digest=base.engine_digest)


def pin_adapter(settings: Settings, folder: Path) -> AdapterPin:
    """Pin an adapter folder (adapter.json, adapter.gguf), as training saves it.

    Raises:
        IntegrityError: its GGUF is not the one that adapter.json names.
    """
    about = read_json(folder / "adapter.json")
    gguf = folder / "adapter.gguf"
    if about is None or not gguf.is_file():
        raise HeadwaterError(
            f"{folder} is not an adapter: it lacks adapter.json or adapter.gguf.",
            mend="Run `headwater build` to train one.",
        )
    file_digest = digest_file(gguf)
    if about["files"].get(gguf.name) != file_digest:
        raise _damaged(gguf)
    return AdapterPin(
        id=about["id"],
        digest=about["weights_digest"],
        file=_relative(settings, gguf),
        file_digest=file_digest,
    )


def manifest_path(settings: Settings, release_id: str) -> Path:
    """Where the manifest of a release lies."""
    return settings.releases / f"{release_id}.json"


def save(settings: Settings, release: Release) -> Release:
    """Write the manifest; returns it as it now lies on disk.

    The same release again keeps the time, run and commit that first made it, takes over a newer
    judgement, and touches no file where that is the same too.
    """
    path = manifest_path(settings, release.id)
    with locked(settings):
        known = read_json(path) and load(settings, release.id)
        if known:
            release = replace(
                release, created=known.created, run_id=known.run_id, commit=known.commit
            )
        elif not release.created:
            release = replace(release, created=now())
        if known is None or digest_of(release.to_json()) != digest_of(known.to_json()):
            write_json(path, release.to_json())
    return release


def load(settings: Settings, release_id: str) -> Release:
    """The release of this id; an unambiguous beginning of the id is enough.

    Raises:
        HeadwaterError: there is none, or more than one.
        IntegrityError: the manifest's content is not what its id names.
    """
    names = [name for name in list_ids(settings) if name.startswith(release_id)]
    if len(names) != 1 or not release_id:
        raise HeadwaterError(
            f"{len(names)} releases are called {release_id!r} in {settings.releases}.",
            mend="`headwater status` shows the current one; give its whole id.",
        )
    path = manifest_path(settings, names[0])
    try:
        release = Release.from_json(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error
    if release.id != names[0]:
        raise _damaged(path)
    return release


def list_ids(settings: Settings) -> list[str]:
    """Ids of all releases, sorted."""
    found = settings.releases.glob("[0-9a-f]*.json") if settings.releases.exists() else ()
    return sorted(path.stem for path in found if len(path.stem) == 64)


def verify(settings: Settings, release: Release) -> None:
    """Compare every file that serving will load with its pinned digest.

    The index is verified by its own store: `headwater.embeddings.edge`.

    Raises:
        IntegrityError: a file is missing or its bytes have changed.
    """
    for file, digest in release.files.items():
        path = settings.root / file
        if not path.is_file() or digest_file(path) != digest:
            raise _damaged(path)


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Hold the one lock over the releases folder; the kernel frees it when the process dies."""
    settings.releases.mkdir(parents=True, exist_ok=True)
    with (settings.releases / ".lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _relative(settings: Settings, path: Path) -> str:
    path = path.resolve()
    if not path.is_relative_to(settings.root):
        raise HeadwaterError(
            f"{path} lies outside {settings.root}, so a release cannot name it.",
            mend="Set HEADWATER_HOME to the folder that holds it, and build again.",
        )
    return path.relative_to(settings.root).as_posix()


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is missing or not what its release names.",
        mend="Delete it and run `headwater build`, which makes it again.",
    )
