"""The policy of the guards: which rules are on, from which score, and what a refusal says.

Knows the choices and their digest, not how a rule works. A release names its policy by digest, and
the policy lies as one small file beside the releases, so that an old release is served with the
policy that it was judged with.
"""

import json
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import write_atomic
from headwater.personal_data import NAMED, Entity
from headwater.records import digest_bytes
from headwater.settings import Settings

#: Version of the rules' code, part of every policy's digest: change it when a rule decides
#: otherwise under the same policy.
GUARD_VERSION = "guard/1"
#: What a release without guards names.
NO_GUARDRAILS = "none/1"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuestionPolicy(_Model):
    """What is done to a question before anything is looked up."""

    max_chars: int | None = Field(default=None, ge=1)
    injection: float | None = Field(default=None, gt=0, le=1)
    profanity: bool = False
    least_similarity: float | None = Field(default=None, ge=0, le=1)
    entities: dict[Entity, float] = {}
    model_entities: tuple[Entity, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> "QuestionPolicy":
        if unknown := set(self.model_entities) - set(self.entities):
            raise ValueError(f"model_entities names {sorted(unknown)}, which entities lacks")
        return self


class DocumentPolicy(_Model):
    """What keeps a retrieved passage out of the prompt."""

    injection: float | None = Field(default=None, gt=0, le=1)


class AnswerPolicy(_Model):
    """What is taken out of an answer while it streams."""

    links: bool = False
    allowed_hosts: tuple[str, ...] = ()
    profanity: bool = False
    entities: dict[Entity, float] = {}
    keep_from_passages: bool = False

    @model_validator(mode="after")
    def _streamable(self) -> "AnswerPolicy":
        if named := NAMED & set(self.entities):
            raise ValueError(f"{sorted(named)} can't be found in an answer that streams")
        return self


class ProfanityPolicy(_Model):
    """Changes to the library's list of words."""

    allow: tuple[str, ...] = ()
    add: tuple[str, ...] = ()


class Refusals(_Model):
    """What is said instead of an answer, by the rule that refused."""

    length: str = "This question is too long."
    injection: str = "This question is not answered."
    profanity: str = "This question is not answered."
    off_topic: str = "The indexed documents say nothing about this."


class GuardPolicy(_Model):
    """Every choice of the guards. The defaults turn each rule off."""

    version: str = GUARD_VERSION
    question: QuestionPolicy = QuestionPolicy()
    documents: DocumentPolicy = DocumentPolicy()
    answer: AnswerPolicy = AnswerPolicy()
    profanity: ProfanityPolicy = ProfanityPolicy()
    refusals: Refusals = Refusals()

    @property
    def reference(self) -> str:
        """What a release names: the rules' version and the digest of the policy's file."""
        return f"{self.version}/{digest_bytes(self.to_bytes())}"

    def to_bytes(self) -> bytes:
        """The policy as canonical JSON; its digest names it."""
        fields = self.model_dump(mode="json")
        return (json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def load_policy() -> GuardPolicy:
    """The policy of policy.yaml, which the next release candidate gets."""
    text = resources.files(__package__).joinpath("policy.yaml").read_text("utf-8")
    return GuardPolicy.model_validate(yaml.safe_load(text))


def policy_file(reference: str) -> tuple[str, str] | None:
    """Path relative to `Settings.root`, and digest, of the policy that a release names."""
    if reference == NO_GUARDRAILS:
        return None
    digest = reference.rpartition("/")[2]
    return f"releases/guardrails/{digest}.json", digest


def keep_policy(settings: Settings, policy: GuardPolicy) -> str:
    """Write the policy beside the releases, unless it is there; returns its reference."""
    path = _path(settings, policy.reference)
    if not path.is_file() or path.read_bytes() != policy.to_bytes():
        write_atomic(path, policy.to_bytes())
    return policy.reference


def kept_policy(settings: Settings, reference: str) -> GuardPolicy:
    """The policy that a release names; for `NO_GUARDRAILS` one that lets everything pass.

    Raises:
        IntegrityError: its file is missing or not what the release names.
        HeadwaterError: this version of Headwater cannot read it.
    """
    named = policy_file(reference)
    if named is None:
        return GuardPolicy()
    path = _path(settings, reference)
    if not path.is_file() or digest_bytes(path.read_bytes()) != named[1]:
        raise IntegrityError(
            f"{path} is missing or not the policy that its release names.",
            mend="Run `headwater build`, which makes it again with a new candidate.",
        )
    try:
        return GuardPolicy.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise HeadwaterError(
            f"{path} is a policy of another version of Headwater: {error.errors()[0]['msg']}.",
            mend="Promote a release that this version has built.",
        ) from error


def _path(settings: Settings, reference: str) -> Path:
    return settings.releases / "guardrails" / f"{reference.rpartition('/')[2]}.json"
