"""When evidence is enough, however often one looks: test martingales over successive windows.

Knows p-values, not what they are of. The chance that evidence ever reaches 1 / alpha without a
drift is at most alpha (Ville's inequality; Ramdas et al., "Game-theoretic statistics and safe
anytime-valid inference", Statistical Science 2023, section 2).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: A window multiplies evidence by this at most, so that one odd hour alone is never enough.
MOST = 20.0
#: Mean of the calibrator cut at `_CUT`, by which it is divided: c p + 1 - (p - 1) / ln p at the p
#: where it is c. `_CUT` is chosen so that _CUT / _MEAN is `MOST`.
_CUT, _MEAN = 17.44791027, 0.87239552
#: Evidence is not counted beyond this; what is lost by it only makes the test more careful.
_CEILING = 1e12


def factor(p_value: float) -> float:
    """What a window's p-value multiplies the evidence by: at most 1 on average without a drift.

    The calibrator that mixes all powers, the integral of k p^(k-1) over k from 0 to 1, which is
    (1 - p + p ln p) / (p ln^2 p) (Vovk and Wang, "E-values", Annals of Statistics 2021, section 2),
    cut off where it is large and scaled to have mean 1 again.

    Args:
        p_value: above 0, at most 1.
    """
    x = -math.log(p_value)
    if x < 1e-4:
        return (0.5 + x / 6) / _MEAN  # the limit; the formula would divide nothing by nothing
    return min(_CUT, (math.expm1(x) - x) / x**2) / _MEAN


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence that a drift began with some window, over all windows it may have begun with.

    A stake of 1 / j(j+1) waits for window j, so that all stakes make 1, and a drift after many
    quiet windows is still seen: `staked` is what the stakes put in so far have become.
    """

    windows: int = 0
    staked: float = 0.0

    @property
    def value(self) -> float:
        """Stakes at work, and those that still wait, which make 1 / (windows + 1)."""
        return self.staked + 1 / (self.windows + 1)

    def after(self, multiplier: float) -> "Evidence":
        """The evidence after one more window."""
        number = self.windows + 1
        staked = multiplier * (self.staked + 1 / (number * (number + 1)))
        return Evidence(windows=number, staked=min(staked, _CEILING))


def combined(evidence: Mapping[str, Evidence], weights: Mapping[str, float]) -> float:
    """The weighted mean of the panels: valid whatever the panels have to do with one another.

    Args:
        weights: of every panel; they make 1.
    """
    return sum(weight * evidence[name].value for name, weight in weights.items())
