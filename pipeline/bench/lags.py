"""How late a load generator was, as a histogram that can be added to others. Pure; standard library only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

LEAST_S = 1e-5  # shorter ones are of no matter
PER_DOUBLING = 8  # a quantile is at most 9% too high


@dataclass
class Lags:
    """Counts by length. Keys are words, because JSON has no others."""

    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, *parts: Mapping[str, int]) -> "Lags":
        """All of them together."""
        made = cls()
        for part in parts:
            for key, number in part.items():
                made.counts[key] = made.counts.get(key, 0) + number
        return made

    def add(self, lag_s: float) -> None:
        """One of this length."""
        key = str(math.ceil(math.log2(lag_s / LEAST_S) * PER_DOUBLING)) if lag_s > LEAST_S else "0"
        self.counts[key] = self.counts.get(key, 0) + 1

    def quantile(self, share: float) -> float:
        """The length that this share of them does not exceed, in seconds; 0 where there are none."""
        left = share * sum(self.counts.values())
        for key, number in sorted(self.counts.items(), key=lambda item: int(item[0])):
            left -= number
            if left <= 1e-9:
                return LEAST_S * 2.0 ** (int(key) / PER_DOUBLING) if int(key) else 0.0
        return 0.0
