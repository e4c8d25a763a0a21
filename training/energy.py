"""Energy and emissions of this process, by CodeCarbon, without any call to the network.

CodeCarbon estimates: the processor's nominal power times this process's share of it, plus memory.
Without a country (its own variable CODECARBON_COUNTRY_ISO_CODE) the world's average mix is used.
"""

import logging
import os
from types import TracebackType
from typing import Any

log = logging.getLogger("headwater")

#: g CO2 per kWh, world average: IEA, Global Energy & CO2 Status Report 2019; CodeCarbon's own.
WORLD_AVERAGE = 475.0
_COUNTRY = "CODECARBON_COUNTRY_ISO_CODE"


class EnergyMeter:
    """Measures from `with` on; `read` gives (kWh, kg CO2 equivalent) so far, or None.

    A machine on which nothing can be measured never stops a training: it is said once, and the
    figures are None.
    """

    def __init__(self) -> None:
        self._last: Any = None
        self._tracker: Any = None

    def __enter__(self) -> "EnergyMeter":
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        # Importing it sets its level, and it greets before it has read ours.
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        meter = self

        class _Reading(BaseOutput):
            def out(self, total: Any, delta: Any) -> None:
                meter._last = total

        country = os.environ.get(_COUNTRY)
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=country,
            force_carbon_intensity_g_co2e_kwh=None if country else WORLD_AVERAGE,
            output_methods=[],
            output_handlers=[_Reading()],
            tracking_mode="process",
            allow_multiple_runs=True,
            log_level="critical",
        )
        # It swallows its own errors, so what it started is seen by its first reading.
        self._tracker.start()
        if self.read() is None:
            log.warning("training: CodeCarbon cannot measure here; energy is not recorded")
        return self

    def read(self) -> tuple[float, float] | None:
        """Energy in kWh and emissions in kg CO2 equivalent since the start."""
        self._tracker.flush()
        if self._last is None:
            return None
        return float(self._last.energy_consumed), float(self._last.emissions)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tracker.stop()
