"""How long a removal may take: the engine's time to stop, then some patience, within the running deadline, if any."""

import math
import signal
import time
from dataclasses import dataclass

RESERVE_S = 2.0  # of a running deadline: for saying what is left


@dataclass
class Patience:
    """`grace_s`: for the engine to stop; `end`: until when its platform is asked, never after `latest`."""

    grace_s: float
    end: float
    latest: float

    @classmethod
    def of(cls, grace_s: float, patience_s: float) -> "Patience":
        """Within the deadline that runs, if one does: the alarm of signals.deadline."""
        alarm_s, _ = signal.getitimer(signal.ITIMER_REAL)
        most_s = max(0.0, alarm_s - RESERVE_S) if alarm_s else math.inf
        grace_s, now = min(grace_s, most_s), time.monotonic()
        return cls(grace_s, now + min(patience_s, most_s - grace_s), now + most_s)

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def extend(self, seconds: float) -> None:
        """The engine's time to stop is not its platform's."""
        self.end = min(self.end + seconds, self.latest)
