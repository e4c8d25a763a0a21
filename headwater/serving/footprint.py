"""What one request took: energy, and money at the installation's prices.

An estimate from the time that cores were busy for it, times the power of a busy core; what the
machine draws while idle is not in it. Where the kernel lets us read the processor's own counters
(RAPL, /sys/class/powercap) they would be better; they count the whole machine, so they would have
to be shared out by these same times.
"""

from dataclasses import dataclass

from headwater.prices import load_prices
from headwater.serving.answer import Response
from headwater.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Energy in watt-hours, and cost in the currency of the prices."""

    energy_wh: float = 0.0
    cost: float = 0.0


class Meter:
    """Estimates the footprint of answers.

    Raises:
        HeadwaterError: the installation's prices cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._watts, self._threads = settings.watts_per_core, settings.threads
        self._prices = load_prices(settings)

    def of(self, response: Response | None) -> Footprint:
        """What an answer took so far; one that was refused or broken off costs what it took.

        Engine and encoder keep all threads busy, the rest keeps one. The machine is charged for
        the share of it that was busy: two requests at once do not pay for it twice.
        """
        if response is None:
            return Footprint()
        together = response.retrieve_ms + response.engine_ms
        alone = sum(response.guard_ms.values()) + response.prompt_ms
        core_seconds = (together * self._threads + alone) / 1000
        kwh = core_seconds * self._watts / 3_600_000
        cost = self._prices.money(
            seconds=core_seconds / self._threads, kwh=kwh, kg_co2=self._prices.emitted(kwh)
        )
        return Footprint(energy_wh=kwh * 1000, cost=cost)
