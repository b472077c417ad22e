"""What is expected of combinations that were not run: by both models together. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.sweep.search.space import Params
from pipeline.sweep.search.strategy import acquisition
from pipeline.sweep.search.strategy.crashes import Risk
from pipeline.sweep.search.strategy.encoding import Encoding
from pipeline.sweep.search.strategy.surrogate import Posterior

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prospect:
    """One combination. Logarithms of the objective, but for the risk."""

    params: Params
    mean: float
    sd: float
    gain: float
    risk: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """Both models, and the score to beat."""

    encoding: Encoding
    posterior: Posterior
    risk: Risk
    best: float
    crash_power: float

    def ranked(self, some: Sequence[Params]) -> Iterator[Prospect]:
        """The combinations, from the most to the least promising."""
        if not some:
            return
        rows = self.encoding.rows(some)
        (mean, sd), risk = self.posterior.at(rows), self.risk(rows)
        gain = acquisition.expected_improvement(mean, sd, self.best)
        promise = acquisition.value_of(gain, risk, self.crash_power)
        for at in acquisition.ranked(promise, risk, mean + sd):
            yield Prospect(some[at], float(mean[at]), float(sd[at]), float(gain[at]), float(risk[at]))
