"""What is expected of combinations that were not run: by both models together. Pure."""

from collections.abc import Callable, Iterator, Sequence
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
    """One combination. Logarithms of the objective, but for the risk and the share."""

    params: Params
    mean: float
    sd: float
    gain: float
    risk: float
    earlier: float | None = None  # the share of earlier sweeps in what it is expected to have before the others


@dataclass(frozen=True, slots=True)
class Outlook:
    """Both models, and the score to beat."""

    encoding: Encoding
    posterior: Posterior
    risk: Risk
    best: float
    crash_power: float
    prior: Callable[[Sequence[Params]], Column] | None = None  # what is expected by earlier sweeps, as far as they hold

    def ranked(self, some: Sequence[Params]) -> Iterator[Prospect]:
        """The combinations, from the most to the least promising."""
        if not some:
            return
        rows = self.encoding.rows(some)
        (own, sd), risk = self.posterior.at(rows), self.risk(rows)
        prior = None if self.prior is None else self.prior(some)
        mean = own if prior is None else own + prior
        gain = acquisition.expected_improvement(mean, sd, self.best)
        promise = acquisition.value_of(gain, risk, self.crash_power)
        for at in acquisition.ranked(promise, risk, mean + sd):
            share = None if prior is None else _share(prior, own, int(at))
            yield Prospect(some[at], float(mean[at]), float(sd[at]), float(gain[at]), float(risk[at]), share)


def _share(prior: Column, own: Column, at: int) -> float:
    """How much of what one is expected to have before the mean candidate comes from earlier sweeps."""
    told, found = max(prior[at] - prior.mean(), 0.0), max(own[at] - own.mean(), 0.0)
    return float(told / (told + found)) if told + found > 0 else 0.0
