"""Made-up sweeps: what is measured is drawn, what is decided is decided by the code of real ones."""

import random
from dataclasses import dataclass

from pipeline.core.limits import Limits
from pipeline.sweep.search import policy
from pipeline.sweep.search.policy import Seen

CONFIGURATIONS = 8


@dataclass(frozen=True)
class Named:
    """The end of a sweep: whom it recommends, and after how many rounds."""

    winner: int | None  # None: the baseline
    best: int  # the configuration that is better, if one is
    rounds: int

    @property
    def is_right(self) -> bool:
        """Whether it found the better one."""
        return self.winner == self.best


def named(seed: int, *, gain: float, noise: float, drift: float = 0.0, confirm: int | None = None) -> Named:
    """How a made-up sweep ends."""
    seen = played(seed, gain=gain, noise=noise, drift=drift, confirm=confirm)
    winner = policy.decision(seen, seen[0], Limits(confirm=confirm), is_maximised=True).winner
    return Named(winner=winner, best=CONFIGURATIONS - 1, rounds=(len(seen) - CONFIGURATIONS) // 2)


def played(seed: int, *, gain: float, noise: float, drift: float = 0.0, confirm: int | None = None) -> list[Seen]:
    """Search once through all configurations, then confirm. The last one is better by `gain`; `drift` moves all."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    at = 1.0

    def measured(number: int) -> float:
        nonlocal at
        at *= 1 + drift * dice.gauss(0, 1)
        return at * (100 * (1 + gain) if number == CONFIGURATIONS - 1 else 100) * (1 + noise * dice.gauss(0, 1))

    seen = [
        Seen(number=n, state="complete", params={"n": n}, values=(measured(n),), is_baseline=n == 0)
        for n in range(CONFIGURATIONS)
    ]
    while found := policy.confirmation(seen, Limits(confirm=confirm), is_maximised=[True]):
        score = measured(found.repeat_of or 0)
        again = Seen(number=len(seen), state="complete", values=(score,), repeat_of=found.repeat_of, phase=found.phase)
        seen.append(again)
    return seen
