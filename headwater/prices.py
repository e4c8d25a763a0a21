"""What electricity, carbon and a machine's hours cost in this installation.

The retraining decision and each request's cost go by the same prices. Knows no work, only what it
took.
"""

from dataclasses import fields

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from headwater.errors import HeadwaterError
from headwater.files import read_yaml
from headwater.settings import Settings

_GRAMS_A_KG = 1000.0


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Prices:
    """Money, in any one currency; headwater/monitoring/policy.yaml explains each."""

    electricity_price: float = 0.30
    carbon_price: float = 0.10
    machine_price: float = 0.20
    carbon_intensity: float = 475

    def emitted(self, kwh: float) -> float:
        """Kilograms of CO2 equivalent, where no emissions were measured."""
        return kwh * self.carbon_intensity / _GRAMS_A_KG

    def money(self, *, seconds: float, kwh: float, kg_co2: float) -> float:
        """Cost of work that kept the machine busy for `seconds`."""
        return (
            seconds / 3600 * self.machine_price
            + kwh * self.electricity_price
            + kg_co2 * self.carbon_price
        )


def load_prices(settings: Settings) -> Prices:
    """The prices that `monitoring.yaml` sets under `retraining`; those it does not are the default.

    Raises:
        HeadwaterError: one is no number, or the file is no YAML.
    """
    own = settings.root / "monitoring.yaml"
    chosen = read_yaml(own).get("retraining") or {}
    try:
        found = {field.name: chosen[field.name] for field in fields(Prices) if field.name in chosen}
        return TypeAdapter(Prices).validate_python(found)
    except (ValidationError, TypeError) as error:
        raise HeadwaterError(
            f"{own} is wrong: {error}.", mend="Mend the choices it names, or remove the file."
        ) from error
