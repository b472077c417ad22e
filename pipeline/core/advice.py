"""What limits a trial, and which knobs could move it: a value, and its words. It is advice, and is marked as such."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from pipeline.core.values import value

Limit = Literal["client", "kv", "queue", "prefill", "bandwidth", "host", "cores", "unknown"]
WORDS: Mapping[Limit, str] = {
    "client": "load generator",
    "kv": "KV cache",
    "queue": "queue",
    "prefill": "prefill",
    "bandwidth": "memory bandwidth",
    "host": "host",
    "cores": "CPU cores",
    "unknown": "",
}
OURS = "give the load generator cores of its own (hardware.cores_per_trial), or measure from another machine"
NOTHING = "no knob of this runtime is known to move that"


@value
class Advice:
    """What limits a trial at one level. `knobs`: what to do with each of them, in words."""

    limit: Limit
    level: str
    because: str  # the numbers
    knobs: Mapping[str, str] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """E.g. `Advice: D(64,16) x16 is limited by queue: 12 of 16 requests waited. Try max_num_seqs (raise it).`."""
        if self.limit == "unknown":
            return f"Advice: what limits {self.level} does not show: {self.because}."
        remedy = self.remedy[:1].upper() + self.remedy[1:]
        return f"Advice: {self.level} is limited by {WORDS[self.limit]}: {self.because}. {remedy}."

    @property
    def short(self) -> str:
        """`limited by queue; advice: try max_num_seqs (raise it)`; empty where nobody knows."""
        return "" if self.limit == "unknown" else f"limited by {WORDS[self.limit]}; advice: {self.remedy}"

    @property
    def remedy(self) -> str:
        """What could help."""
        if self.limit == "client":
            return OURS
        if not self.knobs:
            return NOTHING
        return f"try {', '.join(f'{name} ({what})' for name, what in self.knobs.items())}"
