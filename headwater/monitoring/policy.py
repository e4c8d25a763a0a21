"""The typed policies of monitoring, read from YAML: what counts as drift, what a retraining is worth.

Knows files and choices. What a choice means is each module's business.
"""

from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from headwater.errors import HeadwaterError
from headwater.files import read_yaml
from headwater.prices import Prices
from headwater.records import digest_of
from headwater.settings import Settings

_SHIPPED = Path(__file__).with_name("policy.yaml")
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DriftPolicy:
    """What is compared with what, and how sure a drift must be; see policy.yaml."""

    alpha: float = Field(default=0.01, gt=0, lt=1)
    reference_requests: int = Field(default=200, ge=10)
    window_requests: int = Field(default=40, ge=5)
    pool_requests: PositiveInt = 1000
    recent_requests: PositiveInt = 200
    permutations: int = Field(default=999, ge=19)

    @property
    def digest(self) -> str:
        return digest_of(asdict(self))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class QualityPoints:
    """Points lost for each unit of a signal by which drifted requests are worse."""

    answered: float = 100
    grounded: float = 40
    similarity: float = 20
    thumbs_up: float = 50
    nll: float = 20


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RetrainingPolicy(Prices):
    """What quality is worth and what a retraining costs; see policy.yaml for units."""

    horizon_days: PositiveFloat = 14
    recoverable: float = Field(default=0.5, gt=0, le=1)
    value_per_point: float = 0.02
    fixed_cost: float = 0.50
    points: QualityPoints = field(default_factory=QualityPoints)
    overhead: float = Field(default=3.0, ge=1)
    watts: PositiveFloat = 30
    cool_down_hours: float = 24
    fewest_requests: PositiveInt = 20
    hard_questions: int = Field(default=100, ge=0)

    @property
    def digest(self) -> str:
        return digest_of(asdict(self))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class MonitoringPolicy:
    """Both policies of an installation."""

    drift: DriftPolicy = field(default_factory=DriftPolicy)
    retraining: RetrainingPolicy = field(default_factory=RetrainingPolicy)


def load_policy(settings: Settings) -> MonitoringPolicy:
    """The shipped policy, with the choices of the installation's `monitoring.yaml` over it.

    Raises:
        HeadwaterError: a choice is unknown or impossible.
    """
    own = settings.root / "monitoring.yaml"
    merged = _merged(read_yaml(_SHIPPED), read_yaml(own))
    try:
        return TypeAdapter(MonitoringPolicy).validate_python(merged)
    except (ValidationError, TypeError) as error:
        raise HeadwaterError(
            f"{own} is wrong: {error}.", mend="Mend the choices it names, or remove the file."
        ) from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the leaves of `over` in place of its own."""
    both = {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }
    return {**base, **both}
