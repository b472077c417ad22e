"""Why a search proposed a trial. Pure."""

from typing import Literal

from pipeline.core.values import value

By = Literal["baseline", "order", "start", "random", "gain", "sampler"]
WORDS = {
    "baseline": "the engine's defaults, which everything is compared with",
    "order": "every combination in turn",
    "start": "drawn at random, before there is a model",
    "random": "drawn at random, as some are, so that the model cannot lead astray",
    "sampler": "proposed by the sampler, which says no more",
}
WEIGHED = "the most promising, by one random weighing of the objectives"


@value
class Reason:
    """`by` gain: the model's choice, with what it expected of a single objective. Shares: 0.05 is 5%."""

    by: By
    expected: float | None = None  # the objective, against the best so far: 0.05 is better by 5%
    uncertainty: float | None = None  # one standard deviation of that
    gain: float | None = None  # the expected improvement
    crash_risk: float | None = None  # the probability of a crash
    earlier: float | None = None  # how much of what it promises is the word of earlier sweeps: 0.8 is 80%

    @property
    def override(self) -> str:
        """As a trial's process is told of it."""
        told = {name: seen for name in self.__dataclass_fields__ if (seen := getattr(self, name)) is not None}
        return f"reason={{{','.join(f'{name}:{seen}' for name, seen in told.items())}}}"

    @property
    def words(self) -> str:
        """One line."""
        if self.by == "gain" and self.expected is None:
            return f"{WEIGHED}{self._risk}"
        if self.by != "gain":
            return WORDS[self.by]
        return f"{self._expected} against the best so far{self._risk}{self._by_earlier}"

    @property
    def _expected(self) -> str:
        return f"expected {self.expected or 0:+.1%} ± {self.uncertainty or 0:.1%}"

    @property
    def _risk(self) -> str:
        return f", crash risk {self.crash_risk:.0%}" if self.crash_risk else ""

    @property
    def _by_earlier(self) -> str:
        return f", {self.earlier:.0%} of it by earlier sweeps" if self.earlier else ""
