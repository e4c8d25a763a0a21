"""Tests that may be looked at after every observation: betting e-processes on badness in [0, 1].

An e-process is the wealth of a bettor against a hypothesis; while the hypothesis holds its
expectation never exceeds 1, so by Ville's inequality it ever reaches 1 / alpha with probability at
most alpha, however often one looks. Source: Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting" (JRSS B, 2024); the wealth here is the mean over a few fixed bets.
The bet against exchangeability is a conformal e-value: Vovk, "Conformal e-prediction" (2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

#: Bets, as parts of the largest one that cannot lose everything at once.
_FRACTIONS = (0.1, 0.3, 0.6, 0.9)
#: How much more a badness of 1 weighs than one of 0, less 1: small for many slight differences,
#: great for what never happens to one arm and always to the other.
_WEIGHTS = (0.3, 1.0, 5.0, 30.0, 200.0)
#: Evidence is not counted beyond this: what is lost by it only makes a test more careful, and an
#: A/B test that nobody ends would come to infinity.
_CEILING = 1e12


@dataclass(slots=True)
class MeanTest:
    """Wealth against "the mean of the differences is at most `limit`".

    Each difference, in [-1, 1], must have a conditional mean of at most `limit` given those before
    it while the hypothesis holds; they need not be independent of how long one goes on.
    """

    limit: float = 0.0
    count: int = 0
    _wealth: list[float] = field(default_factory=lambda: [1.0] * len(_FRACTIONS))

    def add(self, difference: float) -> None:
        """One more difference.

        Raises:
            ValueError: it is not in [-1, 1].
        """
        if not -1 <= difference <= 1:
            raise ValueError(f"{difference} is not in [-1, 1]")
        most = 1 / (1 + self.limit)  # at a difference of -1, a larger bet could lose more than all
        self.count += 1
        for at, fraction in enumerate(_FRACTIONS):
            factor = 1 + fraction * most * (difference - self.limit)
            self._wealth[at] = min(self._wealth[at] * factor, _CEILING)

    @property
    def e_value(self) -> float:
        """The evidence against the hypothesis: at least 1 / alpha rejects it at level alpha."""
        return sum(self._wealth) / len(self._wealth)


@dataclass(slots=True)
class ExchangeTest:
    """Wealth against "within each stretch of requests it is chance which arm got which value".

    In a stretch of many champion answers, all good, and one bad of the challenger, a test of means
    can at most double its wealth; this one multiplies it by up to the length of the stretch, as
    under the hypothesis the bad value would so seldom have fallen to the challenger.
    """

    count: int = 0
    _wealth: list[float] = field(default_factory=lambda: [1.0] * len(_WEIGHTS))

    def add(self, champion: Sequence[float], challenger: Sequence[float]) -> None:
        """The values, in [0, 1], that the arms gave in one stretch; neither is empty."""
        mine = sum(challenger) / len(challenger)
        everybody = (sum(champion) + sum(challenger)) / (len(champion) + len(challenger))
        self.count += 1
        for at, weight in enumerate(_WEIGHTS):
            # Over all ways to deal the values out to the arms, the mean of this factor is 1.
            factor = (1 + weight * mine) / (1 + weight * everybody)
            self._wealth[at] = min(self._wealth[at] * factor, _CEILING)

    @property
    def e_value(self) -> float:
        """The evidence that the challenger's values are the greater ones."""
        return sum(self._wealth) / len(self._wealth)


@dataclass(slots=True)
class Comparison:
    """Whether an arm is worse than another in one measure of badness, each value in [0, 1].

    What each arm gave since the last comparison is compared as soon as both gave something. So
    both arms are met by the same minutes, and no value counts twice.

    Args:
        margin: a difference in means that would not matter.
    """

    margin: float
    harm: ExchangeTest = field(default_factory=ExchangeTest)
    harmless: MeanTest = field(init=False)
    _champion: list[float] = field(default_factory=list)
    _challenger: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        # "Worse by at least the margin", with the signs turned.
        self.harmless = MeanTest(limit=-self.margin)

    def champion(self, value: float) -> None:
        """What the champion gave for one request."""
        self._champion.append(value)
        self._compare()

    def challenger(self, value: float) -> None:
        """What the challenger gave for one request."""
        self._challenger.append(value)
        self._compare()

    def _compare(self) -> None:
        if self._champion and self._challenger:
            usual = sum(self._champion) / len(self._champion)
            found = sum(self._challenger) / len(self._challenger)
            self.harm.add(self._champion, self._challenger)
            self.harmless.add(usual - found)
            self._champion.clear()
            self._challenger.clear()
